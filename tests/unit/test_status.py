"""The report of a running ackd: what one version writes, another can read."""

import json
from dataclasses import replace

import pytest

from ackd.status import (
    CertificateStatus,
    Clients,
    ClientStatus,
    Counted,
    DaemonStatus,
    Durations,
    JournalStatus,
    LogStatus,
    Payloads,
    Rates,
    StatusError,
    from_json,
    to_json,
)

BUSY = ClientStatus("192.0.2.1", 3, 100, 2, 4000)
WAITS = Durations(12, 0.5, 300.0, 4, 0.001, 0.002, 0.25, 0.25)
STATUS = DaemonStatus(
    version="1.2",
    unit="ackd.service",
    pid=42,
    time=1.8e9,
    started=1.7e9,
    running=1e8,
    troubles=("the disk is full",),
    notes=("waits",),
    listeners=("127.0.0.1:10008", "[::1]:10008"),
    clients=Clients(3, 7, 4096, 1, 900, 2, (Counted("not allowed", 2),), (BUSY,), (BUSY,)),
    payloads=Payloads(100, 2, (Counted("the disk is full", 2),), 4000),
    rates=Rates(5.0, 20.0, 0.4, 800.0, 1.0),
    journal=JournalStatus("the journal", "journald", False, "refused", "level", 5, 1, WAITS),
    log=LogStatus("/var/lib/ackd", True, 9, 8, 7, 6, 5, 4096, 8192),
    commits=WAITS,
    certificates=(CertificateStatus("ackd.example.org", 1.6e9, 1.9e9),),
)


def changed(**members: object) -> bytes:
    return json.dumps({**json.loads(to_json(STATUS)), **members}).encode() + b"\n"


def test_a_report_is_read_as_it_was_written() -> None:
    assert from_json(to_json(STATUS)) == STATUS
    assert to_json(STATUS).count(b"\n") == 1


def test_members_of_a_later_version_are_ignored() -> None:
    journal = {**json.loads(to_json(STATUS))["journal"], "compressed": {"by": [1, 2]}}
    assert from_json(changed(weather="fine", journal=journal)) == STATUS


def test_members_that_an_earlier_version_lacks_have_their_default() -> None:
    assert from_json(b'{"form": 1, "version": "1.2"}\n') == DaemonStatus(version="1.2")
    expected = replace(STATUS, clients=Clients(connected=3))
    assert from_json(changed(clients={"connected": 3})) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"hello\n",
        b"\xff\n",
        b"[]\n",
        b"{}\n",
        b"[" * 100_000 + b"\n",
        changed(form="1"),
        changed(pid="42"),
        changed(pid=True),
        changed(time=float("nan")),
        changed(running=float("inf")),
        changed(running=10**400),
        changed(clients=3),
        changed(clients={"by_payloads": [3]}),
        changed(troubles="the disk is full"),
        changed(troubles=[1]),
        changed(certificates={}),
    ],
    ids=range(16),
)
def test_what_is_no_report_is_an_error(line: bytes) -> None:
    with pytest.raises(StatusError):
        from_json(line)


def test_a_report_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(StatusError, match="not whole"):
        from_json(to_json(STATUS)[:-1])


def test_a_report_with_another_meaning_is_an_error() -> None:
    with pytest.raises(StatusError, match="form is 2"):
        from_json(changed(form=2))
