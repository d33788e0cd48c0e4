"""The completions, as bash and zsh use them."""

import os
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from time import monotonic

import pytest

from ackd.ctl.main import VERBS
from tests.support.project import PROJECT

pytest.importorskip("shtab", reason="completions are made with shtab, which is not installed")

SCRIPT = PROJECT / "packaging" / "completions.py"
CONNECTING = (
    *("-h", "--help", "--host", "--port", "--timeout", "-4", "-6", "--source", "--no-greeting"),
    *("--tls", "--ca", "--cert", "--cert-key", "--server-name"),
)
OPTIONS = {
    "ackctl": {"-h", "--help", "--version"},
    "ackctl send": {
        *CONNECTING,
        *("-v", "--verbose", "-q", "--quiet", "--json", "--file", "--retry"),
    },
    "ackctl ping": {
        *CONNECTING,
        *("--interval", "--count", "--duration", "--parallel"),
        *("--size", "--name", "--key", "--json"),
    },
    "ackctl check": {*CONNECTING, "--warn", "--critical"},
    "ackctl bench": {
        *CONNECTING,
        *("--clients", "--depth", "--size", "--seconds", "--plot", "--name", "--key", "--json"),
    },
    "ackctl verify": {
        "-h",
        "--help",
        "--since",
        "--namespace",
        "--directory",
        "--unit",
        "--key",
        "--json",
    },
    "ackctl log": {
        *("-h", "--help", "-f", "--follow", "-n", "--lines", "--peer", "--no-runs"),
        *("--since", "--namespace", "--directory", "--unit", "--json"),
    },
}
needs_zsh = pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory in which completions have been made."""
    directory = tmp_path_factory.mktemp("completions")
    subprocess.run([sys.executable, SCRIPT, directory], check=True)
    return directory


def completed(made: Path, line: str, where: Path | None = None) -> set[str]:
    """Return what a real bash offers at the end of a line."""
    words = line.split(" ")
    script = f"""
        source "$1/{words[0]}"
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        function=$(complete -p "$1"); function=${{function##*-F }}
        ${{function% *}}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    bash = ["bash", "--norc", "-c", script, "bash", str(made / "bash"), *words]
    found = subprocess.run(bash, check=True, capture_output=True, text=True, cwd=where)
    assert not found.stderr
    return set(found.stdout.splitlines()) - {""}


@pytest.mark.parametrize("program", ["ackd", "ackctl"])
def test_bash_knows_the_completion_once_its_file_is_read(made: Path, program: str) -> None:
    script = 'source "$1"; complete -p "$2"'
    bash = ["bash", "--norc", "-ec", script, "bash", str(made / "bash" / program), program]
    shown = subprocess.check_output(bash, text=True)
    assert shown.rstrip().endswith(f" {program}")


@pytest.mark.skipif(
    version("shtab").startswith("1.5."), reason="shtab 1.5 completes only the first one in bash"
)
def test_bash_completes_the_commands(made: Path) -> None:
    assert completed(made, "ackctl ") == set(VERBS)


@pytest.mark.parametrize("line", OPTIONS)
def test_bash_completes_the_options_of_each_command(made: Path, line: str) -> None:
    assert completed(made, f"{line} -") == OPTIONS[line]
    assert completed(made, f"{line} --") == {o for o in OPTIONS[line] if o.startswith("--")}


def test_bash_completes_the_options_of_the_daemon(made: Path) -> None:
    assert completed(made, "ackd --p") == {"--port", "--pidfile"}


@pytest.mark.parametrize(
    "line",
    [
        "ackctl send --file ",
        "ackctl bench --plot ",
        "ackctl verify --key ",
        "ackctl send --ca ",
        "ackctl ping --cert ",
        "ackctl probe --cert-key ",
        "ackd --config ",
        "ackd --journal ",
        "ackd --debug --pidfile ",
    ],
)
def test_bash_completes_files_where_a_file_is_named(made: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "readings.txt").touch()
    assert completed(made, f"{line}read", where=tmp_path) == {"readings.txt"}


def test_bash_completes_no_files_where_none_is_named(made: Path, tmp_path: Path) -> None:
    (tmp_path / "readings.txt").touch()
    assert not completed(made, "ackctl send --host read", where=tmp_path)


def test_completions_are_the_same_bytes_each_time(made: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "1", "LC_ALL": "C", "COLUMNS": "40"}
    subprocess.run([sys.executable, SCRIPT, tmp_path], check=True, env=environment)
    for path in made.glob("*/*"):
        assert (tmp_path / path.relative_to(made)).read_bytes() == path.read_bytes()


@needs_zsh
@pytest.mark.parametrize("program", ["ackd", "ackctl"])
def test_zsh_can_parse_the_completions(made: Path, program: str) -> None:
    subprocess.run(["zsh", "-n", made / "zsh" / f"_{program}"], check=True)


class Zsh:
    """An interactive zsh with our completions."""

    def __init__(self, made: Path, where: Path) -> None:
        pid, self._terminal = pty.fork()
        if not pid:
            os.chdir(where)
            os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "PS1": "ready> "})
        self._pid = pid
        self.type(f"fpath=({made / 'zsh'} $fpath); autoload -U compinit; compinit -u -D\n")
        self.type("setopt nolistambiguous; echo set 'up'\n")
        self.expect("set up")

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._terminal, keys.encode())

    def expect(self, *words: str) -> None:
        """Read what is shown until all the words have come."""
        shown, deadline = "", monotonic() + 30
        while not all(word in shown for word in words):
            readable, _, _ = select.select([self._terminal], [], [], deadline - monotonic())
            assert readable, f"{words} not in {shown!r}"
            shown += os.read(self._terminal, 65536).decode(errors="replace")

    def end(self) -> None:
        """Hang up."""
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


@pytest.fixture
def zsh(made: Path, tmp_path: Path) -> Iterator[Zsh]:
    """Return a zsh that works in `tmp_path`."""
    zsh = Zsh(made, tmp_path)
    yield zsh
    zsh.end()


@needs_zsh
def test_zsh_completes_the_options_of_each_command(zsh: Zsh) -> None:
    zsh.type("ackctl send --\t")
    zsh.expect(*(option for option in OPTIONS["ackctl send"] if option.startswith("--")))


@needs_zsh
def test_zsh_completes_the_options_of_the_daemon(zsh: Zsh) -> None:
    zsh.type("ackd --pid\t")
    zsh.expect("--pidfile")


@needs_zsh
def test_zsh_completes_an_option_after_a_payload(zsh: Zsh) -> None:
    zsh.type("ackctl send hello --ti\t")
    zsh.expect("--timeout")


@needs_zsh
def test_zsh_completes_files_where_a_file_is_named(zsh: Zsh, tmp_path: Path) -> None:
    (tmp_path / "readings.txt").touch()
    zsh.type("ackctl send --file rea\t")
    zsh.expect("readings.txt")
