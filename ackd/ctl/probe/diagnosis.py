"""What a failure means, and whom to ask. All sentences about failures are in this module."""

import errno
import os
import socket

from ackd.client.ending import End, Ending
from ackd.client.errors import NotReachedError
from ackd.ctl.probe.finding import BrokenError, EndedError, SilentError, Stage, Traffic
from ackd.ctl.status import Status
from ackd.printable import printable
from ackd.protocol import (
    JOURNAL_UNREACHABLE,
    LONGER_THAN,
    NOT_ALLOWED,
    STOPPING,
    TOO_MANY_CONNECTIONS,
    Reply,
)

# How many bytes of what the server sent are shown.
_SHOWN = 80

_ASK_OWNER = (
    "ask the administrator of the host what listens on that port, and on which port its ackd"
    " listens"
)
# ackd records no connection on which nothing arrives, so its journal can't show this one.
_OR_LOST = (
    "Or a firewall accepts in its place, or packets are lost on the way, there or back. Ask the"
    " administrator of the server for `systemctl status ackd`, and whether `ss -tn` there shows"
    " this connection; then the administrators of the network."
)
_UNRESOLVED = {
    socket.EAI_NONAME: ("there is no such name", "typo"),
    socket.EAI_NODATA: ("the name has no address", "typo"),
    socket.EAI_ADDRFAMILY: ("the name has no address", "typo"),
    # Also if they answer SERVFAIL or REFUSED, or if nothing listens there, getaddrinfo(3).
    socket.EAI_AGAIN: ("the name servers do not answer, or with an error", "dns"),
    socket.EAI_FAIL: ("the name servers answer with an error", "dns"),
}
_WHOM_ABOUT_NAMES = {
    "typo": "The name is wrong, or is not in the DNS: look for a typo, then ask the person who"
    " gave it to you.",
    "dns": "The DNS does not work from here, or not for this name: ask the administrators of this"
    " network (/etc/resolv.conf names the servers that are asked), then the administrator of the"
    " name's zone. An address needs no DNS.",
}
_LOCAL = "`ip route get ADDRESS` shows what this host does with it"
_UNCONNECTED = {
    errno.ECONNREFUSED: (
        "refused",
        "The host is there, and nothing listens on that port, unless a firewall refuses in its"
        " place: ask its administrator whether its ackd runs, and for `bind` and `port` in its"
        " configuration.",
    ),
    errno.ECONNRESET: (
        "reset",
        "Something that accepts for the host, a firewall or a balancer, has reset the connection:"
        " ask the administrators of the network.",
    ),
    errno.EHOSTUNREACH: (
        "no route to host",
        "A router or a firewall turns packets back, or no host on this host's own network has that"
        " address: ask the administrators of the network, and whether the host is up.",
    ),
    errno.ENETUNREACH: (
        "network is unreachable",
        "This host, or a router, has no route there: ask the administrator of this host's"
        f" network; {_LOCAL}.",
    ),
    errno.EACCES: (
        "prohibited",
        "A firewall or a route, of this host or of a host in between, prohibits the connection:"
        f" ask their administrators; {_LOCAL}.",
    ),
    errno.EPERM: (
        "prohibited",
        "This host's own firewall prohibits the connection: ask the administrator of this host;"
        " `nft list ruleset` shows its rules.",
    ),
    errno.EINVAL: (
        "discarded here",
        "This host's own routes do not let packets go there, or not from that source: ask the"
        f" administrator of this host; {_LOCAL}.",
    ),
    errno.EADDRNOTAVAIL: (
        "the source address is not one of this host",
        "Give an address of this host with --source, or none; `ip address` shows all.",
    ),
}
_NO_SOURCE = (
    "no address to connect from",
    "This host has no address that can reach that one, perhaps none of its kind, or all ports of"
    " this host are in use: ask its administrator; `ip address` and `ss -s` show both.",
)
# How other servers answer or greet. An ackd does so only if it is configured to.
_FOREIGN = (
    (b"SSH-", "an SSH server"),
    (b"HTTP/", "a web server"),
    (b"<!DOCTYPE", "a web server"),
    (b"<html", "a web server"),
    (b"\x15\x03", "a server that wants TLS"),
    (b"220 ", "a mail or FTP server"),
    (b"220-", "a mail or FTP server"),
    (b"421 ", "a mail or FTP server"),
    (b"500 ", "a mail or FTP server"),
    (b"502 ", "a mail or FTP server"),
    (b"554 ", "a mail server"),
    (b"* OK", "an IMAP server"),
    (b"+OK", "a POP3 server"),
    (b"-ERR", "a Redis or POP3 server"),
    (b"RFB ", "a VNC server"),
)


