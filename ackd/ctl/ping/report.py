"""What `ackctl ping` prints: a line for each event, then the figures; or JSON."""

from time import time

from ackd.client.addresses import Destination
from ackd.client.errors import ClientError, printable_host
from ackd.ctl.failure import describe_failure
from ackd.ctl.output.figures import clock, many, milliseconds
from ackd.ctl.output.json_lines import json_line
from ackd.ctl.output.streams import Output
from ackd.ctl.output.tables import aligned
from ackd.ctl.output.terminal import has_colours, wrapped
from ackd.ctl.ping.connection import PingAnswer, PingPayload
from ackd.ctl.ping.pinger import PingCounts
from ackd.ctl.runs.outages import Outage
from ackd.ctl.runs.payloads import Run
from ackd.ctl.runs.summary import (
    latency_histogram,
    latency_members,
    latency_rows,
    verify_hint,
)
from ackd.printable import printable
from ackd.protocol import Verdict

# Different events of a connection that are remembered, to be counted when they happen again.
_REMEMBERED = 20
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"  # Select Graphic Rendition, ECMA-48


class PingReport:
    """Prints each event as it happens, then the figures.

    An event of a connection that happens again before the next reply is only counted.
    """

    def __init__(self, run: Run, destination: Destination, parallel: int, output: Output) -> None:
        self._run = run
        self._hosts = ", ".join(map(printable_host, destination.hosts))
        self._port = destination.port
        self._servers: dict[int, str] = {}  # the address of the server, by connection
        self._several = len(destination.hosts) > 1
        self._parallel = parallel
        self._output = output
        self._began = time()
        self._day = _day(self._began)
        self._down: set[int] = set()
        # How often each event of a connection has happened again since the last reply.
        self._again: dict[int, dict[str, int]] = {}
        self._red = has_colours(output.out)

    def begin(self, what: str) -> None:
        """Print which payloads will be sent, and where."""
        self._output.print(f"run {self._run.name}: {self._hosts} port {self._port}, {what}")

    def connected(self, connection: int, server: str) -> None:
        """Report a connection that is there, if one was missing before, or to another server."""
        before, self._servers[connection] = self._servers.get(connection), server
        moved = server != before and bool(before or self._several)
        event = f"connected to {server}" if moved or self._several else "connected"
        if connection in self._down or moved:
            self._down.discard(connection)
            if self._is_new(connection, event):
                self._print(connection, event)

    def failed(self, connection: int, error: ClientError) -> None:
        """Report that there is no connection, or no longer."""
        self._down.add(connection)
        if self._is_new(connection, event := describe_failure(error)):
            self._print_trouble(connection, event)

    def answered(self, connection: int, answer: PingAnswer) -> None:
        """Report the reply to a payload."""
        self._print_again(connection)
        line = f"{_number(answer.payload)} {milliseconds(answer.seconds):>12}"
        if answer.reply.verdict is Verdict.REFUSED:
            self._print_trouble(connection, f"{line}  refused: {printable(answer.reply.text)}")
        else:
            self._print(connection, line)

    def unanswered(self, connection: int, payload: PingPayload, why: str) -> None:
        """Report that a payload will get no reply."""
        self._print_trouble(connection, f"{_number(payload)}  unknown: {why}")

    def stalled(self, connection: int, payload: PingPayload, seconds: float) -> None:
        """Report that the reply to a payload has not come for so long."""
        self._print_trouble(connection, f"{_number(payload)}  no ack for {seconds:.1f} s")

    def waiting(self, count: int) -> None:
        """Report that ping ends after `count` more replies."""
        replies = "the reply" if count == 1 else f"{count:,} replies"
        self._output.warn(f"waiting for {replies}; press Ctrl-C again to stop waiting")

    def end(self, counts: PingCounts) -> None:
        """Print the counts, the outages and the figures."""
        self._print_all_again()
        outcomes = counts.by_outcome().items()
        words = (f"{count:,} {name.replace('_', ' ')}" for name, count in outcomes)
        lines = ["", ", ".join(words)]
        if counts.reconnects:
            lines.append(f"connected again {many(counts.reconnects, 'time')}")
        now = time()
        lines += [self._outage(outage, now) for outage in counts.outages.finish(now)]
        lines = [line for each in lines for line in wrapped(each, self._output.out)]
        if counts.latencies.count:
            histogram = latency_histogram(counts.latencies, self._output.out)
            lines += ["", *aligned(latency_rows(counts.latencies)), "", *histogram]
        if counts.sent:
            lines += ["", *verify_hint(self._run, self._began, counts.ended, self._output.out)]
        self._output.print(*lines)
        self._warn_of_failure(counts)

    def _warn_of_failure(self, counts: PingCounts) -> None:
        if failure := counts.failure():
            self._output.warn(failure)

    def _outage(self, outage: Outage, now: float) -> str:
        date = _day(self._began) != _day(now)
        until = clock(outage.until, date) if outage.over else "the end"
        where = ""
        if self._parallel > 1:
            where = f", on {outage.connections:,} of {self._parallel:,} connections"
        return f"no ack from {clock(outage.since, date)} to {until}, {outage.seconds:.3f} s{where}"

    def _print_trouble(self, connection: int, event: str) -> None:
        self._print(connection, f"{_RED}{event}{_PLAIN}" if self._red else event)

    def _print(self, connection: int, event: str) -> None:
        self._output.print(*self._lines(connection, event))

    def _lines(self, connection: int, event: str) -> list[str]:
        """Return the line of an event, below the date if the day has changed."""
        width = len(str(self._parallel))
        where = f" [{connection + 1:{width}}]" if self._parallel > 1 else ""
        now = time()
        before, self._day = self._day, _day(now)
        date = [] if self._day == before else [self._day]
        return [*date, f"{clock(now)}{where} {event}"]

    def _is_new(self, connection: int, event: str) -> bool:
        """Return whether to print an event now; otherwise count the event."""
        again = self._again.setdefault(connection, {})
        if event in again:
            again[event] += 1
            return False
        if len(again) >= _REMEMBERED:
            self._print_again(connection)
        self._again.setdefault(connection, {})[event] = 0
        return True

    def _print_again(self, connection: int) -> None:
        """Print how often the events of a connection have happened again, and forget them."""
        for event, times in self._again.pop(connection, {}).items():
            if times:
                self._print(connection, f"{many(times, 'time')} more: {event}")

    def _print_all_again(self) -> None:
        for connection in sorted(self._again):
            self._print_again(connection)


