"""Connections from the client host to the machine, as sockets of the test."""

import socket
import sys

from tests.support.peer import GREETING, Peer

from .machine import MACHINE_ADDRESS, Machine

# A socket stays in the network namespace in which it was created, network_namespaces(7). So a
# process on the client host connects, and sends the descriptor to the test.
_CONNECT = """
import socket, sys
channel = socket.socket(fileno=0)
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
socket.send_fds(channel, [b"+"], [client.fileno()])
"""


def connect(machine: Machine, address: str = MACHINE_ADDRESS, port: int = 10008) -> Peer:
    """Return a connection from the client host to the machine."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = (sys.executable, "-c", _CONNECT, address, str(port))
        with machine.client.popen(*command, stdin=theirs.fileno()) as process:
            theirs.close()
            _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
            process.wait()
    return Peer.over(socket.socket(fileno=descriptor))


def greeted(machine: Machine, port: int = 10008) -> Peer:
    """Return a connection from the client host on which the greeting has been read."""
    peer = connect(machine, port=port)
    peer.expect(GREETING)
    return peer
