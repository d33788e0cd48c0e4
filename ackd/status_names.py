"""Where the status socket of an ackd is; apart from the report, which only few processes need."""

NAME = "status"  # in the runtime directory of a service


def own_path(name: str) -> str:
    """Return the path of ackd's own socket; `name` is "", or `@NAME` for ackd@NAME.service.

    Only root and ackd's user can reach it.
    """
    return f"/run/ackd{name}/{NAME}"


def socket_path(name: str) -> str:
    """Return the path of the socket from which the proxy of systemd leads to the own one.

    The units ackd-status.socket and ackd-status@.socket have the same paths.
    """
    return f"/run/ackd{name}.status"


def abstract_name(pid: int) -> str:
    """Return the name of the socket of an ackd that systemd has given none: unix(7)."""
    return f"\0ackd-status/{pid}"
