"""The servers that are measured, and the command of each."""

from collections.abc import Callable
from dataclasses import dataclass, replace

PYTHON_SERVERS = {
    "asyncio": "asyncio_protocol",
    "asyncio streams": "asyncio_streams",
    "uvloop": "uvloop_protocol",
    "Twisted": "twisted_protocol",
    "gevent": "gevent_sockets",
    "threads": "threads",
}


@dataclass(frozen=True)
class Paths:
    """The programs and files in the place where a server starts, and the port that it listens on.

    `ackd` and `ackd_before` are commands: the ackd of this checkout and that of `--before`.
    """

    python: str
    ackd: tuple[str, ...]
    ackd_before: tuple[str, ...]
    config: str
    reference: str
    port: int

    def settings(self, more: str) -> str:
        """Return the text of a configuration that admits 10,000 clients."""
        return (
            f"bind: 127.0.0.1\nport: {self.port}\n"
            f"max_connections: 15000\nmax_connections_per_client: null\n{more}\n"
        )


@dataclass(frozen=True)
class Server:
    """One server; `settings` are lines for the configuration of an ackd.

    `before` is set for the ackd of the other checkout.
    """

    name: str
    command: Callable[[Paths], tuple[str, ...]]
    settings: str = ""
    ackd: bool = False
    before: bool = False


def before(server: Server) -> Server:
    """Return the ackd of the other checkout with the settings of this one."""

    def command(paths: Paths) -> tuple[str, ...]:
        return (*paths.ackd_before, "--config", paths.config)

    name = server.name.replace("ackd", "ackd before", 1)
    return replace(server, name=name, command=command, before=True)


def _ackd(name: str, settings: str) -> Server:
    def command(paths: Paths) -> tuple[str, ...]:
        return (*paths.ackd, "--config", paths.config)

    return Server(name, command, settings, ackd=True)


def _python(name: str, module: str) -> Server:
    def command(paths: Paths) -> tuple[str, ...]:
        return (paths.python, "-m", f"tests.bench.competitors.{module}", str(paths.port))

    return Server(name, command)


C = Server("C", lambda paths: (paths.reference, str(paths.port)))
C_RECORDING = Server("C", lambda paths: (paths.reference, "--journal", str(paths.port)))
# `record: each` is the default. It is not written out, so that an ackd without the setting starts.
ACKD = _ackd("ackd", "")
ACKD_BATCH = _ackd("ackd, record: batch", "record: batch")
ACKD_NONE = _ackd("ackd, record: none", "record: none")
COMPETITORS = tuple(_python(name, module) for name, module in PYTHON_SERVERS.items())
