"""The meaning of each failure, and which person to ask. All sentences about failures are here."""

import errno
import os
import socket

from ackd.client.end import End, EndKind
from ackd.client.errors import NotReachedError, describe_fault
from ackd.ctl.exit_status import Status
from ackd.ctl.foreign import foreign
from ackd.ctl.probe.finding import BrokenError, EndedError, SilentError, Stage, Traffic
from ackd.printable import printable
from ackd.protocol import (
    DISK_FAILED,
    DISK_FULL,
    DISK_HANGS,
    EXPECTS_PROXY_HEADER,
    EXPECTS_TLS,
    FOREIGN_REASONS,
    HANGS,
    JOURNAL_UNREACHABLE,
    LOG_FULL,
    LONGER_THAN,
    NOT_ALLOWED,
    NOT_STORED,
    STOPPING,
    TOO_MANY_CONNECTIONS,
    Reply,
)

# How many bytes of what the server sent are shown.
_SHOWN = 80

_ASK_OWNER = (
    "Ask the administrator of the host which program listens on that port, and on which port ackd"
    " listens."
)
# ackd records no connection on which nothing arrives, so its journal can't show this one.
_OR_LOST = (
    "Or a firewall accepts connections in its place, or packets are lost on the way there or back."
    " Ask the administrator of the server for the output of `systemctl status ackd`, and whether"
    " `ss -tn` on it shows this connection. Then ask the administrators of the network."
)
_UNRESOLVED = {
    socket.EAI_NONAME: ("the name does not exist", "typo"),
    socket.EAI_NODATA: ("the name has no address", "typo"),
    socket.EAI_ADDRFAMILY: ("the name has no address", "typo"),
    # Also if the name servers answer SERVFAIL or REFUSED, or if no server listens, getaddrinfo(3).
    socket.EAI_AGAIN: ("the name servers do not answer, or answer with an error", "dns"),
    socket.EAI_FAIL: ("the name servers answer with an error", "dns"),
}
_ADVICE_ABOUT_NAMES = {
    "typo": "The name is wrong, or the DNS does not have it. Look for a typo. Then ask the person"
    " who gave you the name.",
    "dns": "The DNS does not work from this host, or does not work for this name. Ask the"
    " administrators of this network; /etc/resolv.conf lists the name servers. Then ask the"
    " administrator of the name's zone. An address needs no DNS.",
}
_LOCAL = "`ip route get ADDRESS` shows the route that this host uses"
_UNCONNECTED = {
    errno.ECONNREFUSED: (
        "refused",
        "The host is there, but no program listens on that port, or a firewall refuses connections"
        " in its place. Ask the administrator of the host whether ackd runs, and for `bind` and"
        " `port` in its configuration.",
    ),
    errno.ECONNRESET: (
        "reset",
        "A firewall or load balancer that accepts connections for the host has reset this"
        " connection. Ask the administrators of the network.",
    ),
    errno.EHOSTUNREACH: (
        "no route to host",
        "A router or firewall rejects the packets, or no host on this host's own network has that"
        " address. Ask the administrators of the network, and whether the host is up.",
    ),
    errno.ENETUNREACH: (
        "network is unreachable",
        "This host or a router has no route to that address. Ask the administrator of this host's"
        f" network; {_LOCAL}.",
    ),
    errno.EACCES: (
        "prohibited",
        "A firewall or a route prohibits the connection, on this host or on a router. Ask the"
        f" administrators of both; {_LOCAL}.",
    ),
    errno.EPERM: (
        "prohibited",
        "This host's own firewall prohibits the connection. Ask the administrator of this host;"
        " `nft list ruleset` shows the rules.",
    ),
    errno.EINVAL: (
        "discarded here",
        "This host's own routes discard packets to that address, or packets from that source. Ask"
        f" the administrator of this host; {_LOCAL}.",
    ),
    errno.EADDRNOTAVAIL: (
        "this host does not have the source address",
        "Give an address of this host with --source, or leave out --source. `ip address` shows all"
        " addresses.",
    ),
}
_NO_SOURCE = (
    "no address to connect from",
    "This host has no address that can reach that address, or all ports of this host are in use."
    " Perhaps this host has no IPv6 address, or no IPv4 address. Ask the administrator of this"
    " host; `ip address` shows the addresses, `ss -s` the number of connections.",
)
_STATUS_OF_JOURNALD = "Ask its administrator for the output of `systemctl status systemd-journald`."
_STATUS_OF_ACKD = "Ask its administrator for the output of `systemctl status ackd`."
_NOT_RECORDED = {
    JOURNAL_UNREACHABLE: "The path works, but the ackd there can't reach its journal."
    f" {_STATUS_OF_JOURNALD}",
    HANGS: f"The path works, but the journal of the ackd there hangs. {_STATUS_OF_JOURNALD}",
    NOT_STORED: "The path works, but the settings of the journal there drop payloads. Ask its"
    " administrator for the setting that the reply names.",
    LOG_FULL: "The path works, but the journal there is so far behind that the log of ackd is full."
    f" {_STATUS_OF_JOURNALD}",
    DISK_FULL: f"The path works, but the disk of the ackd there is full. {_STATUS_OF_ACKD}",
    DISK_FAILED: f"The path works, but the disk of the ackd there fails. {_STATUS_OF_ACKD}",
    DISK_HANGS: f"The path works, but the disk of the ackd there hangs. {_STATUS_OF_ACKD}",
}


