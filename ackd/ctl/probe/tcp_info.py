"""What the kernel knows about a TCP connection."""

import fcntl
import socket
import sys
import termios
from dataclasses import dataclass

# Where struct tcp_info of linux/tcp.h has tcpi_options, of which TCPI_OPT_TIMESTAMPS is a bit, and
# numbers of 32 bits.
_OPTIONS, _TIMESTAMPS = 5, 1
_UNACKED, _LAST_ACK_RECV, _PMTU, _TOTAL_RETRANS, _SEGS_OUT, _DSACK_DUPS = 24, 56, 60, 100, 136, 216


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """The state of a connection at one moment.

    `unconfirmed` is how many bytes the peer's kernel has not confirmed (SIOCOUTQ, tcp(7)).
    `packets_unconfirmed` counts the packets in flight. `unconfirmed` bytes without such packets
    wait for a peer that does not read. `confirmed_ago` is in seconds; `mtu` and `segment` (the data
    of a full packet) are in bytes. `sent_again` includes `received_twice`.
    """

    unconfirmed: int
    packets_unconfirmed: int
    confirmed_ago: float
    mtu: int
    segment: int
    timestamps: bool
    packets_sent: int
    sent_again: int
    received_twice: int


def read_tcp_info(sock: socket.socket) -> TcpInfo:
    """Return the state of a connected TCP socket."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _DSACK_DUPS + 4)

    def number(offset: int) -> int:
        return int.from_bytes(info[offset : offset + 4], sys.byteorder)

    return TcpInfo(
        unconfirmed=int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder),
        packets_unconfirmed=number(_UNACKED),
        confirmed_ago=number(_LAST_ACK_RECV) / 1000,
        mtu=number(_PMTU),
        segment=sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG),
        timestamps=bool(info[_OPTIONS] & _TIMESTAMPS),
        packets_sent=number(_SEGS_OUT),
        sent_again=number(_TOTAL_RETRANS),
        received_twice=number(_DSACK_DUPS),
    )
