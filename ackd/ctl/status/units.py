"""The ackd of this host, by their units."""

import re
from glob import glob
from pathlib import Path

from ackd.ctl.exit_status import Status
from ackd.ctl.status.asking import AskError, ask
from ackd.status import DaemonStatus
from ackd.status_names import socket_path

# The links that `systemctl enable` makes. To ask systemd itself takes D-Bus, or root.
_ENABLED = "/etc/systemd/system/*.wants/ackd*.service"
_UNIT = re.compile(r"ackd(|@.+)\.service")


def reports(name: str | None = None) -> dict[str, DaemonStatus | None]:
    """Return what each ackd of this host reports, or the one of this `name`, by their units.

    None stands for an ackd that does not answer, although it has this name, or systemd is to start
    it at boot. Raises AskError if the user may not ask.
    """
    expected = enabled_names() if name is None else {name}
    names = expected | _names_of_sockets() if name is None else expected
    found: dict[str, DaemonStatus | None] = {}
    for each in sorted(names):
        try:
            found[_unit_of(each)] = ask(each)
        except AskError as error:
            if error.status is Status.USAGE:
                raise
            if each in expected:
                found[_unit_of(each)] = None
    return found


def _unit_of(name: str) -> str:
    """Return the unit of an ackd, "" of one that systemd has not started."""
    return "" if name.isdecimal() else f"ackd{name}.service"


def enabled_names(pattern: str = _ENABLED) -> set[str]:
    """Return the names of all ackd that systemd is to start at boot."""
    matches = (_UNIT.fullmatch(Path(path).name) for path in glob(pattern))
    return {match[1] for match in matches if match}


def _names_of_sockets() -> set[str]:
    """Return the names of all ackd that have run since boot: their sockets stay."""
    begin, end = socket_path("*").split("*")
    return {path.removeprefix(begin).removesuffix(end) for path in glob(socket_path("*"))}
