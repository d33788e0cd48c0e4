"""Options that several verbs have, and the types of option values."""

import argparse
import re
import socket
from math import nan

from ackd.client.addresses import Destination, check_address
from ackd.client.client import DEFAULT_PORT, DEFAULT_TIMEOUT

# As in URLs, RFC 3986: [::1], [::1]:10008, 192.0.2.1:10008.
_WITH_PORT = re.compile(r"[\[\]]|^[^:]*:\d*$")


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the server's address, and for how long to wait for the server."""
    option = parser.add_argument
    option(
        "--host", metavar="H", type=host, default="127.0.0.1", help="name or address (127.0.0.1)"
    )
    option("--port", metavar="P", type=port, default=DEFAULT_PORT, help=f"port ({DEFAULT_PORT})")
    option(
        "--timeout",
        metavar="S",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        help=f"seconds for each wait: name, connection, greeting, ack ({DEFAULT_TIMEOUT:g})",
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


def destination_of(options: argparse.Namespace) -> Destination:
    """Return the server that the options name."""
    where = (options.host, options.port, options.timeout, options.source)
    return Destination(*where, greeted=not options.no_greeting, family=options.family)


def port(text: str) -> int:
    """Return a TCP port: 1 to 65535."""
    return number(text, 65535)


def seconds(text: str, most: int = 86400) -> float:
    """Return a number of seconds: more than 0, and at most `most`, a day."""
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds, more than 0 and at most {most}"
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


def host(text: str) -> str:
    """Return a host's name or address, which may turn out not to exist."""
    if not text:
        raise argparse.ArgumentTypeError("a name or an address is needed")
    if _WITH_PORT.search(text):
        raise argparse.ArgumentTypeError(f"{text!r}: give the port with --port, and no brackets")
    return text
