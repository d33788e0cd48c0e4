"""Twisted with a protocol."""

import socket

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor  # noqa: E402 - the reactor installed above
from twisted.internet.interfaces import IHalfCloseableProtocol  # noqa: E402
from twisted.internet.protocol import Factory, Protocol  # noqa: E402
from zope.interface import implementer  # noqa: E402

from .exchange import GREETING, Lines, listener  # noqa: E402


@implementer(IHalfCloseableProtocol)  # otherwise Twisted does not report EOF
class Exchange(Protocol):
    """The exchange with one client."""

    def connectionMade(self) -> None:  # noqa: N802
        self.lines = Lines()
        self.transport.write(GREETING)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.transport.write(self.lines.receive_data(data))

    def readConnectionLost(self) -> None:  # noqa: N802 - IHalfCloseableProtocol
        self.transport.write(self.lines.receive_eof())
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Nothing is left to do."""


if __name__ == "__main__":
    opened = listener()
    opened.setblocking(False)
    reactor.adoptStreamPort(opened.fileno(), socket.AF_INET, Factory.forProtocol(Exchange))
    reactor.run()
