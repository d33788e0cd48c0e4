"""The events that a handshake waits for, where the kernel has little room for ackd's messages."""

import select
import ssl
from contextlib import suppress
from pathlib import Path

from ackd.loop import READABLE, WRITABLE
from ackd.records import Origin
from ackd.server.tls import Tls
from tests.support.certificates import Authority, needs_openssl
from tests.support.tls import client_context, server_context, tcp_pair

ORIGIN = Origin("192.168.150.2", 40321, "192.168.150.1:10008", "00c0ffee-1")


@needs_openssl
def test_a_handshake_waits_for_room_and_then_for_the_client(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    names = ",".join(f"DNS:{number:060d}.example.org" for number in range(600))
    tls = Tls(server_context(authority.issue("ackd", names=names)), (), 10)
    with tcp_pair(buffers=4096) as (raw, server):
        handshake = tls.begin(server, ORIGIN)
        raw.setblocking(False)
        with client_context(authority).wrap_socket(raw, do_handshake_on_connect=False) as client:
            events = []
            finished = False
            while not finished:
                with suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                events.append(handshake.events)
                readable = handshake.events == READABLE
                reading, writing = ([server], []) if readable else ([], [server])
                if any(select.select(reading, writing, [], 0.01)):
                    try:
                        finished = handshake.go_on()
                    except BlockingIOError:  # there is room at once: it would spin
                        assert handshake.events == READABLE
            assert WRITABLE in events
            assert len(events) < 2000  # it does not spin
            assert dict(handshake.origin.facts)["ACKD_TLS_VERSION"] == "TLSv1.3"
