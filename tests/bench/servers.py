"""The servers that are measured, and the command of each."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace

_IN_JOURNAL = """\
journalctl --sync
journalctl --quiet --all --output=cat _SYSTEMD_UNIT=$UNIT | grep --count --text '^Buffer: '
"""
_IN_REDIS = "redis-cli -p $PORT XLEN bench"
_IN_BEANSTALKD = r"""
printf 'stats-tube default\r\nquit\r\n' | nc 127.0.0.1 $PORT | sed --quiet 's/^total-jobs: //p'
"""

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

    `ackd` and `ackd_before` are commands: the ackd of this checkout and that of `--before`. `disk`
    is an empty directory on a disk. `inner_port` is for an ackd behind another server, and `pem`
    has a certificate and its key; both are "" or 0 where no server uses them.
    """

    python: str
    ackd: tuple[str, ...]
    ackd_before: tuple[str, ...]
    config: str
    reference: str
    port: int
    disk: str
    inner_port: int = 0
    pem: str = ""

    def settings(self, server: "Server") -> str:
        """Return the text of an ackd's configuration that admits 10,000 clients."""
        return (
            f"bind: 127.0.0.1\nport: {self.inner_port if server.front else self.port}\n"
            "max_connections: 15000\nmax_connections_per_client: null\n"
            f"{server.settings.format(disk=self.disk, pem=self.pem)}\n"
        )


@dataclass(frozen=True)
class Server:
    """One server; `settings` are lines for the configuration of an ackd.

    `protocol` is a name that the load generator knows. `count` is a shell command that prints how
    many payloads are recorded; the unit and the port of the server are in $UNIT and $PORT. A server
    that is `durable` writes to the disk. With `tls`, all is TLS; with `front`, another
    server of the command does it. `before` is set for the ackd of the other checkout.
    """

    name: str
    command: Callable[[Paths], tuple[str, ...]]
    settings: str = ""
    protocol: str = "ackd"
    count: str = ""
    durable: bool = False
    tls: bool = False
    front: bool = False
    ackd: bool = False
    before: bool = False


def before(server: Server) -> Server:
    """Return the ackd of the other checkout with the settings of this one."""

    def command(paths: Paths) -> tuple[str, ...]:
        return (*paths.ackd_before, "--config", paths.config)

    name = server.name.replace("ackd", "ackd before", 1)
    return replace(server, name=name, command=command, before=True)


def _ackd(name: str, settings: str, durable: bool = False) -> Server:
    def command(paths: Paths) -> tuple[str, ...]:
        return (*paths.ackd, "--config", paths.config)

    return Server(name, command, settings, count=_IN_JOURNAL, durable=durable, ackd=True)


def _python(name: str, module: str) -> Server:
    def command(paths: Paths) -> tuple[str, ...]:
        return (paths.python, "-m", f"tests.bench.competitors.{module}", str(paths.port))

    return Server(name, command)


def _redis(paths: Paths) -> tuple[str, ...]:
    address = ("--bind", "127.0.0.1", "--port", str(paths.port))
    # `--save ""`: no snapshots beside the log.
    log = ("--dir", paths.disk, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
    return ("redis-server", *address, *log)


def _beanstalkd(paths: Paths) -> tuple[str, ...]:
    return ("beanstalkd", "-l", "127.0.0.1", "-p", str(paths.port), "-b", paths.disk, "-f", "0")


def _logging(paths: Paths) -> tuple[str, ...]:
    return (paths.reference, "--log", f"{paths.disk}/log", str(paths.port))


def _stunnel(paths: Paths) -> tuple[str, ...]:
    """Start an ackd without TLS, which ends with stunnel, and stunnel before it."""
    ackd = shlex.join((*paths.ackd, "--config", paths.config))
    ports = f"accept = 127.0.0.1:{paths.port}\nconnect = 127.0.0.1:{paths.inner_port}\n"
    settings = f"foreground = yes\npid =\n[ackd]\ncert = {paths.pem}\n{ports}"
    script = f"""\
setpriv --pdeathsig KILL -- {ackd} &
until exec 3<>/dev/tcp/127.0.0.1/{paths.inner_port}; do sleep 0.05; done
exec 3>&-
exec stunnel -fd 0 <<END
{settings}END
"""
    return ("bash", "-c", script)


C = Server("C", lambda paths: (paths.reference, str(paths.port)))
C_RECORDING = Server(
    "C", lambda paths: (paths.reference, "--journal", str(paths.port)), count=_IN_JOURNAL
)
C_LOGGING = Server("C", _logging, durable=True)
# `record: each` is the default. It is not written out, so that an ackd without the setting starts.
ACKD = _ackd("ackd", "")
ACKD_BATCH = _ackd("ackd, record: batch", "record: batch")
ACKD_NONE = _ackd("ackd, record: none", "record: none")
# Of the same place as the servers that record nothing.
ACKD_TLS = replace(
    _ackd("ackd, TLS", "record: none\ntls_certificate: {pem}\ntls_key: {pem}"), tls=True
)
STUNNEL = Server("stunnel and ackd", _stunnel, "record: none", tls=True, front=True)
_DISK = "durability: disk\nwal_directory: {disk}"
ACKD_DISK = _ackd("ackd, durability: disk", _DISK, durable=True)
ACKD_DISK_BATCH = _ackd(
    "ackd, durability: disk, record: batch", f"{_DISK}\nrecord: batch", durable=True
)
REDIS = Server("Redis", _redis, protocol="redis", count=_IN_REDIS, durable=True)
BEANSTALKD = Server(
    "beanstalkd", _beanstalkd, protocol="beanstalkd", count=_IN_BEANSTALKD, durable=True
)
COMPETITORS = tuple(_python(name, module) for name, module in PYTHON_SERVERS.items())
