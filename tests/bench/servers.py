"""The servers that are measured, and how each is started."""

from collections.abc import Callable
from dataclasses import dataclass

PYTHON_SERVERS = {
    "asyncio": "asyncio_protocol",
    "asyncio streams": "asyncio_streams",
    "uvloop": "uvloop_protocol",
    "Twisted": "twisted_protocol",
    "gevent": "gevent_sockets",
    "threads": "threads",
}


@dataclass(frozen=True)
class Site:
    """Where things are in the place in which a server is started."""

    python: str
    ackd: tuple[str, ...]
    config: str
    reference: str
    port: int

    def settings(self, more: str) -> str:
        """Return the text of a configuration that lets 10,000 clients in."""
        return (
            f"bind: 127.0.0.1\nport: {self.port}\n"
            f"max_connections: 15000\nmax_connections_per_client: null\n{more}\n"
        )


@dataclass(frozen=True)
class Server:
    """One of them; `settings` is for ackd, what its configuration has besides."""

    name: str
    command: Callable[[Site], tuple[str, ...]]
    settings: str = ""
    ackd: bool = False


def _ackd(name: str, settings: str) -> Server:
    def command(site: Site) -> tuple[str, ...]:
        return (*site.ackd, "--config", site.config)

    return Server(name, command, settings, ackd=True)


def _python(name: str, module: str) -> Server:
    def command(site: Site) -> tuple[str, ...]:
        return (site.python, "-m", f"tests.bench.competitors.{module}", str(site.port))

    return Server(name, command)


C = Server("C", lambda site: (site.reference, str(site.port)))
C_RECORDING = Server("C", lambda site: (site.reference, "--journal", str(site.port)))
# The default, so that it can be measured whatever the others are called.
ACKD = _ackd("ackd", "")
ACKD_BATCH = _ackd("ackd, record: batch", "record: batch")
ACKD_NONE = _ackd("ackd, record: none", "record: none")
COMPETITORS = tuple(_python(name, module) for name, module in PYTHON_SERVERS.items())
