"""The man pages explain everything, and nothing that does not exist."""

import argparse
import ast
import itertools
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

import ackd
from ackd import config, protocol
from ackd.config import Config, ConfigError
from ackd.ctl import main as ctl
from ackd.ctl.exit_status import Status
from ackd.ctl.ping.pinger import PingCounts
from ackd.ctl.runs.counts import Counts
from ackd.ctl.status.metrics import METRICS, MetricType
from ackd.records import Kind, Priority
from ackd.server.counters import Counters
from ackd.service import main as daemon
from tests.support.project import PROJECT, defined_tests
from tests.support.readme import README, python_lines

CODE = Path(ackd.__file__).parent
DAEMON = CODE / "service" / "main.py"
MAN = PROJECT / "man"
PAGES = {path.name.removesuffix(".scd"): path.read_text() for path in sorted(MAN.glob("*.scd"))}
SERVER, CLIENT, FILE, FLEET = "ackd.8", "ackctl.1", "ackd.yaml.5", "ackd-fleet.7"
SOURCE = "\n".join(path.read_text() for path in sorted(CODE.rglob("*.py")))
KEYS = [key for key in Config._fields if key != "places"]


def section(page: str, title: str) -> str:
    """Return what stands under a header, down to the next one of the same level."""
    level = title.partition(" ")[0]
    _, found, rest = f"\n{PAGES[page]}".partition(f"\n{title}\n")
    assert found, f"{page} has no {title}"
    return re.split(rf"^{level} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def entries(text: str) -> dict[str, str]:
    """Return the indented texts by the words, in bold, of the lines that they stand under."""
    found: dict[str, str] = {}
    for heads, body in re.findall(r"^(\*.+)\n((?:\n?\t.*\n|\n(?=\t))+)", text, re.MULTILINE):
        for word in re.findall(r"\*(.+?)\*", heads):
            found[word] = found.get(word, "") + body
    return found


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the options of a program and of its commands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options(command)


def returned(path: Path) -> set[int]:
    """Return the numbers that the functions of a module return."""
    tree = ast.walk(ast.parse(path.read_text()))
    values = [node.value for node in tree if isinstance(node, ast.Return)]
    return {v.value for v in values if isinstance(v, ast.Constant) and type(v.value) is int}


def signals(*paths: Path) -> list[str]:
    text = "\n".join(path.read_text() for path in paths)
    return sorted(set(re.findall(r"\bsignal\.(SIG[A-Z0-9]+)\b", text)) - {"SIG_DFL"})


OPTIONS = {SERVER: set(options(daemon.parser())), CLIENT: set(options(ctl.parser()))}
FIELDS = {
    *re.findall(r"ACKD_[A-Z_]+", SOURCE),
    *(f"ACKD_{name.upper()}" for name in vars(Counters())),
}
VARIABLES = {
    *re.findall(r'environ\.get\("(\w+)"', SOURCE),
    *re.findall(r'"(\w+)" (?:not )?in (?:os\.)?environ', SOURCE),
}


def test_there_is_a_page_for_each_program_for_the_file_and_for_the_fleet() -> None:
    assert set(PAGES) == {SERVER, CLIENT, FILE, FLEET}


# Options


@pytest.mark.parametrize(
    ("page", "option"), [(page, o) for page in OPTIONS for o in sorted(OPTIONS[page])]
)
def test_each_option_is_explained(page: str, option: str) -> None:
    assert option in entries(section(page, "# OPTIONS"))


def verbs() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the commands of ackctl."""
    for action in ctl.parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


@pytest.mark.parametrize(("verb", "option"), [(v, o) for v, p in verbs() for o in options(p)])
def test_each_option_of_a_command_is_explained_with_it(verb: str, option: str) -> None:
    parts = re.split(r"^## Of (?:ackctl )?", section(CLIENT, "# OPTIONS"), flags=re.MULTILINE)
    explained = [part for part in parts if part.startswith((f"{verb}\n", "each command"))]
    assert option in entries("".join(explained))


@pytest.mark.parametrize("verb", ctl.VERBS)
def test_each_command_is_in_the_synopsis(verb: str) -> None:
    assert f"*ackctl* *{verb}*" in section(CLIENT, "# SYNOPSIS")


@pytest.mark.parametrize("page", PAGES)
def test_no_option_is_mentioned_that_does_not_exist(page: str) -> None:
    assert set(mentioned(page)) <= {
        (program, option) for program, known in OPTIONS.items() for option in known
    }


# Ours, others in examples, and what ends a command.
_WORD = re.compile(
    r"(?<![\w/.=+-])(?P<ours>ackd|ackctl)(?![\w.@])"
    r"|\b(?P<other>systemctl|journalctl|seal|own-journal|durable|ackd/tls"
    r"|openssl|nc|netcat|jq|tail|mkdir|rm)\b"
    r"|(?<![\w-])(?P<option>-{1,2}[A-Za-z][\w-]*)"
    r"|(?P<end>[*|&;#])"
)


def mentioned(page: str) -> Iterator[tuple[str, str]]:
    """Yield the page of the program whose option is meant, and the option."""
    own = {FILE: SERVER, FLEET: ""}.get(page, page)
    for line in PAGES[page].replace("\\\\\n", "").splitlines():  # commands of several lines too
        program = own
        for match in _WORD.finditer(line):
            if match["ours"] and program:
                program = {"ackd": SERVER, "ackctl": CLIENT}[match["ours"]]
            elif match["other"]:
                program = ""
            elif match["end"]:
                program = own
            elif match["option"] and program:
                yield program, match["option"]


def test_each_option_of_ackd_is_in_its_synopsis() -> None:
    synopsis = section(SERVER, "# SYNOPSIS")
    assert all(f"*{o}*" in synopsis for o in OPTIONS[SERVER] - {"-h", "--help", "--version"})


@pytest.mark.parametrize("option", ["--host", "--port", "--timeout"])
def test_the_defaults_of_ackctl_are_explained(option: str) -> None:
    default = dict(verbs())["send"].get_default(option.removeprefix("--"))
    explained = entries(section(CLIENT, "# OPTIONS"))[option]
    assert re.search(rf"\b[Dd]efault(:|,) {str(default).removesuffix('.0')}[.,]", explained)


def commands() -> Iterator[str]:
    """Yield the commands of ackctl that are shown to be typed."""
    typed = re.findall(r"^ {4}(?:.* )?(ackctl .*)", README, re.MULTILINE)
    examples = re.findall(r"^(?:.* )?(ackctl .*)", section(CLIENT, "# EXAMPLES"), re.MULTILINE)
    helps = [re.findall(r"^  .*?(ackctl .*)", parser.format_help(), re.M) for _, parser in verbs()]
    yield from dict.fromkeys((*typed, *examples, *itertools.chain(*helps)))


@pytest.mark.parametrize("command", list(commands()))
def test_each_command_that_is_shown_can_be_typed(command: str) -> None:
    _, *arguments = shlex.split(re.split(r" [|>&;]|; ", command)[0])
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    if "--since" in arguments and not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    ctl.parser().parse_args(arguments)


def test_the_example_of_the_library_is_the_one_that_is_tested() -> None:
    assert f"\n```\n{python_lines()}```\n" in section(CLIENT, "# LIBRARY")


# Records


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: str(kind.name))
def test_each_kind_of_record_is_explained(kind: Kind) -> None:
    kinds = section(SERVER, "## Kinds of record")
    assert f"\n*{kind.name}* {kind.value}\n\t" in kinds
    assert kinds.count(kind.value) == 1


def test_no_message_id_is_mentioned_that_does_not_exist() -> None:
    explained = set(re.findall(r"\b[0-9a-f]{32}\b", "\n".join(PAGES.values())))
    assert explained == {kind.value for kind in Kind}


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_each_field_is_explained(field: str) -> None:
    assert field in entries(section(SERVER, "# RECORDS"))


def test_no_field_is_mentioned_that_does_not_exist() -> None:
    assert set(re.findall(r"\bACKD_[A-Z_]+\b", "\n".join(PAGES.values()))) == FIELDS


@pytest.mark.parametrize("field", ["MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER"])
def test_each_field_that_is_not_our_own_is_explained(field: str) -> None:
    assert field in entries(section(SERVER, "# RECORDS"))


@pytest.mark.parametrize("priority", [p for p in Priority if p is not Priority.CRITICAL])
def test_each_priority_is_explained(priority: Priority) -> None:
    assert (
        f"{int(priority)} {priority.name.lower()[:4]}"
        in entries(section(SERVER, "# RECORDS"))["PRIORITY"]
    )


# Promises


def test_each_test_that_shows_a_promise_exists() -> None:
    named = set(re.findall(r"_(test_\w+)_\b", section(SERVER, "# DURABILITY")))
    assert named
    assert named <= defined_tests()


# What the world sees of the programs


@pytest.mark.parametrize("status", sorted(returned(DAEMON)))
def test_each_exit_status_of_ackd_is_explained(status: int) -> None:
    assert str(status) in entries(section(SERVER, "# EXIT STATUS"))


@pytest.mark.parametrize("status", list(Status), ids=lambda status: str(status.name))
def test_each_exit_status_of_ackctl_is_explained(status: Status) -> None:
    assert str(int(status)) in entries(section(CLIENT, "# EXIT STATUS"))


@pytest.mark.parametrize(
    ("page", "known"),
    [(SERVER, returned(DAEMON)), (CLIENT, set(map(int, Status)))],
)
def test_no_exit_status_is_explained_that_does_not_exist(page: str, known: set[int]) -> None:
    assert {int(status) for status in entries(section(page, "# EXIT STATUS"))} == known


@pytest.mark.parametrize("signal", signals(CODE / "service" / "service.py"))
def test_each_signal_is_explained(signal: str) -> None:
    assert signal in entries(section(SERVER, "# SIGNALS"))


@pytest.mark.parametrize("signal", signals(*CODE.glob("ctl/**/*.py")))
def test_each_signal_of_ackctl_is_explained(signal: str) -> None:
    assert signal in PAGES[CLIENT]


@pytest.mark.parametrize("variable", sorted(VARIABLES))
def test_each_variable_of_the_environment_is_explained(variable: str) -> None:
    explained = [entries(section(page, "# ENVIRONMENT")) for page in (SERVER, CLIENT)]
    assert any(variable in page for page in explained)


def refusals() -> list[str]:
    """Return the reasons in the lines `not received: REASON` and `not connect: REASON`."""
    lines = section(SERVER, "# THE EXCHANGE").splitlines()
    matches = [re.fullmatch(r"\t?not (?:received|connect): (.+?)(?:\+\+)?", line) for line in lines]
    return [match[1] for match in matches if match]


# All text that the protocol has as constants: the beginnings of lines are bytes.
REASONS = [
    text for name, text in vars(protocol).items() if name.isupper() and isinstance(text, str)
]


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_of_a_refusal_is_shown(reason: str) -> None:
    assert any(reason in shown for shown in refusals())


def test_no_reason_of_a_refusal_is_shown_that_does_not_exist() -> None:
    assert all(any(reason in shown for reason in REASONS) for shown in refusals())


# These calls have the members as keyword arguments.
_MAKE_MEMBERS = ("json_line", "self._print_payload")


def members(module: str) -> set[str]:
    """Return the names of the JSON members that a module of ackctl prints."""
    found = set()
    for node in ast.walk(ast.parse((CODE / "ctl" / f"{module}.py").read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _MAKE_MEMBERS:
            found |= {keyword.arg for keyword in node.keywords if keyword.arg}
        elif isinstance(node, ast.Dict):
            found |= {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}
    assert found
    return found


MEMBERS = {
    "send": members("send/report"),
    "ping": members("ping/report") | PingCounts().by_outcome().keys(),
    "probe": members("probe/report"),
    "bench": members("bench/report") | Counts().by_outcome().keys(),
    "verify": members("journal/verify"),
    "log": members("journal/log"),
}


@pytest.mark.parametrize(("verb", "member"), [(v, m) for v in MEMBERS for m in sorted(MEMBERS[v])])
def test_each_member_of_the_json_of_a_command_is_explained_with_it(verb: str, member: str) -> None:
    send, *others = re.split(r"^## Of ackctl ", section(CLIENT, "# OUTPUT"), flags=re.MULTILINE)
    explained = {"send": send, **{text.partition("\n")[0]: text for text in others}}
    explained["bench"] += explained["ping"]  # "the rest as in the last object of ackctl ping"
    assert re.search(rf'[*"]{member}[*"]', explained[verb])


# Metrics


def test_each_metric_is_explained_and_no_other() -> None:
    ends = {MetricType.SUMMARY: ("", "_count", "_sum")}
    names = {f"{m.name}{end}" for m in METRICS for end in ends.get(m.type, (m.type.value,))}
    explained = section(CLIENT, "# METRICS")
    assert set(re.findall(r"\*(ackd_\w+)\*", explained)) == names | {"ackd_up"}
    assert names - set(entries(explained)) == {
        name for name in names if name.endswith(("_count", "_sum"))
    }


# The file


@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_explained_with_its_default(key: str) -> None:
    explained = entries(section(FILE, "# KEYS"))[key]
    (default,) = re.findall(r"^\tDefault: \*(.+)\*$", explained, re.MULTILINE)
    assert config.parse(f"{key}: {default}".encode(), "") == Config()
    assert len(re.findall(r"^\tReload: ", explained, re.MULTILINE)) == 1


def test_no_key_is_explained_that_does_not_exist() -> None:
    assert list(entries(section(FILE, "# KEYS"))) == KEYS


def ranges() -> Iterator[tuple[str, int, int]]:
    for key, explained in entries(section(FILE, "# KEYS")).items():
        for low, high in re.findall(r"between\s+(\d+)\s+and\s+(\d+)", explained):
            yield key, int(low), int(high)


def test_each_range_is_explained() -> None:
    assert {key for key, *_ in ranges()} == {
        key for key, kind in get_type_hints(Config).items() if kind in (int, float, int | None)
    }


@pytest.mark.parametrize(("key", "low", "high"), list(ranges()))
def test_each_range_is_true(key: str, low: int, high: int) -> None:
    assert (config.check(key, low), config.check(key, high)) == (low, high)
    for outside in (low - 1, high + 1):
        with pytest.raises(config.BadValueError):
            config.check(key, outside)


@pytest.mark.parametrize(
    "example",
    re.findall(r"```\n(.*?)```", section(FILE, "# EXAMPLES"), re.DOTALL),
    ids=lambda text: text.partition(":")[0],
)
def test_each_example_of_a_file_is_good(example: str) -> None:
    assert config.parse(example.encode(), "") != Config()


def test_the_errors_are_those_that_come() -> None:
    explained = section(FILE, "# ERRORS")
    (example,) = re.findall(r"```\n(.*?)```", explained, re.DOTALL)
    with pytest.raises(ConfigError) as caught:
        config.parse(example.encode(), config.DEFAULT_PATH)
    lines = re.findall(r"^\t?(ackd: .*?)(?:\+\+)?$", explained, re.MULTILINE)
    assert lines == [f"ackd: {problem}" for problem in caught.value.problems]


# As it is read


@pytest.mark.skipif(shutil.which("scdoc") is None, reason="needs scdoc: apt-get install scdoc")
@pytest.mark.skipif(shutil.which("man") is None, reason="needs man: apt-get install man-db")
@pytest.mark.parametrize("page", PAGES)
def test_each_page_is_rendered_without_a_warning_and_fits_80_columns(
    page: str, tmp_path: Path
) -> None:
    roff = tmp_path / page
    roff.write_bytes(subprocess.check_output(["scdoc"], input=PAGES[page].encode()))
    environment = {"MANWIDTH": "80", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": "/"}
    man = ["man", "--warnings", "-E", "UTF-8", "-P", "cat", "-l", str(roff)]
    shown = subprocess.run(man, check=True, capture_output=True, text=True, env=environment)
    assert not shown.stderr
    assert not [line for line in shown.stdout.splitlines() if len(line) > 80]
