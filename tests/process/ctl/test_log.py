"""`ackctl log` without a journal; tests with journals: tests/system/test_ctl_journal.py."""

import pytest

from tests.support.ackctl_process import ackctl

WRONG = {
    ("--lines", "ten"): "argument -n/--lines: 'ten' is not a whole number",
    ("--lines", "-1"): "argument -n/--lines: '-1' is not a whole number",
    ("--lines", "9" * 20): f"argument -n/--lines: '{'9' * 20}' is not a whole number",
    ("--peer", "localhost"): "argument --peer: 'localhost' is not an IPv4 or IPv6 address",
    ("--peer", "192.0.2.0/24"): "argument --peer: '192.0.2.0/24' is not an IPv4 or IPv6 address",
    ("everything",): "unrecognized arguments: everything",
}


@pytest.mark.parametrize(("arguments", "complaint"), WRONG.items())
def test_wrong_usage_is_explained(arguments: tuple[str, ...], complaint: str) -> None:
    status, out, err = ackctl("log", *arguments)
    assert (status, out) == (2, "")
    assert err.endswith(f"error: {complaint}\n")