def shown(data: bytes) -> str:
    """Return the beginning of what the server sent, escaped."""
    return printable(data[:_SHOWN]) + "..." * (len(data) > _SHOWN)


def foreign(data: bytes) -> str:
    """Return which well-known server other than an ackd sends such data, "" for none."""
    return next((what for start, what in _FOREIGN if data.startswith(start)), "")


def not_resolved(error: NotReachedError) -> BrokenError:
    """Return what it means that a name has no addresses."""
    if error.cause is None:
        text = f"no answer within {error.timeout:g} s"
        return _not_reached(Stage.RESOLVED, text, _WHOM_ABOUT_NAMES["dns"])
    cause = error.cause
    number = cause.errno if isinstance(cause, socket.gaierror) else socket.EAI_NONAME
    text, whom = _UNRESOLVED.get(number or 0, (f"{cause}", "dns"))
    return _not_reached(Stage.RESOLVED, text, _WHOM_ABOUT_NAMES[whom])


def not_connected(
    error: OSError, timeout: float, address: tuple[object, ...], source: str
) -> BrokenError:
    """Return what it means that connect() from `source`, if it is given, raised this."""
    text, advice = _UNCONNECTED.get(
        error.errno or 0,
        (error.strerror or f"{error}", "The network fails: ask its administrators."),
    )
    if isinstance(error, TimeoutError):
        text = f"no answer within {timeout:g} s"
        advice = (
            "Packets get no answer: a firewall, perhaps this host's own, drops them, many are lost"
            " on the way, the address is wrong, or the host is down or overloaded: ask the"
            " administrators of the network, then of the host. A longer --timeout shows whether"
            " the answer is only late."
        )
    if error.errno == errno.EADDRNOTAVAIL and not source:
        text, advice = _NO_SOURCE
    advice = _misused(error, address, source) or advice
    return _not_reached(Stage.CONNECTED, text, advice)


def _misused(error: OSError, address: tuple[object, ...], source: str) -> str:
    """Return why addresses can't be used together, "" if that is not the cause."""
    to = str(address[0])
    if error.errno == errno.EINVAL and to.startswith("fe80:") and not address[3]:
        return f"An address like {to} is valid on one link only: name the link, {to}%INTERFACE."
    if error.errno == errno.EINVAL and source.lower().startswith("fe80:") and "%" not in source:
        return (
            f"A source like {source} is valid on one link only: name the link, {source}%INTERFACE."
        )
    if _is_loopback(source) and not isinstance(error, ConnectionRefusedError):
        return f"From {source} this host reaches only itself: give another --source, or none."
    return ""


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def unreached(address: str, broken: BrokenError, reached: str) -> str:
    """Return what it means that one address of a name was not reached, while another was."""
    families = ["IPv6" if ":" in each else "IPv4" for each in (address, reached)]
    if isinstance(broken.__cause__, ConnectionRefusedError) and families[0] != families[1]:
        return (
            f"{address} refuses, and {reached} does not: nothing listens there by {families[0]},"
            " unless a firewall refuses in its place: ask the administrator of the server for"
            " `bind`. Programs that try only one address may fail."
        )
    ways = f"By {families[0]} it does not work, and by {families[1]} it does: "
    return (
        f"{ways if families[0] != families[1] else ''}{address} was not reached ({broken.text}),"
        f" and programs that try it first wait for it, or fail. {broken.advice}"
    )


def _not_reached(stage: Stage, text: str, advice: str) -> BrokenError:
    return BrokenError(stage, Status.NOT_REACHED, text, advice)


