"""The status line of an `ackctl` whose output has lost its reader."""

from pathlib import Path

from tests.support.ackctl_terminal import Terminal
from tests.support.fake_server import FakeServer
from tests.support.peer import ACK, GREETING
from tests.support.screen import CLEAR


def test_a_reader_that_has_gone_leaves_a_clean_terminal(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b"one\ntwo\n")
    into_head = ("sh", "-c", '"$@" | head -1', "sh")
    with (
        FakeServer() as server,
        Terminal(
            "send", "--port", str(server.port), "--file", str(lines), before=into_head
        ) as terminal,
        server.accept() as caller,
    ):
        caller.send(GREETING)
        caller.expect(lines.read_bytes())
        caller.send(ACK)
        shown = terminal.read_to("1 acknowledged")
        caller.send(ACK)
        caller.expect_end()
        _, rest = terminal.ended()
    assert (shown + rest).endswith(CLEAR)
