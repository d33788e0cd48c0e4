"""Whether journald stores the records that it takes: a dropped payload must get no ack.

journald silently drops records if its settings say so, or the settings of ackd's unit. A sandboxed
service can't read the journal, but it can read these settings.

A setting that can't be read is unknown, and an unknown setting is no reason to refuse payloads.
"""

import glob
import logging
import os
from collections.abc import Mapping
from math import inf

from ackd.journal.settings import (
    LEVELS,
    Key,
    Setting,
    Settings,
    UnknownError,
    assign_kernel_options,
    read_settings,
)
from ackd.printable import printable
from ackd.protocol import NOT_STORED
from ackd.records import Priority

log = logging.getLogger("ackd")

# Records per second. Neither ackd nor journald reaches this rate, so a higher limit drops nothing.
# ackd can't count records against a lower limit: journald counts when it reads them, not before.
_UNREACHABLE = 100_000
# Where systemd writes what journald must know about a unit: unit_export_state_files, unit.c.
_UNITS = "run/systemd/units"
# The attribute of a unit's cgroup that has its LogFilterPatterns=, since systemd 253.
_FILTER = "user.journald_log_filter_patterns"


class Storing:
    """Knows why journald does not store payloads.

    `obstacle` is the reason in words. It is empty if journald stores payloads, or if this is
    unknown; then `unknown` says why.
    """

    def __init__(
        self, socket: str, environ: Mapping[str, str], *, is_service: bool, root: str = "/"
    ) -> None:
        """Take the path of journald's socket, and whether systemd has started this very process.

        Rate limits are regarded for a service only. Any other process shares its limit with
        processes that ackd does not know, and its user has no unit in which to lift the limit.
        """
        self.obstacle = ""
        self.unknown = ""
        self._directory = os.path.dirname(socket)
        self._environ = environ
        self._is_service = is_service
        self._root = root
        self._settings: Settings = {}  # those in force, as far as they are known

    def look(self) -> None:
        """Find out which settings are in force.

        journald reads its settings only when it starts. If they have changed since then, the former
        ones are in force, and ackd knows them only from an earlier call.
        """
        journald = self.journald
        self._look(journald, self._started(journald), self._settings)

    def look_at_new(self) -> None:
        """Find out which settings a journald that is about to start will have."""
        self._look(self.journald, inf, {})

    def _look(self, journald: str, read_at: float, known: Settings) -> None:
        self._settings = known
        if not journald:
            return
        try:
            self._settings = read_settings(self._root, f"{journald}.conf", read_at)
        except UnknownError as error:
            self._report_unknown(str(error))
        else:
            self.unknown = ""
            if journald == "journald":
                assign_kernel_options(self._settings, self._kernel_command_line())
        self.obstacle = printable(os.fsencode(self._find_obstacle()))

    def _report_unknown(self, why: str) -> None:
        if why != self.unknown:
            self.unknown = why
            log.warning(
                "can't find out whether the journal stores payloads: %s",
                printable(os.fsencode(why)),
            )

    def _find_obstacle(self) -> str:
        unit = self.unit
        needed = (
            (self._settings.get(Key.STORAGE), 1),
            (self._settings.get(Key.LEVEL), Priority.INFO),
            (self._level_max(unit), Priority.INFO),
        )
        for setting, least in needed:
            if setting and setting.number < least:
                return f"{NOT_STORED}payloads: {setting}"
        if unit and self._has_filter():
            return f"{NOT_STORED}all payloads: LogFilterPatterns= of {unit}"
        if unit and self._is_service:
            interval, burst = self._interval(unit), self._burst(unit)
            if interval and burst and 0 < burst.number < interval.number * _UNREACHABLE:
                return f"{NOT_STORED}all payloads: {burst}, {interval}"
        return ""

    # journald

    def _path(self, *parts: str) -> str:
        return os.path.join(self._root, *parts)

    @property
    def journald(self) -> str:
        """The name of the journald that has our socket; empty if it is unknown.

        With LogNamespace=, a service finds the directory of the namespace at /run/systemd/journal.
        A container may have the socket of its host. The files are those of the container then, and
        say nothing about the journald of the host. Such a container has no units.
        """
        if not os.path.isdir(self._path(_UNITS)):
            return ""
        system = self._path("run/systemd/journal")
        for path in (*glob.glob(f"{glob.escape(system)}.*"), system):
            try:
                ours = os.path.samefile(path, self._directory)
            except OSError:
                continue
            if ours:
                _, _, namespace = os.path.basename(path).partition(".")
                return f"journald@{namespace}" if namespace else "journald"
        return ""

    def _started(self, journald: str) -> float:
        """Return when journald was started, in seconds since 1970; inf if it does not run."""
        try:
            link = os.lstat(self._path(_UNITS, f"invocation:systemd-{journald}.service"))
        except OSError:
            return inf
        return link.st_ctime

    def _kernel_command_line(self) -> str:
        """Return what journald takes for the kernel's command line; empty if it is unknown.

        In a container, this is the command line of PID 1: proc_cmdline, src/basic/proc-cmdline.c.
        ackd's unit hides both, and passes them as credentials.
        """
        in_container = os.path.exists(self._path("run/systemd/container"))
        credential = "init-command-line" if in_container else "kernel-command-line"
        paths = (
            os.path.join(self._environ.get("CREDENTIALS_DIRECTORY", os.devnull), credential),
            self._path("proc/1/cmdline" if in_container else "proc/cmdline"),
        )
        for path in paths:
            try:
                with open(path, "rb") as file:
                    return file.read().replace(b"\0", b" ").decode(errors="surrogateescape")
            except OSError:
                continue
        return ""

    # The unit

    @property
    def unit(self) -> str:
        """The name of our unit; empty if there is none, or if it is uncertain.

        The path of a cgroup has slices, then the unit: cg_path_get_unit, src/basic/cgroup-util.c.
        """
        cgroup = self._cgroup()
        unit = os.path.basename(cgroup)
        invocation = self._link("invocation", unit)
        return unit if invocation and invocation == self._environ.get("INVOCATION_ID") else ""

    def _cgroup(self) -> str:
        """Return the path of the cgroup of our unit, from the root of the hierarchy."""
        try:
            with open(self._path("proc/self/cgroup"), "rb") as file:
                lines = file.read().decode(errors="surrogateescape").split("\n")
        except OSError:
            return ""
        unified = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
        parts = unified[0].split("/") if unified else []
        slices = next((n for n, part in enumerate(parts) if not part.endswith(".slice")), 0)
        return "/".join(parts[: slices + 1])

    def _link(self, name: str, unit: str) -> str:
        try:
            return os.readlink(self._path(_UNITS, f"{name}:{unit}"))
        except OSError:
            return ""

    def _number(self, name: str, unit: str) -> int | None:
        value = self._link(name, unit)
        return int(value) if value.isdecimal() else None

    def _level_max(self, unit: str) -> Setting | None:
        number = self._number("log-level-max", unit)
        if number is None or number >= len(LEVELS):
            return None
        return Setting(number, f"LogLevelMax={LEVELS[number]}", f"of {unit}")

    def _interval(self, unit: str) -> Setting | None:
        number = self._number("log-rate-limit-interval", unit)
        if number is None:
            return self._of_journald(Key.INTERVAL)
        seconds = number / 1e6
        return Setting(seconds, f"LogRateLimitIntervalSec={seconds:g}s", f"of {unit}")

    def _burst(self, unit: str) -> Setting | None:
        number = self._number("log-rate-limit-burst", unit)
        if number is None:
            return self._of_journald(Key.BURST)
        return Setting(number, f"LogRateLimitBurst={number}", f"of {unit}")

    def _of_journald(self, key: Key) -> Setting | None:
        """Return half of journald's own rate limit; if one half is 0, so is the other."""
        interval, burst = self._settings.get(Key.INTERVAL), self._settings.get(Key.BURST)
        setting = self._settings.get(key)
        if interval and burst and setting and 0 in (interval.number, burst.number):
            return setting._replace(number=0)
        return setting

    def _has_filter(self) -> bool:
        path = self._path("sys/fs/cgroup", self._cgroup())
        try:
            return bool(os.getxattr(path, _FILTER))
        except OSError:
            return False
