"""What `ackctl verify` shows: the status line, and the report of hostile payloads."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from ackd.ctl.exit_status import Status
from ackd.ctl.journal.entries import RecordedPayload
from ackd.ctl.journal.verify import RunFound, json_report, report
from ackd.ctl.output.status_line import StatusLine
from ackd.ctl.runs.payloads import Run
from tests.support.screen import CLEAR, Screen

TIME = datetime(2026, 11, 25, 15, 18).astimezone()


def microseconds(time: datetime) -> int:
    return int(time.timestamp() * 1e6)


RECORDED = RecordedPayload(
    *(microseconds(TIME), "192.0.2.1", 1, "192.0.2.2:10008", "a", 1, b"hello"),
    *(False, False, "", "ackd.service", None),
)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(columns=80)
    yield screen
    screen.stream.close()


def read(payloads: int, screen: Screen) -> str:
    """Return what a terminal shows while so many payloads are read."""
    with StatusLine(screen.stream) as line:
        RunFound(Run("1a2b3c4d")).add_all([RECORDED] * payloads, line)
    return screen.read()


def test_a_terminal_shows_how_many_payloads_are_read(screen: Screen) -> None:
    shown = read(100_000, screen)
    assert "100,000 payloads read, up to 2026-11-25 15:18" in shown
    assert shown.endswith(CLEAR)  # the line is removed


def test_a_short_journal_shows_nothing(screen: Screen) -> None:
    assert read(49_999, screen) == ""


RUN = Run("1a2b3c4d")


def found(*payloads: bytes, peer: str = "192.0.2.1", run: Run = RUN) -> RunFound:
    """Return what is found of a run in a journal of these payloads."""
    found = RunFound(run)
    for recorded in connection(*payloads, peer=peer):
        found.add(recorded)
    return found


def connection(
    *payloads: bytes, peer: str = "192.0.2.1", name: str = "a"
) -> Iterator[RecordedPayload]:
    """Yield the payloads of a connection as they are recorded."""
    for number, payload in enumerate(payloads, 1):
        yield RECORDED._replace(payload=payload, sequence=number, peer=peer, connection=name)


def members(found: RunFound, *names: str) -> list[object]:
    (line,) = json_report(found, Status.NOT_WHOLE)
    return [json.loads(line)[name] for name in names]


def test_a_run_arrives_as_long_as_each_reading_finds_more_of_it(screen: Screen) -> None:
    run = RunFound(RUN)
    first, second = connection(RUN.payload(1), RUN.payload(2))
    other = RECORDED._replace(microseconds=microseconds(TIME + timedelta(seconds=2)))
    for payloads, arriving in (
        ([first], True),
        ([], False),
        ([other], False),
        ([second._replace(microseconds=microseconds(TIME + timedelta(seconds=3)))], True),
    ):
        with StatusLine(screen.stream) as line:
            run.add_all(payloads, line)
        assert run.arriving is arriving


HIGHEST = 10**18 - 1


def test_the_highest_number_of_all_is_reported_as_one_number() -> None:
    hostile = found(RUN.payload(1), RUN.end(1), RUN.payload(HIGHEST))
    assert list(report(hostile))[2:] == [
        "      1  sent",
        "      2  recorded",
        "      0  missing",
        "      0  twice",
        "      0  out of order",
        "      0  altered",
        f"      1  beyond the end: {HIGHEST}: is it one run?",
    ]
    assert members(hostile, "missing", "beyond_numbers") == [0, [[HIGHEST, HIGHEST]]]


@pytest.mark.parametrize("last", [RUN.payload(HIGHEST), RUN.end(HIGHEST)])
def test_missing_numbers_without_bounds_are_reported(last: bytes) -> None:
    hostile = found(RUN.payload(1), last)
    assert any("missing: 2-99999999999999999" in line for line in report(hostile))
    assert members(hostile, "highest", "recorded") in ([1, 1], [HIGHEST, 2])


def test_only_the_first_missing_numbers_are_shown() -> None:
    hostile = found(*(RUN.payload(number) for number in range(2, 42, 2)), RUN.end(40))
    (line,) = [line for line in report(hostile) if "missing" in line]
    assert line == "     20  missing: 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, ..."


def test_several_senders_are_reported_with_the_numbers_of_each() -> None:
    audited = found(RUN.payload(1), RUN.payload(2), RUN.payload(4), RUN.end(4))
    for recorded in connection(RUN.payload(3), peer="192.0.2.9", name="b"):
        audited.add(recorded)
    assert audited.audit.whole
    verdict, _, *rows = report(audited)
    assert verdict == "run 1a2b3c4d: whole"
    assert rows[-1] == "      2  senders: 192.0.2.1 sent 3: 1-2, 4; 192.0.2.9 sent 1: 3"
    assert members(audited, "senders") == [
        [
            {"peer": "192.0.2.1", "recorded": 3, "numbers": [[1, 2], [4, 4]]},
            {"peer": "192.0.2.9", "recorded": 1, "numbers": [[3, 3]]},
        ]
    ]


def test_only_the_first_senders_are_shown() -> None:
    audited = found(RUN.payload(1))
    for host in range(1, 21):
        peer = f"192.0.2.{100 + host}"
        for recorded in connection(RUN.payload(host), peer=peer, name=peer):
            audited.add(recorded)
    *_, row = report(audited)
    assert row.startswith("     21  senders: 192.0.2.1 sent 1: 1; ")
    assert row.endswith("; 192.0.2.109 sent 1: 9 and 11 more")


def test_one_sender_has_no_line_of_its_own() -> None:
    assert not any("sender" in line for line in report(found(RUN.payload(1), RUN.end(1))))


KEYED = Run(RUN.name, b"0123456789abcdef")


def test_payloads_with_a_key_are_reported_where_the_key_is_not_given() -> None:
    audited = found(KEYED.payload(1), KEYED.end(1))
    assert list(report(audited))[-1] == ("      2  made with a key, which is not given; see --key")
    assert members(audited, "keyed", "altered", "unproven") == [2, 2, 0]


def test_payloads_without_the_key_are_reported() -> None:
    audited = found(RUN.payload(1), RUN.end(1), run=KEYED)
    assert list(report(audited)) == [
        "run 1a2b3c4d: not whole: there is nothing of it in the journal",
        "      2  made without this key, and not counted above",
    ]
    assert members(audited, "unproven", "peers", "keyed") == [2, [], 0]


def later(days: int, *payloads: bytes) -> Iterator[RecordedPayload]:
    """Yield the payloads of a connection some days later."""
    for recorded in connection(*payloads, name=f"day {days}"):
        yield recorded._replace(microseconds=microseconds(TIME + timedelta(days=days)))


def test_a_name_that_was_used_on_two_nights_is_reported_with_both_times() -> None:
    audited = found(RUN.payload(1), RUN.payload(2), RUN.end(2))
    for recorded in later(1, RUN.payload(1), RUN.end(1)):
        audited.add(recorded)
    assert list(report(audited))[-1] == (
        "      2  runs have this name, begun at 2026-11-25 15:18:00, 2026-11-26 15:18:00;"
        " see --since"
    )
    assert members(audited, "runs", "twice_numbers") == [2, [[1, 1]]]
    assert len(json.loads(next(json_report(audited, Status.NOT_WHOLE)))["begun"]) == 2


def test_a_name_is_used_again_also_without_the_first_payload_of_one_run() -> None:
    audited = found(RUN.payload(2), RUN.end(2))
    for recorded in later(1, RUN.payload(1), RUN.end(1)):
        audited.add(recorded)
    assert members(audited, "runs") == [2]


def test_a_payload_that_is_there_twice_makes_no_second_run() -> None:
    audited = found(RUN.payload(1), RUN.payload(1), RUN.end(1), RUN.end(1))
    assert members(audited, "runs", "twice") == [1, 1]
    assert not any("this name" in line for line in report(audited))


def test_the_time_since_which_there_is_nothing_is_reported() -> None:
    nothing = RunFound(RUN, TIME.timestamp())
    assert list(report(nothing)) == [
        "run 1a2b3c4d: not whole: there is nothing of it in the journal since 2026-11-25 15:18:00"
    ]
