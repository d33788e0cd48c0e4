"""ackd's command line: parses it, chooses where records go, and starts the service."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from time import time
from typing import Any

from ackd import __version__
from ackd.arguments import Parser
from ackd.config import (
    DEFAULT_BIND,
    DEFAULT_PATH,
    BadValueError,
    Config,
    ConfigError,
    ConfigFile,
    Durability,
    check,
)
from ackd.journal import journald
from ackd.journal.datagram import DatagramSocket
from ackd.journal.entry import JournalFormat
from ackd.journal.journald import JournaldSocket
from ackd.journal.recorder import Recorder
from ackd.journal.storing import Storing
from ackd.log.log import Log
from ackd.log.storage import LogError
from ackd.regular_file import first_closed
from ackd.server.listener import ListenError
from ackd.server.presence import NOT_THERE, has_address
from ackd.service import memory_log, starting, store, systemd
from ackd.service.control import ControlError, NotReloadedError, request_reload
from ackd.service.disk_log import (
    DiskLogError,
    carry,
    check_lasting,
    fits,
    forget,
    open_left,
    open_log,
)
from ackd.service.expiry import troubles
from ackd.service.service import CapacityError, RecordingError, Service
from ackd.service.store import Stored


class StartError(Exception):
    """ackd can't start; the text says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ackd; return its exit status.

    That is 0 after a stop, 1 if ackd could not start, 2 for a wrong command line or configuration.
    """
    _open_standard_streams()
    options = _options(arguments)
    try:
        if options.check_config:
            return _check_config(options)
        if options.reload is not None:
            return _reload(options.reload)
        return _start(options)
    except ConfigError as error:
        for problem in error.problems:
            print(f"ackd: {problem}", file=sys.stderr)
        return 2
    except (StartError, ControlError, RecordingError) as error:
        with contextlib.suppress(OSError):  # the terminal may be closed
            print(f"ackd: {error}", file=sys.stderr)
        return 1


def _reload(pid: int) -> int:
    # Under systemd the standard error is the journal, in which the daemon has logged the same text.
    is_logged = systemd.has_started(os.environ, os.getpid())
    try:
        note = request_reload(pid, os.environ)
    except NotReloadedError:
        if not is_logged:
            raise
        return 1
    if not is_logged:
        for line in note.splitlines():
            print(f"ackd: {line}", file=sys.stderr)
    return 0


def _open_standard_streams() -> None:
    """Open /dev/null for each standard stream that the caller has closed.

    Otherwise a socket could get the number 2, and error messages would go to a client.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; contradicting options end the program with a usage error."""
    usage = parser()
    options = usage.parse_args(arguments)
    if options.pidfile and not options.detach:
        usage.error("--pidfile is for --detach only")
    if options.detach and options.terminal:
        usage.error("--detach can't be used with --terminal")
    return options


def _check_config(options: argparse.Namespace) -> int:
    config = _configuration(options, _config_file(options))
    path = options.config or DEFAULT_PATH
    about_tls = list(_tls_warnings(config))
    found = os.path.exists(path)
    verdict = "good" if found else "there is no such file; the defaults are in force"
    print(f"ackd: {path}: {verdict}")
    for warning in (*_warnings(path, config), *about_tls):
        print(f"ackd: {path}: warning: {warning}", file=sys.stderr)
    return 0


def _warnings(path: str, config: Config) -> Iterator[str]:
    """Yield warnings about a valid configuration that may not be intended."""
    if os.geteuid() == 0 and (closed := first_closed(path)):
        yield f"the service can't read it, because it is another user: chmod o+rX {closed}"
    if config.bind != DEFAULT_BIND:  # a host without IPv6 need not have ::1
        for address in config.bind:
            if not has_address(address):
                yield f"bind: {address} is {NOT_THERE}"


def _tls_warnings(config: Config) -> Iterator[str]:
    """Yield warnings about the files of TLS. Raises ConfigError if they can't be used."""
    if config.tls_certificate is None:
        return
    from ackd.service import certificates  # here, because OpenSSL would delay every start

    not_checked = list(certificates.not_checked(config, os.environ))
    yield from not_checked
    if not not_checked:
        loaded = certificates.load(config, os.environ)
        yield from (text for _, text in troubles(loaded.validities, time()))
    if os.geteuid() == 0:
        yield from certificates.closed_to_service(config)