def shown(data: bytes) -> str:
    """Return the beginning of what the server sent, escaped."""
    return printable(data[:_SHOWN]) + "..." * (len(data) > _SHOWN)


def not_resolved(error: NotReachedError) -> BrokenError:
    """Return what it means that a name has no addresses."""
    if error.cause is None:
        text = f"no answer within {error.timeout:g} s"
        return _not_reached(Stage.RESOLVED, text, _ADVICE_ABOUT_NAMES["dns"])
    cause = error.cause
    number = cause.errno if isinstance(cause, socket.gaierror) else socket.EAI_NONAME
    text, advice = _UNRESOLVED.get(number or 0, (f"{cause}", "dns"))
    return _not_reached(Stage.RESOLVED, text, _ADVICE_ABOUT_NAMES[advice])


def not_connected(
    error: OSError, timeout: float, address: tuple[object, ...], source: str
) -> BrokenError:
    """Return the meaning of an error of connect() from `source`; "" is any address of this host."""
    text, advice = _UNCONNECTED.get(
        error.errno or 0,
        (error.strerror or f"{error}", "The network fails. Ask its administrators."),
    )
    if isinstance(error, TimeoutError):
        text = f"no answer within {timeout:g} s"
        advice = (
            "Packets get no answer. A firewall, perhaps this host's own, drops them, many packets"
            " are lost, the address is wrong, or the host is down or overloaded. Ask the"
            " administrators of the network, then the administrator of the host. A longer --timeout"
            " shows whether the answer is only late."
        )
    if error.errno == errno.EADDRNOTAVAIL and not source:
        text, advice = _NO_SOURCE
    advice = _misused(error, address, source) or advice
    return _not_reached(Stage.CONNECTED, text, advice)


def _misused(error: OSError, address: tuple[object, ...], source: str) -> str:
    """Return why addresses can't be used together, "" if that is not the cause."""
    to = str(address[0])
    if error.errno == errno.EINVAL and to.startswith("fe80:") and not address[3]:
        return f"An address like {to} is valid on one link only. Add the interface: {to}%INTERFACE."
    if error.errno == errno.EINVAL and source.lower().startswith("fe80:") and "%" not in source:
        return (
            f"A source like {source} is valid on one link only. Add the interface:"
            f" {source}%INTERFACE."
        )
    if _is_loopback(source) and not isinstance(error, ConnectionRefusedError):
        return (
            f"From {source} this host reaches only itself. Give another --source, or leave it out."
        )
    return ""


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def unreached(address: str, broken: BrokenError, reached: str) -> str:
    """Return what it means that `address` of a name was not reached, but `reached` was."""
    families = ["IPv6" if ":" in each else "IPv4" for each in (address, reached)]
    if isinstance(broken.__cause__, ConnectionRefusedError) and families[0] != families[1]:
        return (
            f"{address} refuses connections, {reached} accepts them. No program listens there on"
            f" {families[0]}, or a firewall refuses connections in its place. Ask the administrator"
            " of the server for `bind`. Programs that try only one address may fail."
        )
    ways = f"{families[0]} does not work, {families[1]} works. "
    return (
        f"{ways if families[0] != families[1] else ''}{address} was not reached ({broken.text})."
        f" Programs that try this address first wait for it, or fail. {broken.advice}"
    )


def _not_reached(stage: Stage, text: str, advice: str) -> BrokenError:
    return BrokenError(stage, Status.NOT_REACHED, text, advice)


def not_greeted(end: End, received: bytes) -> BrokenError:
    """Return what it means that the connection, or the wait, ended without a greeting."""
    if end.how is EndKind.REJECTED:
        return rejected(end.line)
    if end.how is EndKind.UNEXPECTED:
        return no_greeting(received)
    if end.how is EndKind.TIMED_OUT:
        return _mute(end.seconds, received)
    if received:
        return no_greeting(received, f", then {_how(end)}")
    return _not_greeted(
        f"{_how(end)} without a greeting",
        "The program that accepts connections there does not serve this host. It may be a load"
        " balancer without a server behind it, or a filter that does not allow this address. Ask"
        " its administrator, and the administrators of the network.",
    )


