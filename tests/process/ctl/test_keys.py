"""Runs with a key: the option --key of the commands that send a run, and of `ackctl verify`."""

from pathlib import Path

import pytest

from ackd.ctl.runs.payloads import Run, parse
from tests.conftest import StartDaemon
from tests.support.ackctl_process import ackctl

KEY = b"0123456789abcdef"
SENDING = {
    "ping": ("--count", "2", "--interval", "0.01"),
    "bench": ("--seconds", "0.1"),
    "probe": (),
}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    return path


@pytest.mark.parametrize("verb", SENDING)
def test_each_payload_of_a_run_with_a_key_has_an_hmac(
    verb: str, key: Path, start: StartDaemon
) -> None:
    ackd = start()
    options = ("--port", str(ackd.port), "--name", "night", "--key", str(key))
    status, _, complaint = ackctl(verb, *options, *SENDING[verb])
    assert (status, complaint) == (0, "")
    first, second = ackd.journal.payloads(2)
    run = Run("night", KEY)
    assert [parse(payload, KEY) for payload in (first, second)] == [
        parse(payload, KEY)
        for payload in (run.payload(1), run.end(1) if verb == "probe" else run.payload(2))
    ]
    assert b"hmac=" in first


WRONG = {
    "of 15 bytes": KEY[1:] + b"\n",
    "of line ends": b"\n" * 100,
    "of 4097 bytes": b"k" * 4097,
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG.keys())
def test_a_file_that_is_no_key_is_reported(content: bytes, key: Path) -> None:
    key.write_bytes(content)
    status, out, err = ackctl("verify", "night", "--key", str(key))
    assert (status, out) == (2, "")
    reason = f"{str(key)!r} does not hold a key of 16 to 4096 bytes"
    assert err.endswith(f"error: argument --key: {reason}\n")


@pytest.mark.parametrize("verb", ["verify", *SENDING])
def test_a_key_that_can_not_be_read_is_reported(verb: str, tmp_path: Path) -> None:
    run = ("night",) if verb == "verify" else ()
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file")):
        status, out, err = ackctl(verb, *run, "--key", str(path))
        assert (status, out) == (2, "")
        assert f"error: argument --key: {str(path)!r} can't be read: {reason}" in err
