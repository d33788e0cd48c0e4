"""Where the status socket of an ackd is; apart from the report, which only few processes need."""


def socket_path(name: str) -> str:
    """Return the path of the socket of ackd.service, or, for `@NAME`, of ackd@NAME.service.

    The units ackd-status.socket and ackd-status@.socket have the same paths.
    """
    return f"/run/ackd{name}.status"


def abstract_name(pid: int) -> str:
    """Return the name of the socket of an ackd that systemd has given none: unix(7)."""
    return f"\0ackd-status/{pid}"
