"""A client, a router and a server, each in a network of its own; the client runs `ackctl probe`."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import StartDaemon
from tests.support.ackctl_process import Ackctl, ackctl
from tests.support.daemon_process import Daemon
from tests.support.network_host import NetworkHost, run

CLIENT, SERVER = "192.168.151.2", "192.168.150.1"

Found = tuple[int, list[str], dict[str, Any]]


class Network:
    """A client and a server, and a router that forwards all packets between them."""

    def __init__(self, client: NetworkHost, router: NetworkHost, server: NetworkHost) -> None:
        self.client, self.router, self.server = client, router, server
        for host, name, address in ((client, "client", CLIENT), (server, "server", SERVER)):
            gateway = f"{address.rpartition('.')[0]}.254"
            host.ip("link", "add", "eth0", "type", "veth", "peer", name, "netns", router.name)
            for end, link, own in ((host, "eth0", address), (router, name, gateway)):
                end.ip("address", "add", f"{own}/24", "dev", link)
                end.ip("link", "set", link, "up")
            host.ip("route", "add", "default", "via", gateway)
        forwarding = "echo 1 >/proc/sys/net/ipv4/ip_forward"
        run(*router.shell, "sh", "-c", forwarding)

    def serve(self, start: StartDaemon) -> Daemon:
        settings = f"bind: {SERVER}\nport: 10008"
        return start(settings, prepare=self.server.move_in)

    def drop(self, *which: str) -> None:
        """Make the router drop packets silently: those from the client, or those of a rule."""
        self.router.ip("rule", "add", *(which or ("iif", "client")), "blackhole")

    def carry(self) -> None:
        """Let packets from the client through again."""
        self.router.ip("rule", "delete", "iif", "client", "blackhole")

    def drop_icmp(self) -> None:
        """Drop the packets that the router itself sends: for its rules they come from lo."""
        self.drop("iif", "lo")

    def probe(self, *arguments: str, before: tuple[str, ...] = ()) -> Found:
        """Run a probe; return the exit status, the stages that were tried, and the summary."""
        command = (*_probe(arguments), "--json")
        return found(ackctl(*command, before=(*self.client.shell, *before)))

    def probing(self, *arguments: str) -> Ackctl:
        """Start a probe that goes on while the test changes the network."""
        return Ackctl(*_probe(arguments), before=self.client.shell)


def _probe(arguments: tuple[str, ...]) -> tuple[str, ...]:
    host = () if "--host" in arguments else ("--host", SERVER)
    return ("probe", *host, *arguments)


def found(ended: tuple[int, str, str]) -> Found:
    status, out, complaint = ended
    assert len(complaint.splitlines()) == (status != 0)
    *stages, summary = map(json.loads, out.splitlines())
    tried = [stage for stage in stages if stage["outcome"] != "not tried"]
    return status, [_line(stage) for stage in tried], summary


def _line(stage: dict[str, Any]) -> str:
    members = ("stage", "bytes", "silence", "outcome", "address", "text")
    return " ".join(str(stage[name]) for name in members if name in stage)


@contextmanager
def probed_network() -> Iterator[Network]:
    """Make three hosts out of network namespaces, and remove them afterwards. This needs root."""
    with ExitStack() as cleanup:
        hosts = []
        for name in ("client", "router", "server"):
            hosts.append(NetworkHost(name))
            cleanup.callback(hosts[-1].remove)
        yield Network(*hosts)


def with_etc(directory: Path, **files: str) -> tuple[str, ...]:
    """Return the words to put before a command, so that it sees these files in /etc."""
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)
    over_etc = f"mount -t overlay overlay -o lowerdir={directory}:/etc /etc"
    return ("sh", "-ec", f'{over_etc}; exec "$@"', "sh")