def parser() -> argparse.ArgumentParser:
    """Return the parser of ackd's arguments."""
    parser = Parser(
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
    option("--reload", metavar="PID", type=int, help="have a running ackd reload, and wait for it")
    option("--debug", action="store_true", help="record every step of every connection")
    sink = parser.add_mutually_exclusive_group()
    sink.add_argument(
        "--journal",
        metavar="SOCKET",
        type=os.path.abspath,
        help=f"record in this journal, not {journald.SOCKET}",
    )
    sink.add_argument("--terminal", action="store_true", help="record on the standard output")
    option("--detach", action="store_true", help="go into the background (without systemd)")
    option(
        "--pidfile", metavar="FILE", help="write the number of the detached process into this file"
    )
    option("--version", action="version", version=f"ackd {__version__}")
    return parser


def _setting(key: str, convert: Callable[[str], object]) -> Callable[[str], Any]:
    """Return a converter from an option's text to the value of a configuration key."""

    def read(text: str) -> Any:
        try:
            return check(key, convert(text))
        except BadValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    read.__name__ = key  # argparse puts this name into its message if `convert` fails
    return read


def _config_file(options: argparse.Namespace) -> ConfigFile:
    return ConfigFile(options.config or DEFAULT_PATH, optional=options.config is None)


def _configuration(options: argparse.Namespace, file: ConfigFile) -> Config:
    """Return the configuration, with the settings of the command line in it."""
    config = file.load()
    if options.bind:
        config = config._replace(bind=tuple(dict.fromkeys(chain.from_iterable(options.bind))))
    if options.port is not None:
        config = config._replace(port=options.port)
    return config._replace(debug=config.debug or options.debug)


def _start(options: argparse.Namespace) -> int:
    try:
        stored = store.load()
        service = starting.start(_Attempt(options, stored), stored.start_failed)
    except (CapacityError, ListenError, DiskLogError, LogError) as error:
        raise StartError(str(error)) from error
    if options.detach:
        return _detach(options, service)
    service.run()
    return 0


class _Attempt:
    """Makes the service; called again after an error, it goes on with the same recorder."""

    def __init__(self, options: argparse.Namespace, stored: Stored) -> None:
        self._options = options
        self._stored = stored
        self._configure = partial(_configuration, options, _config_file(options))
        self._first: tuple[Config, Recorder] | None = None

    def __call__(self) -> Service:
        config = self._configure()
        if not self._first:
            self._first = config, _recorder(self._options, self._stored, config)
        first, recorder = self._first
        check_lasting(first, config)
        return Service(self._configure, recorder, self._stored)


def _recorder(options: argparse.Namespace, stored: Stored, config: Config) -> Recorder:
    """Return a recorder for the sink of the command line; by default the journal.

    On a host without a journal: for the terminal, or with --detach for the syslog daemon.
    """
    records = _open_log(stored, config)
    acks_wait = records.durable
    if options.terminal:
        return _terminal_recorder(records, acks_wait)
    is_service = systemd.has_started(os.environ, os.getpid())
    if options.journal or is_service or os.path.exists(journald.SOCKET):
        path = options.journal or journald.SOCKET
        storing = Storing(path, os.environ, is_service=is_service)
        sink = JournaldSocket(
            path, storing, records, stored.journald, store.save_socket, store.save_stream
        )
        return Recorder(sink, JournalFormat(), records, acks_wait)
    if not options.detach:
        return _terminal_recorder(records, acks_wait)
    from ackd.journal import syslog

    if os.path.exists(syslog.SOCKET):
        return Recorder(DatagramSocket(syslog.SOCKET), syslog.SyslogFormat(), records, acks_wait)
    raise StartError(
        f"--detach: there is no journal and no {syslog.SOCKET} to record in: start a syslog daemon"
    )


def _open_log(stored: Stored, config: Config) -> Log:
    """Return the log that the configuration asks for. Raises DiskLogError, LogError.

    It takes over what an ackd with the other `durability` has left. If memory can't take that over,
    the log on the disk stays in use until the next start.
    """
    memory, stored.log_outlives_ackd, stored.log_problem = memory_log.open_log(os.environ)
    if config.durability is Durability.DISK:
        records = open_log(config, os.environ)
    else:
        left = open_left(config, os.environ)
        if not left:
            return memory
        if stored.log_outlives_ackd and fits(left, memory):
            carry(left, memory)
            forget(left)
            return memory
        records = left
    if memory.read < memory.appended:
        carry(memory, records)
    forget(memory)
    if stored.log_outlives_ackd:
        memory_log.remove(os.environ)
    return records


def _terminal_recorder(records: Log, acks_wait: bool) -> Recorder:
    from ackd.journal.terminal import StandardOutput, TerminalFormat

    try:
        stream = StandardOutput(1)
    except OSError as error:
        raise StartError(f"can't record on the standard output: {error.strerror}") from error
    colour = os.isatty(1) and "NO_COLOR" not in os.environ
    return Recorder(stream, TerminalFormat(colour), records, acks_wait)


def _detach(options: argparse.Namespace, service: Service) -> int:
    # Imported here because importing python-daemon would delay every other start.
    from ackd.service.detach import Pidfile, PidfileError, detach

    if systemd.has_started(os.environ, os.getpid()):
        raise StartError("--detach is for hosts without systemd; leave it out of ExecStart=")
    try:
        pidfile = Pidfile(options.pidfile) if options.pidfile else None
    except PidfileError as error:
        raise StartError(f"--pidfile: {error}") from error
    return detach(service.run, service.descriptors, pidfile)
