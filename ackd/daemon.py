"""ackd: arguments, logging, signals, detaching, and the parts put together."""

import argparse
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from ackd import __version__, journal, syslog, systemd
from ackd.config import DEFAULT_BIND, DEFAULT_PATH, BadValueError, Config, ConfigError, check, load
from ackd.datagram import DatagramSocket
from ackd.journal import JournalFormat
from ackd.listener import ListenError, Listeners, name, open_listeners
from ackd.recorder import Recorder, RecordHandler
from ackd.records import Kind, Priority, Record
from ackd.server import Server
from ackd.syslog import SyslogFormat
from ackd.terminal import Stream, TerminalFormat

log = logging.getLogger("ackd")

# Beside those of clients: listeners, the journal, the selector, those turned away.
_SPARE_DESCRIPTORS = 320


class StartError(Exception):
    """Something that keeps the daemon from starting; the text says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ackd; return its exit status: 0 stopped, 1 could not start, 2 usage or configuration."""
    options = _parser().parse_args(arguments)
    try:
        config = _configure(options)
        if options.check_config:
            print(f"ackd: {options.config or DEFAULT_PATH}: good")
            return 0
        return _start(options, config)
    except ConfigError as error:
        for problem in error.problems:
            print(f"ackd: {problem}", file=sys.stderr)
        return 2
    except (StartError, ListenError) as error:
        print(f"ackd: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ackd", description="Record each line that arrives over TCP, then acknowledge it."
    )
    option = parser.add_argument
    option(
        "--config", metavar="FILE", type=os.path.abspath, help=f"read this file, not {DEFAULT_PATH}"
    )
    option("--check-config", action="store_true", help="say whether the configuration is good")
    option(
        "--bind",
        metavar="ADDRESS",
        action="append",
        type=_setting("bind", str),
        help="listen on this address, whatever the file says; can be given more than once",
    )
    option("--port", type=_setting("port", int), help="listen on this port, whatever the file says")
    option("--debug", action="store_true", help="record every step of every connection")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--journal", metavar="SOCKET", help=f"record in this journal, not {journal.SOCKET}"
    )
    where.add_argument("--terminal", action="store_true", help="record on the standard output")
    option("--detach", action="store_true", help="go into the background (without systemd)")
    option("--pidfile", metavar="FILE", help="keep the number of the detached process there")
    option("--version", action="version", version=f"ackd {__version__}")
    return parser


def _setting(key: str, convert: Callable[[str], object]) -> Callable[[str], Any]:
    """Return what turns an option's text into the value of a configuration key."""

    def read(text: str) -> Any:
        try:
            return check(key, convert(text))
        except BadValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    read.__name__ = key  # argparse names it where `convert` fails
    return read


def _configure(options: argparse.Namespace) -> Config:
    """Return the configuration with what the command line overrides."""
    config = load(options.config or DEFAULT_PATH, optional=options.config is None)
    if options.bind:
        config = replace(config, bind=tuple(a for addresses in options.bind for a in addresses))
    if options.port is not None:
        config = replace(config, port=options.port)
    return replace(config, debug=config.debug or options.debug)


def _start(options: argparse.Namespace, config: Config) -> int:
    recorder = _recorder(options)
    _check_capacity(config, recorder)
    listeners = _open_listeners(config, {})
    service = Service(options, config, listeners, recorder)
    if options.detach:
        return _detach(options, service)
    service.run()
    return 0


def _recorder(options: argparse.Namespace) -> Recorder:
    """Return where records go: as asked for, or the journal, or what there is instead."""
    if options.terminal:
        return _on_terminal()
    expected = options.journal or systemd.started_us(os.environ, os.getpid())
    if expected or os.path.exists(journal.SOCKET):
        return Recorder(DatagramSocket(options.journal or journal.SOCKET), JournalFormat())
    if not options.detach:
        return _on_terminal()
    if os.path.exists(syslog.SOCKET):
        return Recorder(DatagramSocket(syslog.SOCKET), SyslogFormat())
    raise StartError(
        f"--detach: there is no journal and no {syslog.SOCKET} to record in: start a syslog daemon"
    )


def _on_terminal() -> Recorder:
    colour = os.isatty(1) and "NO_COLOR" not in os.environ
    return Recorder(Stream(1), TerminalFormat(colour))