def not_greeted(end: End, received: bytes) -> BrokenError:
    """Return what it means that the connection ended so, or the wait, without a greeting."""
    if end.how is Ending.REJECTED:
        return rejected(end.line)
    if end.how is Ending.UNEXPECTED:
        return no_greeting(received)
    if end.how is Ending.TIMED_OUT:
        return _mute(end.seconds, received)
    if received:
        return no_greeting(received, f", then {_how(end)}")
    return _not_greeted(
        f"{_how(end)} without a word",
        "The program that accepts there does not serve this host: a balancer without a server"
        " behind it, or a filter that does not know this address: ask its administrator, and the"
        " administrators of the network.",
    )


def _how(end: End) -> str:
    """Return how the other side ended the connection, in a word."""
    if end.how is Ending.BROKEN:
        return f"broken, {os.strerror(end.errno)}"
    return "reset" if end.how is Ending.RESET else "closed"


def _mute(timeout: float, received: bytes) -> BrokenError:
    """Return what it means that no greeting, or not all of one, came in time."""
    if received:
        return no_greeting(received, f" and no end of the line within {timeout:g} s")
    return _not_greeted(
        f"connected, but mute for {timeout:g} s",
        "The program that listens there hangs, is overloaded, or waits for its client to send"
        f" first, as web servers do. {_OR_LOST} A longer --timeout shows whether the greeting is"
        " only late, --no-greeting whether it is an ackd whose greeting is empty.",
    )


def no_end(timeout: float) -> BrokenError:
    """Return what it means that the connection did not end when we ended the sending."""
    return _not_greeted(
        f"silent, but not closed within {timeout:g} s",
        "An ackd closes a connection that its client has ended. The program that listens there"
        f" hangs, is overloaded, or is no ackd. {_OR_LOST} A longer --timeout shows whether it is"
        " only late.",
    )


def greeted(received: bytes) -> BrokenError:
    """Return what it means that the server greeted although no greeting was expected."""
    if foreign(received):
        return no_greeting(received)
    said = shown(received.removesuffix(b"\n"))
    return _not_greeted(
        f"it says {said} where no greeting was expected",
        "If that is the greeting of an ackd, leave out --no-greeting. Otherwise it is no ackd:"
        f" {_ASK_OWNER}.",
    )


def no_greeting(received: bytes, more: str = "") -> BrokenError:
    """Return what it means that the first line is not an ackd's; `more` was seen as well."""
    what = foreign(received)
    return _not_greeted(
        f"it is {what}: {shown(received)}" if what else f"it says {shown(received)}{more}",
        f"Another program listens on that port: check whether the port is right, or {_ASK_OWNER}.",
    )


def _not_greeted(text: str, advice: str) -> BrokenError:
    return BrokenError(Stage.GREETED, Status.NO_GREETING, text, advice)


def rejected(greeting: bytes) -> BrokenError:
    """Return what it means that the server said `not connect`."""
    advice = "The ackd there rejects this host: ask its administrator."
    if NOT_ALLOWED.encode() in greeting:
        advice = "The ackd there does not allow this address: ask its administrator for `allow`."
    elif TOO_MANY_CONNECTIONS.encode() in greeting:
        advice = (
            "The ackd there has as many connections as it may have: ask its administrator for"
            " `max_connections` and `max_connections_per_client`."
        )
    elif STOPPING.encode() in greeting:
        advice = "The ackd there is being stopped: try again, or ask its administrator."
    return BrokenError(Stage.GREETED, Status.REFUSED, shown(greeting), advice)


def not_arrived(timeout: float, waiting: int) -> BrokenError:
    """Return what it means that `waiting` bytes were sent and no packet says that they arrived."""
    return SilentError(
        Stage.SENT,
        Status.UNKNOWN,
        f"no packet says within {timeout:g} s that it arrived: {waiting} bytes wait",
        "The connection was there, and now packets get no answer: a firewall drops them, a tunnel"
        " or the host has failed, or many packets are lost: ask the administrators of the network,"
        " then of the host. A longer --timeout shows whether they are only late.",
    )


