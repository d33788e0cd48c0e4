#!/usr/bin/python3
"""Generate completions for bash and zsh from the argument parsers.

    packaging/completions.py DIRECTORY

The script writes DIRECTORY/bash/ackctl for /usr/share/bash-completion/completions, and
DIRECTORY/zsh/_ackctl for /usr/share/zsh/vendor-completions; the same for ackd. It needs shtab,
Debian's python3-shtab.
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
# The metavars of arguments that name a file, and of those that name a directory.
FILES = ("FILE", "F", "SOCKET")
DIRECTORIES = ("DIR",)


def main() -> int:
    """Write the files. Return the exit status: 0, or 2 for a usage error."""
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
                if action.metavar in DIRECTORIES:
                    action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
            (directory / f"{prefix}{parser.prog}").write_text(shtab.complete(parser, shell))
    return 0


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield all options and arguments, including those of the commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions(command)


if __name__ == "__main__":
    sys.exit(main())
