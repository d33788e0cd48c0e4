"""The service manager's side of things; the only room that knows it."""

from collections.abc import Mapping


def started_us(environ: Mapping[str, str], pid: int) -> bool:
    """Say whether systemd started this very process, and not a shell that it has started.

    Source: systemd.exec(5), $SYSTEMD_EXEC_PID.
    """
    return environ.get("SYSTEMD_EXEC_PID") == str(pid)
