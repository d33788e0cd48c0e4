"""The parts put together: the server and its loop, signals, reloads, and the service manager."""

import logging
import os
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from ackd.config import DEFAULT_BIND, Config, ConfigError, Durability, Recording
from ackd.journal.log_handler import RecordHandler
from ackd.journal.recorder import Recorder
from ackd.loop import READABLE, Loop
from ackd.protocol import STOPPING
from ackd.records import Kind, Priority, Record
from ackd.server.listener import ListenError, Listeners, open_listeners
from ackd.server.server import Server
from ackd.service import systemd
from ackd.service.control import Control, ReloadError
from ackd.service.disk_log import DiskLogError, check_lasting
from ackd.service.expiry import Expiry
from ackd.service.safety import note_reading_ended, recovery, watch_archives
from ackd.service.status_socket import StatusSocket
from ackd.service.store import (
    Stored,
    remove_listeners,
    save_connections,
    save_listeners,
    take_connections,
)

if TYPE_CHECKING:
    from ackd.service.certificates import Certificates

log = logging.getLogger("ackd")

# Descriptors beside those of admitted clients: listeners, the journal, the loop, rejected clients.
_SPARE_DESCRIPTORS = 320
# Seconds that a stop waits at most until all is on the disk and journald has certainly stored it.
_STORING = 2.0
# Seconds that a hand-over waits at most until all is on the disk.
_COMMIT = 5.0


class CapacityError(Exception):
    """The longest payloads could never be recorded; the text says what to do."""


class RecordingError(Exception):
    """The sink is gone for good, such as a closed terminal; the text names the sink."""


