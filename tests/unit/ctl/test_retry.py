"""After which errors `ackctl send --retry` tries again."""

import pytest

from ackd.client.end import TlsFault, TlsKind
from ackd.client.errors import ClientError, NoServerError, RejectedError, TlsError
from ackd.ctl.send.retry import Retry

AWAY = b"not connect: the journal can't be reached\n"
NOT_ALLOWED = b"not connect: 192.0.2.7 is not allowed here\n"
NO_TLS = b"not connect: this port takes no TLS, connect without it\n"


def in_plain_text(said: bytes) -> TlsError:
    """Return the error for a server that answers the hello of TLS so."""
    return TlsError(TlsFault(TlsKind.NOT_SPOKEN, said=said))


def all_of(*errors: ClientError) -> NoServerError:
    return NoServerError(tuple(("server", error) for error in errors))


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (RejectedError(AWAY), True),
        (RejectedError(NOT_ALLOWED), False),
        (in_plain_text(AWAY), True),
        (in_plain_text(NO_TLS), False),
        (in_plain_text(b"SSH-2.0-OpenSSH_9.2\r\n"), False),
        (all_of(RejectedError(NOT_ALLOWED), RejectedError(AWAY)), True),
        (all_of(RejectedError(NOT_ALLOWED), in_plain_text(NO_TLS)), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: ClientError, again: bool) -> None:
    assert (Retry(1).pause(error) is not None) is again
