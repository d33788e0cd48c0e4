"""Prints what happens during `ackctl ping`: a line for each event, or JSON."""

import sys
from time import time

from ackd.client.errors import ClientError, printable_host
from ackd.ctl.failure import describe_failure
from ackd.ctl.output.figures import aligned, clock, histogram, many, milliseconds, verify
from ackd.ctl.output.terminal import coloured
from ackd.ctl.ping.connection import PingAnswer, PingPayload
from ackd.ctl.ping.pinger import PingCounts
from ackd.ctl.runs.latency import Outage
from ackd.printable import printable
from ackd.protocol import Verdict


class PingReport:
    """Prints what happens as it happens, then the figures."""

    def __init__(self, run: str, host: str, port: int, parallel: int) -> None:
        self._run = run
        self._host, self._port = host, port
        self._parallel = parallel
        self._began = time()
        self._down: set[int] = set()
        self._red = coloured(sys.stdout)

    def begin(self, what: str) -> None:
        """Print what is going to be sent, and where."""
        print(
            f"run {self._run}: {printable_host(self._host)} port {self._port}, {what}", flush=True
        )

    def connected(self, connection: int) -> None:
        """Report that a connection is there after a failure."""
        if connection in self._down:
            self._down.remove(connection)
            self._say(connection, "connected")

    def failed(self, connection: int, error: ClientError) -> None:
        """Report that a connection is not there, or no longer."""
        self._down.add(connection)
        self._warn(connection, describe_failure(error))

    def answered(self, connection: int, answer: PingAnswer) -> None:
        """Report the reply to a payload."""
        line = f"{_number(answer.payload)} {milliseconds(answer.seconds):>12}"
        if answer.reply.verdict is Verdict.REFUSED:
            self._warn(connection, f"{line}  refused: {printable(answer.reply.text)}")
        else:
            self._say(connection, line)

    def unanswered(self, connection: int, payload: PingPayload, why: str) -> None:
        """Report that no reply to a payload will come."""
        self._warn(connection, f"{_number(payload)}  unknown: {why}")

    def waiting(self, count: int) -> None:
        """Report that the ping ends when so many replies have come."""
        replies = "the reply" if count == 1 else f"{count:,} replies"
        print(f"ackctl: waiting for {replies}; Ctrl-C again: no longer", file=sys.stderr)

    def end(self, counts: PingCounts) -> None:
        """Print the summary."""
        outcomes = counts.by_outcome().items()
        words = (f"{count:,} {name.replace('_', ' ')}" for name, count in outcomes)
        lines = ["", ", ".join(words)]
        if counts.reconnects:
            lines.append(f"connected again {many(counts.reconnects, 'time')}")
        now = time()
        lines += [self._outage(outage, now) for outage in counts.outages.finish(now)]
        if counts.latencies.count:
            figures = [(name, milliseconds(took)) for name, took in counts.latencies.figures()]
            lines += ["", *aligned(figures), "", *histogram(counts.latencies)]
        if counts.sent:
            lines += ["", *verify(self._run, counts.ended)]
        print(*lines, sep="\n", flush=True)

    def _outage(self, outage: Outage, now: float) -> str:
        date = clock(self._began, date=True)[:10] != clock(now, date=True)[:10]
        until = clock(outage.until, date) if outage.over else "the end"
        where = ""
        if self._parallel > 1:
            where = f", on {outage.connections:,} of {self._parallel:,} connections"
        return f"no ack from {clock(outage.since, date)} to {until}, {outage.seconds:.3f} s{where}"

    def _warn(self, connection: int, what: str) -> None:
        self._say(connection, f"\x1b[31m{what}\x1b[0m" if self._red else what)

    def _say(self, connection: int, what: str) -> None:
        print(self._line(connection, what), flush=True)

    def _line(self, connection: int, what: str) -> str:
        width = len(str(self._parallel))
        where = f" [{connection + 1:{width}}]" if self._parallel > 1 else ""
        return f"{clock(time())}{where} {what}"


class PingJson(PingReport):
    """Prints an object for each payload, then one for all; connections are reported in words."""

    def begin(self, what: str) -> None:
        """Print nothing: the name of the run is in the last object."""

    def answered(self, connection: int, answer: PingAnswer) -> None:
        """Print the reply to a payload."""
        self._show(
            connection,
            answer.payload,
            verdict=answer.reply.verdict.value,
            reply=printable(answer.reply.text),
            seconds=round(answer.seconds, 6),
        )

    def unanswered(self, connection: int, payload: PingPayload, why: str) -> None:
        """Print that no reply to a payload will come."""
        self._show(connection, payload, verdict="unknown", problem=why)

    def end(self, counts: PingCounts) -> None:
        """Print the counts, the outages and the figures."""
        self._object(
            run=self._run,
            host=self._host,
            port=self._port,
            **counts.by_outcome(),
            reconnects=counts.reconnects,
            end_acknowledged=counts.ended,
            outages=[_members(outage) for outage in counts.outages.finish(time())],
            latency={name: round(took, 9) for name, took in counts.latencies.figures()},
            status=counts.status,
            problem=counts.problem if counts.status else None,
        )

    def _show(self, connection: int, payload: PingPayload, **members: str | float) -> None:
        self._object(
            number=payload.number,
            connection=connection + 1,
            time=_iso(payload.at),
            **members,
            bytes=payload.size,
        )

    def _object(self, **members: object) -> None:
        import json

        print(json.dumps(members), flush=True)

    def _say(self, connection: int, what: str) -> None:
        print(f"ackctl: {self._line(connection, what)}", file=sys.stderr)

    def _warn(self, connection: int, what: str) -> None:
        self._say(connection, what)


def _members(outage: Outage) -> dict[str, str | float | None]:
    return {
        "since": _iso(outage.since),
        "until": _iso(outage.until) if outage.over else None,
        "seconds": round(outage.seconds, 3),
        "connections": outage.connections,
    }


def _number(payload: PingPayload) -> str:
    return f"{f'#{payload.number}':>6}"


def _iso(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")
