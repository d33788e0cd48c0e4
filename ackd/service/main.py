"""ackd: arguments, logging, signals, detaching, and the parts put together."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from ackd import __version__
from ackd.config import DEFAULT_PATH, BadValueError, Config, ConfigError, check, load
from ackd.journal import journald, syslog
from ackd.journal.datagram import DatagramSocket
from ackd.journal.entry import JournalFormat
from ackd.journal.journald import JournaldSocket
from ackd.journal.recorder import Recorder
from ackd.journal.syslog import SyslogFormat
from ackd.journal.terminal import Stream, TerminalFormat
from ackd.server.listener import ListenError
from ackd.service import store, systemd
from ackd.service.control import ControlError, request_reload
from ackd.service.service import CapacityError, Service


class StartError(Exception):
    """Something that keeps the daemon from starting; the text says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ackd; return its exit status: 0 stopped, 1 could not start, 2 usage or configuration."""
    _open_standard_streams()
    options = _options(arguments)
    try:
        if options.check_config:
            return _check(options)
        if options.reload is not None:
            request_reload(options.reload)
            return 0
        return _start(options)
    except ConfigError as error:
        for problem in error.problems:
            print(f"ackd: {problem}", file=sys.stderr)
        return 2
    except (StartError, ControlError) as error:
        print(f"ackd: {error}", file=sys.stderr)
        return 1


def _open_standard_streams() -> None:
    """Give 0, 1 and 2 back their meaning where a caller has closed them.

    A socket would take such a number, and whatever writes to the standard error goes to a client.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; those that contradict each other end the program with a usage error."""
    usage = parser()
    options = usage.parse_args(arguments)
    if options.pidfile and not options.detach:
        usage.error("--pidfile is for --detach only")
    if options.detach and options.terminal:
        usage.error("--detach leaves the terminal: it can't go with --terminal")
    return options


def _check(options: argparse.Namespace) -> int:
    _configure(options)
    path = options.config or DEFAULT_PATH
    verdict = "good" if os.path.exists(path) else "there is no such file; the defaults are in force"
    print(f"ackd: {path}: {verdict}")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return what parses ackd's arguments."""
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
    option("--reload", metavar="PID", type=int, help="have a running ackd reload, and wait for it")
    option("--debug", action="store_true", help="record every step of every connection")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--journal",
        metavar="SOCKET",
        type=os.path.abspath,
        help=f"record in this journal, not {journald.SOCKET}",
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
        config = replace(config, bind=tuple(dict.fromkeys(chain.from_iterable(options.bind))))
    if options.port is not None:
        config = replace(config, port=options.port)
    return replace(config, debug=config.debug or options.debug)


def _start(options: argparse.Namespace) -> int:
    try:
        service = Service(partial(_configure, options), _recorder(options), store.load())
    except (CapacityError, ListenError) as error:
        raise StartError(str(error)) from error
    if options.detach:
        return _detach(options, service)
    service.run()
    return 0


def _recorder(options: argparse.Namespace) -> Recorder:
    """Return where records go: as asked for, or the journal, or what there is instead."""
    if options.terminal:
        return _on_terminal()
    expected = options.journal or systemd.has_started(os.environ, os.getpid())
    if expected or os.path.exists(journald.SOCKET):
        return Recorder(JournaldSocket(options.journal or journald.SOCKET), JournalFormat())
    if not options.detach:
        return _on_terminal()
    if os.path.exists(syslog.SOCKET):
        return Recorder(DatagramSocket(syslog.SOCKET), SyslogFormat())
    raise StartError(
        f"--detach: there is no journal and no {syslog.SOCKET} to record in: start a syslog daemon"
    )


def _on_terminal() -> Recorder:
    try:
        stream = Stream(1)
    except OSError as error:
        raise StartError(f"standard output: {error.strerror}; records go there") from error
    colour = os.isatty(1) and "NO_COLOR" not in os.environ
    return Recorder(stream, TerminalFormat(colour))


def _detach(options: argparse.Namespace, service: Service) -> int:
    # Imported only where it is needed: python-daemon makes a start of 82 ms one of 87.
    from ackd.service.detach import Pidfile, PidfileError, detach

    if systemd.has_started(os.environ, os.getpid()):
        raise StartError("--detach is for hosts without systemd; leave it out of ExecStart=")
    try:
        pidfile = Pidfile(options.pidfile) if options.pidfile else None
    except PidfileError as error:
        raise StartError(f"--pidfile: {error}") from error
    return detach(service.run, service.descriptors, pidfile)