def _how(end: End) -> str:
    """Return how the other side ended the connection, in a word."""
    if end.how is EndKind.BROKEN:
        return f"broken, {os.strerror(end.errno)}"
    if end.fault:
        return describe_fault(end.fault)
    return str(end.how.value)


def _mute(timeout: float, received: bytes) -> BrokenError:
    """Return what it means that no greeting, or not all of one, came in time."""
    if received:
        return no_greeting(received, f", and the line did not end within {timeout:g} s")
    return _not_greeted(
        f"no greeting within {timeout:g} s",
        "The program that listens there hangs, is overloaded, or waits until the client sends"
        f" something, as web servers do. {_OR_LOST} A longer --timeout shows whether the greeting"
        " is only late. --tls shows whether the program expects TLS, --no-greeting whether it is an"
        " ackd with an empty greeting.",
    )


def no_end(timeout: float) -> BrokenError:
    """Return what it means that the server did not close after the client had ended its sending."""
    return _not_greeted(
        f"no greeting, but not closed within {timeout:g} s",
        "An ackd closes a connection when the client has ended its sending. The program that"
        f" listens there hangs, is overloaded, or is no ackd. {_OR_LOST} A longer --timeout shows"
        " whether the end is only late.",
    )


def greeted(received: bytes) -> BrokenError:
    """Return what it means that the server greeted although no greeting was expected."""
    if foreign(received):
        return no_greeting(received)
    line = shown(received.removesuffix(b"\n"))
    return _not_greeted(
        f"the server sent {line}, although no greeting was expected",
        "If this is the greeting of an ackd, leave out --no-greeting. Otherwise another program"
        f" listens on that port. {_ASK_OWNER}",
    )


def no_greeting(received: bytes, more: str = "") -> BrokenError:
    """Return what it means that the first line is not an ackd's; `more` follows the line."""
    return _not_greeted(
        _sent(received, more),
        f"Another program listens on that port. Check whether the port is right. {_ASK_OWNER}",
    )


def _sent(received: bytes, more: str = "") -> str:
    """Return what the server sent, and which server other than an ackd sends such lines."""
    server = foreign(received)
    if server:
        return f"{server} answers: {shown(received)}"
    return f"the server sent {shown(received)}{more}"


def _not_greeted(text: str, advice: str) -> BrokenError:
    return BrokenError(Stage.GREETED, Status.NO_GREETING, text, advice)


def rejected(line: bytes, stage: Stage = Stage.GREETED) -> BrokenError:
    """Return what it means that the server said `not connect`, in this line."""
    advice = _about_storing(line) or "The ackd there rejects this host. Ask its administrator."
    if NOT_ALLOWED.encode() in line:
        advice = "The ackd there does not allow this address. Ask its administrator for `allow`."
    elif TOO_MANY_CONNECTIONS.encode() in line:
        advice = (
            "The ackd there has as many connections as it may have. Ask its administrator for"
            " `max_connections` and `max_connections_per_client`."
        )
    elif EXPECTS_TLS.encode() in line:
        advice = (
            "The ackd there takes only connections with TLS. Give --tls, and --ca with the"
            " certificate of its authority, unless this system trusts that authority. Ask its"
            " administrator for the file."
        )
    elif STOPPING.encode() in line:
        advice = "The ackd there is stopping. Try again, or ask its administrator."
    elif EXPECTS_PROXY_HEADER.encode() in line:
        advice = (
            "The ackd there expects the PROXY protocol from this address, or from the load balancer"
            " between here and the ackd. Ask its administrator for `proxy_from`."
        )
    elif any(reason.encode() in line for reason in FOREIGN_REASONS):
        advice = (
            "Something between here and the ackd sends bytes of its own first, as a load balancer"
            " does with the PROXY protocol. Ask its administrator."
        )
    return BrokenError(stage, Status.REFUSED, shown(line), advice)


def not_arrived(timeout: float, waiting: int) -> BrokenError:
    """Return what it means that no packet confirmed the arrival of `waiting` bytes."""
    return SilentError(
        Stage.SENT,
        Status.UNKNOWN,
        f"no packet confirmed the arrival of {waiting} bytes within {timeout:g} s",
        "The connection was established, but now packets get no answer. A firewall drops them, a"
        " tunnel or the host has failed, or many packets are lost. Ask the administrators of the"
        " network, then the administrator of the host. A longer --timeout shows whether the packets"
        " are only late.",
    )