class PingJson(PingReport):
    """Prints a JSON object for each payload, then one for all; other events as sentences."""

    def begin(self, what: str) -> None:
        """Print nothing: the run's name is in the last object."""

    def answered(self, connection: int, answer: PingAnswer) -> None:
        """Print the reply to a payload."""
        self._print_again(connection)
        self._print_payload(
            connection,
            answer.payload,
            verdict=answer.reply.verdict.value,
            reply=printable(answer.reply.text),
            seconds=round(answer.seconds, 6),
        )

    def unanswered(self, connection: int, payload: PingPayload, why: str) -> None:
        """Print that a payload will get no reply."""
        self._print_payload(connection, payload, verdict="unknown", problem=why)

    def end(self, counts: PingCounts) -> None:
        """Print the counts, the outages and the figures."""
        self._print_all_again()
        self._output.print(
            json_line(
                run=self._run.name,
                host=self._hosts,
                port=self._port,
                **counts.by_outcome(),
                reconnects=counts.reconnects,
                end_acknowledged=counts.ended,
                outages=[_members(outage) for outage in counts.outages.finish(time())],
                latency=latency_members(counts.latencies),
                status=counts.status,
                problem=counts.problem if counts.status else None,
            )
        )
        self._warn_of_failure(counts)

    def _print_payload(self, connection: int, payload: PingPayload, **members: str | float) -> None:
        self._output.print(
            json_line(
                number=payload.number,
                connection=connection + 1,
                time=_iso(payload.at),
                server=self._servers.get(connection, ""),
                **members,
                bytes=payload.size,
            )
        )

    def _print_trouble(self, connection: int, event: str) -> None:
        self._print(connection, event)

    def _print(self, connection: int, event: str) -> None:
        for line in self._lines(connection, event):
            self._output.warn(line)


def _members(outage: Outage) -> dict[str, str | float | None]:
    return {
        "since": _iso(outage.since),
        "until": _iso(outage.until) if outage.over else None,
        "seconds": round(outage.seconds, 3),
        "connections": outage.connections,
    }


def _day(at: float) -> str:
    return clock(at, date=True)[:10]


def _number(payload: PingPayload) -> str:
    return f"{f'#{payload.number}':>6}"


def _iso(at: float) -> str:
    from datetime import datetime  # needed for JSON only

    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")