def _check_capacity(config: Config, recorder: Recorder) -> None:
    """Refuse to take payloads that could never be recorded."""
    needed, capacity = recorder.longest(config.max_payload), recorder.sink.capacity
    if needed > capacity:
        raise StartError(
            f"max_payload: {config.max_payload} needs datagrams of {needed} bytes, but"
            f" net.core.wmem_max allows {capacity} here: raise it or lower max_payload"
        )


def _open_listeners(config: Config, existing: Listeners) -> Listeners:
    """Open what is missing; a host without IPv6 can't open all of the defaults, and need not."""
    need_all = config.bind != DEFAULT_BIND
    return open_listeners(config.bind, config.port, existing, need_all)


def _allow_descriptors(config: Config) -> None:
    """Raise the limit of open descriptors as far as the clients need and we may."""
    needed = config.max_connections + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
    if hard < needed:
        text = "max_connections: %d need %d descriptors, but only %d are allowed (LimitNOFILE=)"
        log.warning(text, config.max_connections, needed, hard)


def _detach(options: argparse.Namespace, service: "Service") -> int:
    # Imported only where it is needed: python-daemon takes a third of the time to start.
    from ackd.detach import Pidfile, RunningError, detach

    if systemd.started_us(os.environ, os.getpid()):
        raise StartError("--detach is for hosts without systemd; leave it out of ExecStart=")
    try:
        pidfile = Pidfile(options.pidfile) if options.pidfile else None
    except (RunningError, OSError) as error:
        raise StartError(f"--pidfile: {error}") from error
    return detach(service.run, service.descriptors, pidfile)


class Service:
    """The parts put together, and what signals do to them."""

    def __init__(
        self,
        options: argparse.Namespace,
        config: Config,
        listeners: Listeners,
        recorder: Recorder,
    ) -> None:
        self._options = options
        self._config = config
        self._listeners = listeners
        self._recorder = recorder

    @property
    def descriptors(self) -> list[int]:
        """What must stay open in the background."""
        return [self._recorder.sink.fileno(), *(s.fileno() for s in self._listeners.values())]

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until a signal ends it; `ready` is called when clients can come."""
        log.addHandler(RecordHandler(self._recorder))
        log.propagate = False
        self._server = Server(self._config, self._listeners, self._recorder)
        self._enforce(self._config)
        self._tell_listening()
        self._watch_signals()
        ready()
        self._server.run()
        log.info("stopped", extra={"kind": Kind.STOPPED})
        self._recorder.close()

    def _enforce(self, config: Config) -> None:
        log.setLevel(logging.DEBUG if config.debug else logging.INFO)
        _allow_descriptors(config)

    def _tell_listening(self) -> None:
        where = " and ".join(map(name, self._server.listeners.values()))
        log.info("listening on %s", where, extra={"kind": Kind.LISTENING})

    def _watch_signals(self) -> None:
        """Let signals arrive in the loop as bytes, signal.set_wakeup_fd()."""
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        self._signals = receiver, sender
        reactions = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._interrupt,
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._tell_counters,
        }

        def on_signal() -> None:
            for number in receiver.recv(4096):
                self._server.call_soon(reactions[signal.Signals(number)])

        self._server.watch(receiver, on_signal)
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        for number in reactions:
            signal.signal(number, lambda *_: None)

    def _stop(self) -> None:
        if not self._server.draining:
            self._server.drain()

    def _interrupt(self) -> None:
        if self._server.draining:
            self._server.halt()
        else:
            self._server.drain()

    def _reload(self) -> None:
        """Put the configuration into force as it is now, or change nothing and say why."""
        if self._server.draining:
            return
        try:
            config = _configure(self._options)
            _check_capacity(config, self._recorder)
            listeners = _open_listeners(config, self._server.listeners)
        except (ConfigError, StartError, ListenError) as error:
            for line in str(error).splitlines():
                log.error("not reloaded: %s", line, extra={"kind": Kind.NOT_RELOADED})
            return
        self._server.configure(config, listeners)
        self._enforce(config)
        log.info("reloaded", extra={"kind": Kind.RELOADED})
        self._tell_listening()

    def _tell_counters(self) -> None:
        counts = asdict(self._server.counters)
        text = ", ".join(f"{name} {count}" for name, count in counts.items())
        fields = tuple((f"ACKD_{name.upper()}", count) for name, count in counts.items())
        self._recorder.note(Record(Kind.COUNTERS, Priority.INFO, f"counters: {text}", None, fields))
