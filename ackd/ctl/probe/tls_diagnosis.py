"""The meaning of each failure of TLS, and which person to ask. All sentences about it are here."""

from time import time

from ackd.client.end import Certificate, EndKind, TlsFault, TlsKind
from ackd.client.errors import TlsError, describe_fault, describe_time, shortened
from ackd.ctl.exit_status import Status
from ackd.ctl.probe.authorities import Authority
from ackd.ctl.probe.finding import BrokenError, Stage
from ackd.printable import printable
from ackd.protocol import NO_TLS

# Seconds before the end of a certificate from which on a warning comes: two weeks.
_SOON = 14 * 86400
_ASK = "Ask the administrator of the server"
_BETWEEN = (
    "something between here and the server, such as a proxy or a firewall, ends TLS in its place:"
    " then ask the administrators of the network"
)
_CHANGED = (
    f"{_ASK} what its journal says at this time. A proxy or firewall on the way that changes what"
    " passes may be the cause as well: ask the administrators of the network."
)
_ADVICE = {
    TlsKind.WRONG_NAME: "Another server answers there, or the server has other names. Check the"
    f" name or address. {_ASK} for a certificate that is for it. If the server is the right one"
    " under one of its other names, give that name with --server-name.",
    TlsKind.NOT_VERIFIED: f"{_ASK} for a certificate that clients can verify.",
    TlsKind.CERTIFICATE_WANTED: "The server takes only clients with a certificate that an"
    f" authority of its choice has signed. {_ASK} for a certificate and its key, and give them with"
    " --cert and --cert-key.",
    TlsKind.CERTIFICATE_REJECTED: f"{_ASK} which certificates the server takes, an ackd those of"
    " `tls_client_ca`. The certificate of --cert must be signed by that authority, be valid today,"
    " and be for clients.",
    TlsKind.NOTHING_IN_COMMON: f"ackctl speaks TLS 1.2 and later versions. {_ASK} to allow one of"
    " them, with the ciphers that are usual today.",
    TlsKind.GIVEN_UP: f"{_ASK} what its journal says at this time.",
    TlsKind.DAMAGED: _CHANGED,
    TlsKind.OTHER: _CHANGED,
}
_CLOSED = (
    "The server, or a firewall or load balancer before the server, ended the connection instead of"
    f" speaking TLS. {_ASK} whether that port speaks TLS, and what the journal says at this time."
    " Then ask the administrators of the network."
)
_MUTE = (
    "The program that listens there hangs, is overloaded, or speaks no TLS and waits. Or packets"
    f" are lost on the way. {_ASK} whether that port speaks TLS. Then ask the administrators of the"
    " network. A longer --timeout shows whether the answer is only late."
)


def not_encrypted(
    error: TlsError, ca: str | None, server: str = "", before: Authority | None = None
) -> BrokenError:
    """Return what it means that there is a connection, but no TLS over it.

    `ca` is the file of --ca, if that was given. `server` is a well-known one, without TLS, that
    sends what the server has sent. `before` is the authority of the last time, if it is another.
    """
    fault = error.fault
    if error.end:
        late = error.end.how is EndKind.TIMED_OUT
        return _broken(f"{error}", _MUTE if late else _CLOSED)
    if fault.kind is TlsKind.NOT_SPOKEN:
        text = f"{server} answers: {printable(fault.said)}" if server else f"{error}"
        return _broken(text, _not_spoken(fault))
    broken = failed(fault, Stage.ENCRYPTED, ca)
    if before:
        broken.advice += f" {_signed_before(before)}"
    return broken


def failed(fault: TlsFault, stage: Stage, ca: str | None = None) -> BrokenError:
    """Return what it means that TLS failed in this stage."""
    kind = fault.kind
    if kind is TlsKind.UNKNOWN_AUTHORITY:
        advice = _unknown_authority(ca)
    elif kind in (TlsKind.EXPIRED, TlsKind.NOT_YET_VALID):
        advice = (
            f"The clock of this host says {describe_time(time())}. If that is right, ask the"
            " administrator of the server for a new certificate."
        )
    else:
        advice = _ADVICE[kind]
    rejected = kind in (TlsKind.CERTIFICATE_WANTED, TlsKind.CERTIFICATE_REJECTED)
    return _broken(describe_fault(fault), advice, stage, rejected)


def _broken(
    text: str, advice: str, stage: Stage = Stage.ENCRYPTED, rejected: bool = False
) -> BrokenError:
    return BrokenError(stage, Status.REFUSED if rejected else Status.NO_GREETING, text, advice)


def _unknown_authority(ca: str | None) -> str:
    if ca is None:
        return (
            "The server's administrator may have an authority of their own: ask for its"
            f" certificate, and give the file with --ca. Or {_BETWEEN}. Without --ca ackctl trusts"
            " the authorities of this system, in Debian the package ca-certificates."
        )
    return (
        f"None of the certificates in {ca} has signed it. The server has got a certificate of"
        f" another authority, or {_BETWEEN}. {_ASK} which authority has signed its certificate."
    )


def _not_spoken(fault: TlsFault) -> str:
    if NO_TLS.encode() in fault.said:
        return (
            "An ackd without TLS listens there. Ask its administrator for a port with TLS, or leave"
            " out --tls where nobody on the way can read or change what is sent."
        )
    return (
        "An ackd without TLS, which greets so, or another program listens on that port. Check"
        " whether the port is right. Ask the administrator of the host on which port ackd speaks"
        " TLS."
    )


def another_authority(certificate: Certificate, before: Authority) -> str:
    """Return a warning: another authority than the last time has signed a certificate."""
    now = _described(certificate.issuer, certificate.issuer_organisation)
    return (
        f"{now} has signed the certificate of the server. {_signed_before(before)} The server has a"
        f" certificate of another authority now, or {_BETWEEN}. {_ASK} which authority has signed"
        " its certificate. If this one is right, probe with --accept-authority; until then ackctl"
        " repeats this warning."
    )


def _signed_before(before: Authority) -> str:
    authority, when = _described(before.name, before.organisation), describe_time(before.seen)
    return f"The last time, on {when}, {authority} had signed the certificate of the server."


def _described(name: str, organisation: str) -> str:
    """Return an authority in words."""
    return shortened(name) + (f" of {shortened(organisation)}" if organisation else "")


def expires_soon(certificate: Certificate) -> str:
    """Return a warning if a certificate is valid for less than two weeks; else ""."""
    left = certificate.not_after - time()
    if left > _SOON:
        return ""
    return (
        f"The certificate of the server expires soon, on {describe_time(certificate.not_after)}."
        f" {_ASK} to renew it."
    )
