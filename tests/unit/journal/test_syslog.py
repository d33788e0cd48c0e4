"""Records as lines for a syslog daemon, RFC 3164."""

import os
import re
from datetime import datetime

import pytest

from ackd.journal.syslog import SyslogFormat
from ackd.records import Kind, Origin, Priority, Record

ORIGIN = Origin("192.168.150.2", 40321, "192.168.150.1:10008", "00c0ffee-1")
# Facility daemon, and the time as syslog(3) writes it: the day takes two columns.
HEAD = re.compile(r"<(\d+)>([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) ackd\[(\d+)\]: (.*)", re.DOTALL)


def payload(data: bytes) -> tuple[int, str]:
    form = SyslogFormat()
    return parts(form.payload(form.prefix(ORIGIN), 7, data))


def parts(line: bytes) -> tuple[int, str]:
    """Check the form of a line; return its priority and its text."""
    match = HEAD.fullmatch(line.decode())
    assert match, line
    datetime.strptime(f"2008 {match[2]}", "%Y %b %d %H:%M:%S")
    assert int(match[3]) == os.getpid()
    return int(match[1]), match[4]


def test_a_payload_is_a_line_with_peer_connection_and_number() -> None:
    assert payload(b"this data will send to server!") == (
        30,  # daemon.info
        "192.168.150.2 port 40321 00c0ffee-1 #7 Buffer: this data will send to server!",
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"x\n<0>forged", "x\\n<0>forged"),
        (b"\x1b[31m\0\xff", "\\x1b[31m\\x00\\xff"),
        ("Grüß Gott".encode(), "Grüß Gott"),
        (b"", ""),
    ],
)
def test_a_payload_stays_one_line_of_text(data: bytes, text: str) -> None:
    assert payload(data)[1] == f"192.168.150.2 port 40321 00c0ffee-1 #7 Buffer: {text}"


@pytest.mark.parametrize(
    ("priority", "number"),
    [
        (Priority.CRITICAL, 26),
        (Priority.ERROR, 27),
        (Priority.WARNING, 28),
        (Priority.INFO, 30),
        (Priority.DEBUG, 31),
    ],
)
def test_a_record_has_the_severity_of_its_priority(priority: Priority, number: int) -> None:
    record = Record(Kind.LOG, priority, "listening on 127.0.0.1:10008")
    line = SyslogFormat().record(record)
    assert parts(line) == (number, "listening on 127.0.0.1:10008")


def test_a_record_about_a_connection_names_it() -> None:
    record = Record(Kind.CONNECTED, Priority.INFO, "socket connected", ORIGIN)
    assert parts(SyslogFormat().record(record)) == (
        30,
        "192.168.150.2 port 40321 00c0ffee-1 socket connected",
    )


def test_a_message_stays_one_line_of_text() -> None:
    record = Record(Kind.LOG, Priority.ERROR, "/etc/\udcff\x1b.yaml\n<0>forged")
    assert parts(SyslogFormat().record(record))[1] == "/etc/\\\\udcff\\x1b.yaml\\n<0>forged"


@pytest.mark.parametrize("data", [b"", b"\xff" * 65536, b"\0" * 131072, "\u202e".encode() * 1000])
def test_no_record_of_a_payload_exceeds_the_longest(data: bytes) -> None:
    form = SyslogFormat()
    line = form.payload(form.prefix(ORIGIN), 2**64, data)
    assert len(line) <= form.longest(len(data))