class Service:
    """One run of the daemon, from its listeners to its end."""

    def __init__(self, configure: Callable[[], Config], recorder: Recorder, stored: Stored) -> None:
        """Load certificates, open listeners; raises ConfigError, CapacityError, ListenError."""
        self._configure = configure
        self._recorder = recorder
        self._stored = stored
        self._config = configure()
        self._began = monotonic()
        self._ending = self._handing_over = self._hurried = False
        self._check_capacity(self._config)
        self._certificates = _certificates(self._config)
        self._listeners = self._open_listeners(self._config, stored.listeners)
        self._recovery = recovery(recorder, os.environ)

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that must stay open when the process goes into the background."""
        recorder = self._recorder
        listeners = (listener.fileno() for listener in self._listeners.values())
        return [recorder.sink.fileno(), *recorder.log.descriptors, *listeners]

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until a signal ends the service; `ready` is called when clients can connect.

        Raises RecordingError at the end if nothing could be recorded any more.
        """
        log.addHandler(RecordHandler(self._recorder))
        log.propagate = False
        self._loop = Loop()
        # The stored listeners first: clients that wait before a listener that is not wanted any
        # more are still accepted.
        self._server = Server(self._config, self._stored.listeners, self._recorder, self._loop)
        self._expiry = Expiry(self._loop.timers)
        # Before any process can know that ackd runs, and send a signal.
        self._watch_signals()
        self._open_control()
        self._open_status()
        self._recorder.watch(self._loop)
        watch_archives(self._recorder, self._loop)
        if self._recovery:
            self._loop.timers.watch(self._recovery)
        self._recorder.resume()
        self._recorder.sink.inspect()
        self._enforce(self._config, self._listeners, self._certificates)
        self._take_over()
        status = self._report_to_manager()
        ready()
        self._server.before_sleep(monotonic())
        while not self._server.ended:
            self._server.round(self._server.timeout())
            status.report()
            if self._recorder.sink.gone:
                self._stop()
        self._end()
        sink = self._recorder.sink
        if sink.gone:
            raise RecordingError(f"{sink.name} can't be written any more: {sink.why}")

    def _check_capacity(self, config: Config) -> None:
        """Refuse to take payloads that could never be recorded."""
        needed = self._recorder.longest(config.max_payload)
        capacity = self._recorder.sink.capacity
        if needed > capacity:
            raise CapacityError(
                f"max_payload: {config.max_payload} needs datagrams of {needed} bytes, but"
                f" net.core.wmem_max allows {capacity} here: raise it or lower max_payload"
            )

    def _open_listeners(self, config: Config, existing: Listeners) -> Listeners:
        """Return the listeners of a socket unit, or else of the configured addresses.

        A host without IPv6 can't listen on all default addresses, and need not.
        """
        if self._stored.unit_listeners:
            return self._stored.unit_listeners
        need_all = config.bind != DEFAULT_BIND
        return open_listeners(config.bind, config.port, existing, need_all)

    def _enforce(
        self, config: Config, listeners: Listeners, certificates: "Certificates | None"
    ) -> None:
        """Put settings, listeners and certificates into force, and log that."""
        log.setLevel(logging.DEBUG if config.debug else logging.INFO)
        _allow_descriptors(config.max_connections)
        before = self._server.listeners
        if not self._stored.unit_listeners:
            save_listeners({key: listeners[key] for key in listeners if key not in before})
        remove_listeners(key for key in before if key not in listeners)
        self._server.configure(config, listeners, certificates.tls if certificates else None)
        self._log_listening()
        if certificates:
            log.info(certificates.description)
        self._expiry.watch(certificates.validities if certificates else ())
        if config.record is Recording.NONE:
            log.warning("record: none: payloads are acknowledged, but not recorded")

    def _log_listening(self) -> None:
        note = (
            ", passed by systemd: bind and port are not used" if self._stored.unit_listeners else ""
        )
        where = self._server.endpoints
        log.info("listening on %s%s", where, note, extra={"kind": Kind.LISTENING})

    def _report_to_manager(self) -> systemd.ServiceStatus:
        """Report that ackd is ready before the first client can connect; return the reporter."""
        timers = self._loop.timers
        timers.watch(systemd.Watchdog(os.environ))
        status = systemd.ServiceStatus(os.environ, self._describe, self._can_record, timers)
        status.report()
        return status

    def _can_record(self) -> bool:
        return self._recorder.sink.reachable

    def _describe(self) -> str:
        counters = self._server.counters
        counts = (
            f"clients: {self._server.connected};"
            f" payloads: {counters.acknowledged} acknowledged, {counters.refused} refused"
        )
        parts = (self._server.trouble, self._expiry.trouble, *self._notes, counts)
        return "; ".join(filter(None, parts))

    def _report(self) -> bytes:
        """Return what the status socket sends."""
        from ackd.service.report import report  # here: most ackds are never asked

        validities = self._expiry.validities
        return report(self._server, self._recorder, validities, self._began, self._notes)

    @property
    def _notes(self) -> tuple[str, str]:
        """What an administrator may wait for, as texts, which may be empty."""
        return self._recovery.progress if self._recovery else "", self._waiting

    @property
    def _waiting(self) -> str:
        """What the log on the disk has that the journal does not have yet, as text."""
        records = self._recorder.log
        if not self._recorder.acks_wait:
            return ""
        if self._config.durability is Durability.JOURNAL:
            return (
                f"durability: journal needs another restart, once the journal has the last"
                f" {self._recorder.unsettled} records of the log on the disk"
            )
        waiting = records.synced - records.sent
        return f"records that wait for the journal: {waiting}" if waiting else ""

    # Signals and reloads

    def _watch_signals(self) -> None:
        """Have signals arrive in the loop as bytes, signal.set_wakeup_fd()."""
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        self._signals = receiver, sender
        reactions: dict[int, Callable[[], object]] = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._interrupt,
            signal.SIGHUP: self._reload_by_signal,
            signal.SIGUSR1: self._record_counters,
            signal.SIGUSR2: self._hand_over,
        }

        def on_signal() -> None:
            for number in receiver.recv(4096):
                reactions[number]()

        self._loop.watch(receiver, READABLE, on_signal)
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        for number in reactions:
            signal.signal(number, lambda *_: None)

    def _open_control(self) -> None:
        self._control: Control | None = None
        try:
            self._control = Control(self._reload, os.environ)
        except OSError as error:
            log.warning("--reload is not possible: %s", error.strerror)
        else:
            self._loop.watch(self._control, READABLE, self._control.on_readable)

    def _open_status(self) -> None:
        self._status: StatusSocket | None = None
        try:
            self._status = StatusSocket(os.environ, self._report, self._loop)
        except OSError as error:
            log.warning("ackctl status is not possible: %s", error.strerror)

    def _stop(self) -> None:
        if not self._ending:
            self._ending = True
            systemd.notify("STOPPING=1")
            # Otherwise the kernel would go on to accept clients, and no process would serve them.
            remove_listeners(self._server.listeners)
            self._server.ending.drain()

    def _interrupt(self) -> None:
        if self._server.draining:
            self._hurried = True
            self._server.ending.halt()
        else:
            self._stop()

    def _hand_over(self) -> None:
        """Leave the connections to the next process, if there is a store to leave them in."""
        if not systemd.listens(os.environ):
            self._stop()
        elif not self._ending:
            self._ending = self._handing_over = True
            self._server.ending.hand_over()

    def _reload(self) -> str:
        """Load the configuration and put it into force, and return a note about it.

        Or change nothing, and raise ReloadError.
        """
        if self._ending:
            raise ReloadError(STOPPING)
        systemd.notify_reloading()
        # With ExecReload=, systemd has put changed settings of the unit into force, even if the
        # reload fails: unit_export_state_files, src/core/unit.c.
        self._recorder.sink.inspect()
        try:
            config = self._configure()
            check_lasting(self._config, config, in_use=self._recorder.acks_wait)
            self._check_capacity(config)
            certificates = _certificates(config)
            listeners = self._open_listeners(config, self._server.listeners)
        except (ConfigError, DiskLogError, CapacityError, ListenError) as error:
            for line in str(error).splitlines():
                log.error("not reloaded: %s", line, extra={"kind": Kind.NOT_RELOADED})
            raise ReloadError(str(error)) from error
        else:
            self._enforce(config, listeners, certificates)
            log.info("reloaded", extra={"kind": Kind.RELOADED})
            return "\n".join(filter(None, (self._expiry.trouble, _note(certificates))))
        finally:
            systemd.notify("READY=1")

    def _reload_by_signal(self) -> None:
        with suppress(ReloadError):  # it is logged
            self._reload()

    def _record_counters(self) -> None:
        counts = vars(self._server.counters)
        text = ", ".join(f"{name} {count}" for name, count in counts.items())
        fields = tuple((f"ACKD_{name.upper()}", count) for name, count in counts.items())
        self._recorder.note(Record(Kind.COUNTERS, Priority.INFO, f"counters: {text}", None, fields))

    # The beginning and the end

    def _take_over(self) -> None:
        """Continue the connections that the previous process has left."""
        count = len(self._stored.clients)
        connections = take_connections(self._stored)
        if self._stored.problem:
            text = "can't use the state of the previous process, its clients are disconnected: %s"
            log.error(text, self._stored.problem)
        if self._stored.log_problem:
            log.error("the log can't be used: %s", self._stored.log_problem)
        if self._stored.state.notes:
            self._recorder.append_notes(self._stored.state.notes)
        for client, snapshot in connections:
            client.setblocking(False)
            self._server.take_over(client, snapshot)
        if count:
            log.info("took over clients: %d", count, extra={"kind": Kind.TAKEN_OVER})

    def _end(self) -> None:
        """Log the end; leave connections to the next process, or wait for the journal."""
        seconds = 0.0 if self._hurried else _COMMIT if self._handing_over else _STORING
        deadline = monotonic() + seconds
        self._server.finish_commits(deadline)
        self._server.report_left_out()
        clients = self._server.remaining
        text = f"stopped, clients handed over: {clients}" if clients else "stopped"
        log.info(text, extra={"kind": Kind.STOPPED})
        self._server.finish_commits(deadline)
        self._recorder.resume()
        if self._handing_over:
            save_connections(self._server.snapshots())
        else:
            self._await_stored(deadline)
        self._recorder.close()
        note_reading_ended(os.environ)
        if self._control:
            self._control.close()
        if self._status:
            self._status.close()
        self._loop.close()

    def _await_stored(self, deadline: float) -> None:
        """Wait for a moment until journald has certainly stored everything."""
        recorder = self._recorder
        if not recorder.sink.confirms:
            return
        while recorder.unsettled and monotonic() < deadline and not self._hurried:
            recorder.sink.settle()
            self._server.round(_STORING / 200)
        if recorder.unsettled:
            keeps = recorder.acks_wait or self._stored.log_outlives_ackd
            what_next = "; the next start records them again" if keeps else ""
            text = "journald may not have stored the last records yet: %d%s"
            log.warning(text, recorder.unsettled, what_next)


def _certificates(config: Config) -> "Certificates | None":
    """Return what serves clients over TLS, if the configuration asks for that.

    Raises ConfigError.
    """
    if config.tls_certificate is None:
        return None
    from ackd.service.certificates import load  # here: OpenSSL would delay every other start

    return load(config, os.environ)


def _note(certificates: "Certificates | None") -> str:
    """Log and return what a reload has not done."""
    if not (certificates and certificates.credentials):
        return ""
    keys = ", ".join(certificates.credentials)
    note = f"{keys}: credentials are as before, because systemd reads them at a restart only"
    log.info(note)
    return note


def _allow_descriptors(clients: int) -> None:
    """Raise the limit of open descriptors to what the clients need, as far as that is allowed."""
    needed = clients + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
    if hard < needed:
        text = "max_connections: %d need %d descriptors, but only %d are allowed (LimitNOFILE=)"
        log.warning(text, clients, needed, hard)
