"""The output of a verb on its two streams."""

import os

import pytest

from ackd.ctl.output.streams import Output


def test_lines_are_seen_at_once() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as end, open(writer, "w") as stream:
        output = Output(stream, None)
        output.print("one", "two")
        assert end.read(100) == b"one\ntwo\n"


def test_a_line_that_is_only_written_waits_for_the_flush() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with open(reader, "rb", buffering=0) as end, open(writer, "w") as stream:
        output = Output(stream, None)
        output.write("one")
        assert end.read(100) is None
        output.flush()
        assert end.read(100) == b"one\n"


def test_nothing_is_printed_for_closed_streams(capfd: pytest.CaptureFixture[str]) -> None:
    output = Output(None, None)
    output.print("one")
    output.write("two")
    output.flush()
    output.warn("three")
    assert capfd.readouterr() == ("", "")


def test_a_sentence_for_the_user_has_the_name_of_the_program(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with open(os.dup(2), "w", buffering=1) as stream:
        Output(None, stream).warn("not reached")
    assert capfd.readouterr() == ("", "ackctl: not reached\n")