def no_ack(timeout: float, received: bytes, waiting: int = 0) -> BrokenError:
    """Return what it means that no reply came in time to a payload that has arrived.

    `waiting` bytes have not arrived, because the other side does not read them.
    """
    text = f"no ack within {timeout:g} s"
    if waiting:
        text = f"{text}, and the server has not read {waiting} bytes"
    if received:
        text = f"the reply did not end within {timeout:g} s: {shown(received)}"
    part = "The beginning of the payload" if waiting else "The payload"
    return SilentError(
        Stage.ACKNOWLEDGED,
        Status.UNKNOWN,
        text,
        f"{part} has arrived at the host, or at a proxy or load balancer before the host, but no"
        " reply comes back. `ackctl verify RUN` on the server shows whether the payload is"
        " recorded. If the payload is recorded, replies are lost on the way back: ask the"
        " administrators of the network. Otherwise ask the administrator of the server for the"
        " output of `systemctl status ackd systemd-journald`. A longer --timeout shows whether the"
        " ack is only late.",
    )


def cut_off(stage: Stage, end: End, received: bytes) -> BrokenError:
    """Return what it means that the connection ended in this stage."""
    after = f" after {shown(received)}" if received else ""
    return EndedError(
        stage,
        Status.UNKNOWN,
        f"{_how(end)}{after}",
        "It is unknown whether the payload is recorded. The server, or a firewall or load balancer"
        " before the server, ended the connection. Ask the administrator of the server what the"
        " journal says at this time.",
    )


def echoed() -> BrokenError:
    """Return what it means that the reply is the payload."""
    return _unknown(
        Stage.ACKNOWLEDGED,
        "the server sent the payload back",
        f"An echo server listens there. It records nothing. {_ASK_OWNER}",
    )


def no_reply(received: bytes) -> BrokenError:
    """Return what it means that a reply is not an ackd's."""
    return _unknown(
        Stage.ACKNOWLEDGED,
        _sent(received),
        f"A program that is no ackd answers there. {_ASK_OWNER}",
    )


def _unknown(stage: Stage, text: str, advice: str) -> BrokenError:
    return BrokenError(stage, Status.UNKNOWN, text, advice)


def refused(reply: Reply) -> BrokenError:
    """Return what it means that the server said `not received`."""
    advice = (
        _about_storing(reply.text)
        or "The path works, but the ackd there refuses the payload. Ask its administrator."
    )
    if reply.gives_reason(LONGER_THAN):
        advice = (
            "The path works, but the ackd there takes only shorter payloads. Ask its administrator"
            " for `max_payload`."
        )
    return BrokenError(Stage.ACKNOWLEDGED, Status.REFUSED, shown(reply.text), advice)


def _about_storing(line: bytes) -> str:
    """Return what it means that the ackd can't record payloads, "" if this is not the reason."""
    return next((advice for reason, advice in _NOT_RECORDED.items() if reason.encode() in line), "")


def ended_in_silence(end: End, seconds: float) -> BrokenError:
    """Return what it means that the connection ended in a silence, after this time."""
    return BrokenError(
        Stage.HOLD,
        Status.NOT_REACHED,
        f"{_how(end)} by the other side after {seconds:.1f} s",
        "The other side ended the connection, perhaps because of the silence. An ackd ends a silent"
        " connection after its `idle_timeout`; load balancers and proxies have such a limit too. Or"
        " the server was stopped at that moment. Ask the administrator of the server.",
    )


def spoke_in_silence(received: bytes) -> BrokenError:
    """Return what it means that the server sent something, although no reply was due."""
    return BrokenError(
        Stage.HOLD,
        Status.NO_GREETING,
        _sent(received),
        f"An ackd sends nothing unless a reply is due. {_ASK_OWNER}",
    )


def after_silence(broken: BrokenError) -> BrokenError:
    """Return what it means that a payload after a silence failed."""
    advice = broken.advice
    if isinstance(broken, EndedError):
        advice = (
            "The server, or a firewall, NAT or load balancer before the server, has probably"
            " forgotten the silent connection, and resets or closes it only when something is sent."
            " Ask its administrator for a longer limit, or send more often."
        )
    elif broken.stage is Stage.SENT:
        advice = (
            "A firewall, NAT or load balancer on the way has probably forgotten the silent"
            " connection, and drops its packets. Ask its administrator for a longer limit, or send"
            " more often."
        )
    return BrokenError(Stage.HOLD, broken.status, broken.text, advice)


def lost(traffic: Traffic) -> str:
    """Return what it means that packets arrived only after they were sent again."""
    return (
        f"{traffic.retransmitted} of {traffic.packets} packets had to be sent again. Packets are"
        " lost on the way there or back, or arrive very late. Ask the administrators of the"
        " network, then the administrator of the server's host, which may be overloaded."
    )