def no_ack(timeout: float, received: bytes, waiting: int = 0) -> BrokenError:
    """Return what it means that no reply came in time to a payload that has arrived.

    `waiting` bytes have not arrived, because the other side does not read them.
    """
    text = f"no ack within {timeout:g} s"
    if waiting:
        text = f"{text}, and {waiting} bytes wait for it to read"
    if received:
        text = f"no end of the reply within {timeout:g} s: {shown(received)}"
    what = "The beginning of the payload" if waiting else "The payload"
    return SilentError(
        Stage.ACKNOWLEDGED,
        Status.UNKNOWN,
        text,
        f"{what} has arrived at the host, or at a proxy or balancer before it, and no reply comes"
        " back: `ackctl verify RUN` on the server says whether it is recorded. If it is, replies"
        " are lost on the way back: ask the administrators of the network. If not, ask the"
        " administrator of the server for `systemctl status ackd systemd-journald`. A longer"
        " --timeout shows whether the ack is only late.",
    )


def cut_off(stage: Stage, end: End, received: bytes) -> BrokenError:
    """Return what it means that the connection ended in this stage."""
    said = f" after {shown(received)}" if received else ""
    return EndedError(
        stage,
        Status.UNKNOWN,
        f"{_how(end)}{said}",
        "It is unknown whether the payload is recorded. The server, or a firewall or balancer"
        " before it, ended the connection: ask the administrator of the server what its journal"
        " says at this time.",
    )


def echoed() -> BrokenError:
    """Return what it means that the reply is the payload."""
    return _unknown(
        Stage.ACKNOWLEDGED,
        "it sends back what it was sent",
        f"An echo server listens there, which records nothing: {_ASK_OWNER}.",
    )


def no_reply(received: bytes) -> BrokenError:
    """Return what it means that a reply is not an ackd's."""
    what = foreign(received)
    return _unknown(
        Stage.ACKNOWLEDGED,
        f"it is {what}: {shown(received)}" if what else f"it says {shown(received)}",
        f"Another program than an ackd answers there: {_ASK_OWNER}.",
    )


def _unknown(stage: Stage, text: str, advice: str) -> BrokenError:
    return BrokenError(stage, Status.UNKNOWN, text, advice)


def refused(reply: Reply) -> BrokenError:
    """Return what it means that the server said `not received`."""
    advice = "The path is good, but the ackd there refuses the payload: ask its administrator."
    if reply.gives_reason(JOURNAL_UNREACHABLE):
        advice = (
            "The path is good, but the ackd there can't reach its journal: ask its administrator"
            " for `systemctl status systemd-journald`."
        )
    elif reply.gives_reason(LONGER_THAN):
        advice = (
            "The path is good, but the ackd there takes only shorter payloads: ask its"
            " administrator for `max_payload`."
        )
    return BrokenError(Stage.ACKNOWLEDGED, Status.REFUSED, shown(reply.text), advice)


def ended_in_silence(end: End, seconds: float) -> BrokenError:
    """Return what it means that the connection ended after so long a silence."""
    return BrokenError(
        Stage.HOLD,
        Status.NOT_REACHED,
        f"{_how(end)} by the other side after {seconds:.1f} s",
        "The other side ended the connection, perhaps because of the silence: an ackd does so"
        " after its `idle_timeout`, and balancers and proxies have such a time as well. Or the"
        " server was stopped just then: ask its administrator.",
    )


def spoke_in_silence(received: bytes) -> BrokenError:
    """Return what it means that the server sent something although no reply was due."""
    return BrokenError(
        Stage.HOLD,
        Status.NO_GREETING,
        f"it says {shown(received)}",
        f"An ackd sends nothing unless a reply is due: {_ASK_OWNER}.",
    )


def after_silence(broken: BrokenError) -> BrokenError:
    """Return what it means that a payload after a silence was `broken`."""
    advice = broken.advice
    if isinstance(broken, EndedError):
        advice = (
            "The server, or a firewall, NAT or balancer before it, has probably forgotten the"
            " silent connection, and says so only when something is sent: ask its administrator"
            " for a longer time, or send more often."
        )
    elif broken.stage is Stage.SENT:
        advice = (
            "A firewall, NAT or balancer on the way has probably forgotten the silent connection,"
            " and drops its packets: ask its administrator for a longer time, or send more often."
        )
    return BrokenError(Stage.HOLD, broken.status, broken.text, advice)


def lost(traffic: Traffic) -> str:
    """Return what it means that packets were sent again, and arrived then."""
    return (
        f"{traffic.retransmitted} of {traffic.packets} packets had to be sent again: packets are"
        " lost on the way, there or back, or arrive very late: ask the administrators of the"
        " network, then of the server's host, which may be overloaded."
    )
