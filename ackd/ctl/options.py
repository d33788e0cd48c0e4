"""Options that several verbs have, and the types of option values."""

import argparse
import re
import socket
from math import nan
from typing import TYPE_CHECKING, Any

from ackd.client.addresses import Destination, check_address, check_server_name
from ackd.client.client import DEFAULT_HOST, DEFAULT_PORT, DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from ackd.client.tls import ClientTls

# As in URLs, RFC 3986: [::1], [::1]:10008, 192.0.2.1:10008.
_WITH_PORT = re.compile(r"[\[\]]|^[^:]*:\d*$")


class _Hosts(argparse.Action):
    """Takes the option several times: `hosts` are all, and `host` is the first.

    `const` is whether a command can use more than one host.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add a host to those that are given."""
        hosts = [*getattr(namespace, "hosts", ()), values]
        if len(hosts) > 1 and not self.const:
            parser.error("--host can be given once: this command is about one server")
        namespace.hosts, namespace.host = hosts, hosts[0]


def add_server_options(
    parser: argparse.ArgumentParser,
    each: str = "each wait: name, connection, TLS, greeting, ack",
    several: bool = False,
) -> None:
    """Add the options for the server's address, and for how long to wait: for `each`.

    `several` is for a command that goes on with the next of several hosts.
    """
    option = parser.add_argument
    more = "; again for further servers" if several else ""
    option(
        "--host",
        metavar="H",
        type=host,
        default=DEFAULT_HOST,
        action=_Hosts,
        const=several,
        help=f"name or address ({DEFAULT_HOST}){more}",
    )
    option("--port", metavar="P", type=port, default=DEFAULT_PORT, help=f"port ({DEFAULT_PORT})")
    option(
        "--timeout",
        metavar="S",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        help=f"seconds for {each} ({DEFAULT_TIMEOUT:g})",
    )
    option(
        "--source", metavar="A", type=address, default="", help="own address to connect from (any)"
    )
    family = parser.add_mutually_exclusive_group()
    for name, number in (("4", socket.AF_INET), ("6", socket.AF_INET6)):
        family.add_argument(
            f"-{name}",
            action="store_const",
            dest="family",
            const=number,
            default=socket.AF_UNSPEC,
            help=f"IPv{name} only",
        )
    option("--no-greeting", action="store_true", help="the server's greeting is empty")
    _add_tls_options(parser)


def _add_tls_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for TLS. No option connects without verifying the server."""
    option = parser.add_argument
    option("--tls", action="store_true", help="speak TLS, and verify the server's certificate")
    option("--ca", metavar="FILE", help="speak TLS, and trust only these certificates")
    option("--cert", metavar="FILE", help="speak TLS, with this own certificate")
    # Not --key: with that, the payloads of a run prove a secret.
    option("--cert-key", metavar="FILE", help="the private key of --cert, unless it is there")
    option(
        "--server-name",
        metavar="NAME",
        type=server_name,
        help="speak TLS with a server of this name (that of --host)",
    )


def destination_of(options: argparse.Namespace) -> Destination:
    """Return the server that the options name; files that can't be used are a usage error."""
    first, *others = getattr(options, "hosts", [options.host])
    where = (first, options.port, options.timeout, options.source)
    greeted, family = not options.no_greeting, options.family
    return Destination(*where, greeted, family, _tls_of(options), tuple(others))


def _tls_of(options: argparse.Namespace) -> "ClientTls | None":
    """Return how to speak TLS, or None.

    Each option for TLS means --tls, so that nothing is sent in plain text because it was forgotten.
    """
    ca, cert, key, name = options.ca, options.cert, options.cert_key, options.server_name
    if key is not None and cert is None:
        options.parser.error("--cert-key needs --cert")
    if not options.tls and ca is cert is name is None:
        return None
    from ackd.client.tls import ClientTls, TlsFileError, client_context  # slow to import

    try:
        context = client_context(ca, cert, key)
    except TlsFileError as error:
        options.parser.error(f"{error.path or 'an empty name'}: {error.reason}")
    return ClientTls(context, name or "", has_certificate=cert is not None)


def port(text: str) -> int:
    """Return a TCP port: 1 to 65535."""
    return number(text, 65535)


def seconds(text: str, most: int = 86400) -> float:
    """Return a number of seconds: more than 0, and at most `most`, a day."""
    return duration(text, "seconds", most)


def duration(text: str, unit: str, most: int) -> float:
    """Return a number of this unit: more than 0, and at most `most`."""
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of {unit}, more than 0 and at most {most}"
        )
    return value


def count(text: str) -> int:
    """Return a whole number, 1 to 999999999."""
    return number(text, 999999999)


def tries(text: str) -> int:
    """Return a whole number, 0 to 999999999."""
    return number(text, 999999999, least=0)


def connections(text: str) -> int:
    """Return a number of connections, 1 to 65535: an address has no more ports."""
    return number(text, 65535)


def number(text: str, most: int, least: int = 1) -> int:
    """Return a whole number, `least` to `most`."""
    if not (re.fullmatch(r"[0-9]{1,9}", text) and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return int(text)


def address(text: str) -> str:
    """Return an IPv4 or IPv6 address, perhaps with `%` and an interface; "" is any address."""
    try:
        if text:
            check_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def server_name(text: str) -> str:
    """Return a name, or an address, that a certificate can be for."""
    try:
        check_server_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def host(text: str) -> str:
    """Return a host's name or address, which may turn out not to exist."""
    if not text:
        raise argparse.ArgumentTypeError("a name or an address is needed")
    if _WITH_PORT.search(text):
        raise argparse.ArgumentTypeError(f"{text!r}: give the port with --port, and no brackets")
    return text
