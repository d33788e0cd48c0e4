#!/usr/bin/python3
"""Write completions for bash and zsh, made from the argument parsers, into a directory.

    packaging/completions.py DIRECTORY

DIRECTORY/bash/ackctl belongs into /usr/share/bash-completion/completions, DIRECTORY/zsh/_ackctl
into /usr/share/zsh/vendor-completions; ackd's likewise. Needs shtab, Debian's python3-shtab.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import shtab

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ackd.ctl import main as client
from ackd.service import main as daemon

PARSERS = (daemon.parser, client.parser)
# What an argument that names a file is called in the usage.
FILES = ("FILE", "F", "SOCKET")


def main() -> int:
    """Write the files; return the exit status."""
    if len(sys.argv) != 2:
        print(f"usage: {sys.argv[0]} DIRECTORY", file=sys.stderr)
        return 2
    for shell, prefix in (("bash", ""), ("zsh", "_")):
        directory = Path(sys.argv[1], shell)
        directory.mkdir(parents=True, exist_ok=True)
        for make_parser in PARSERS:
            parser = make_parser()
            for action in actions(parser):
                if action.metavar in FILES:
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
            (directory / f"{prefix}{parser.prog}").write_text(shtab.complete(parser, shell))
    return 0


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield all options and arguments, those of the commands as well."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions(command)


if __name__ == "__main__":
    sys.exit(main())
