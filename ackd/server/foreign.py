"""Recognises clients of other protocols by the first bytes of their connection.

Otherwise ackd would acknowledge a load balancer's PROXY header as a payload, and the client behind
the balancer would take that ack for its own. A web page could write records.
"""

import re

from ackd.protocol import NO_HTTP, NO_PROXY_PROTOCOL, NO_TLS

# HAProxy's proxy-protocol.txt, 2.2 and 2.1: no line of version 1 is longer than 107 bytes.
_PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n"
_PROXY_1 = rb"PROXY (?:TCP[46](?: [0-9A-Fa-f:.]+){2}(?: [0-9]{1,5}){2}\r?|UNKNOWN(?: [^\n]*)?\r)\n"
# The content type `handshake`, and the version of SSL 3.0 to TLS 1.3: RFC 8446, 5.1.
_TLS = rb"\x16\x03[\x00-\x04]"
# RFC 9112, 3: method, target in one of four forms, version. The preface of HTTP/2 is such a line.
_HTTP = (
    rb"[A-Za-z][A-Za-z_-]{0,19} (?:/|\*(?= )|\[|[A-Za-z0-9.+-]+:)[^ \n]*"
    rb" HTTP/[0-9](?:\.[0-9])?\r?\n"
)
_FOREIGN = re.compile(
    b"(?P<proxy>%b|%b)|(?P<tls>%b)|(?P<http>%b)" % (re.escape(_PROXY_2), _PROXY_1, _TLS, _HTTP)
)
_REASONS = {"proxy": NO_PROXY_PROTOCOL, "tls": NO_TLS, "http": NO_HTTP}
# What can still become one of these, but for version 2 of PROXY.
_OPEN = re.compile(
    rb"\x16\x03?|PROXY [^\n]{0,101}"
    rb"|[A-Za-z][A-Za-z_-]{0,19}(?: [^ \n]*(?: [HTP/0-9.]{0,8}\r?)?)?"
)
# A longer beginning can only be an HTTP request in the middle of its target. The bytes that are
# kept hold all of the line but a part of the target.
_LONGEST, _KEPT_FIRST, _KEPT_LAST = 4096, 128, 32


class ForeignClientError(Exception):
    """The client speaks another protocol; `reason` says which, and what its owner can do."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def examine(beginning: bytes) -> bytes | None:
    """Return None if a connection that begins so is not foreign, whatever comes next.

    Otherwise return what to put before the next bytes for the next call; only so many bytes are
    kept as are needed. The decision comes with the end of the first line at the latest, except for
    the header of PROXY version 2, which itself holds such ends. Raises ForeignClientError.
    """
    foreign = _FOREIGN.match(beginning)
    if foreign:
        raise ForeignClientError(_REASONS[foreign.lastgroup or ""])
    is_open = b"\n" not in beginning and _OPEN.fullmatch(beginning)
    if not (is_open or _PROXY_2.startswith(beginning)):
        return None
    if len(beginning) <= _LONGEST:
        return beginning
    return beginning[:_KEPT_FIRST] + beginning[-_KEPT_LAST:]
