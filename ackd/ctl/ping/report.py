"""What `ackctl ping` tells: a line for each thing that happens, or JSON."""

import sys
from time import time

from ackd.client.client import ClientError, shown
from ackd.ctl.failure import told
from ackd.ctl.output.figures import aligned, clock, histogram, many, milliseconds, verify
from ackd.ctl.output.terminal import coloured
from ackd.ctl.ping.connection import Answer, Sent
from ackd.ctl.ping.pinger import PingTally
from ackd.ctl.runs.latency import Outage
from ackd.printable import printable
from ackd.protocol import Verdict


class Report:
    """Prints what happens as it happens, then the figures."""

    def __init__(self, run: str, host: str, port: int, parallel: int) -> None:
        self._run = run
        self._host, self._port = host, port
        self._parallel = parallel
        self._began = time()
        self._down: set[int] = set()
        self._red = coloured(sys.stdout)

    def begin(self, what: str) -> None:
        """Tell what is going to be sent, and where."""
        print(f"run {self._run}: {shown(self._host)} port {self._port}, {what}", flush=True)

    def connected(self, link: int) -> None:
        """Tell that a connection is there after all, or again."""
        if link in self._down:
            self._down.remove(link)
            self._say(link, "connected")

    def failed(self, link: int, error: ClientError) -> None:
        """Tell that a connection is not there, or no more."""
        self._down.add(link)
        self._warn(link, told(error))

    def answered(self, link: int, answer: Answer) -> None:
        """Tell what the server said of a payload."""
        line = f"{_number(answer.sent)} {milliseconds(answer.seconds):>12}"
        if answer.reply.verdict is Verdict.REFUSED:
            self._warn(link, f"{line}  refused: {printable(answer.reply.text)}")
        else:
            self._say(link, line)

    def unanswered(self, link: int, sent: Sent, why: str) -> None:
        """Tell that nobody waits for a reply any more."""
        self._warn(link, f"{_number(sent)}  unknown: {why}")

    def waiting(self, count: int) -> None:
        """Tell that it ends when so many replies have come."""
        replies = "the reply" if count == 1 else f"{count:,} replies"
        print(f"ackctl: waiting for {replies}; Ctrl-C again: no longer", file=sys.stderr)

    def end(self, tally: PingTally) -> None:
        """Tell how it came out."""
        counts = (f"{count:,} {name.replace('_', ' ')}" for name, count in tally.counts().items())
        lines = ["", ", ".join(counts)]
        if tally.reconnects:
            lines.append(f"connected again {many(tally.reconnects, 'time')}")
        now = time()
        lines += [self._outage(outage, now) for outage in tally.outages.finish(now)]
        if tally.latencies.count:
            figures = [(name, milliseconds(took)) for name, took in tally.latencies.figures()]
            lines += ["", *aligned(figures), "", *histogram(tally.latencies)]
        if tally.sent:
            lines += ["", *verify(self._run, tally.ended)]
        print(*lines, sep="\n", flush=True)

    def _outage(self, outage: Outage, now: float) -> str:
        date = clock(self._began, date=True)[:10] != clock(now, date=True)[:10]
        until = clock(outage.until, date) if outage.over else "the end"
        where = ""
        if self._parallel > 1:
            where = f", on {outage.connections:,} of {self._parallel:,} connections"
        return f"no ack from {clock(outage.since, date)} to {until}, {outage.seconds:.3f} s{where}"

    def _warn(self, link: int, what: str) -> None:
        self._say(link, f"\x1b[31m{what}\x1b[0m" if self._red else what)

    def _say(self, link: int, what: str) -> None:
        print(self._line(link, what), flush=True)

    def _line(self, link: int, what: str) -> str:
        width = len(str(self._parallel))
        where = f" [{link + 1:{width}}]" if self._parallel > 1 else ""
        return f"{clock(time())}{where} {what}"


class Json(Report):
    """Prints an object for each payload, then one for all; connections are told of in words."""

    def begin(self, what: str) -> None:
        """Tell nothing: the run's name is in the last object."""

    def answered(self, link: int, answer: Answer) -> None:
        """Print what the server said of a payload."""
        self._show(
            link,
            answer.sent,
            verdict=answer.reply.verdict.value,
            reply=printable(answer.reply.text),
            seconds=round(answer.seconds, 6),
        )

    def unanswered(self, link: int, sent: Sent, why: str) -> None:
        """Print that nobody waits for a reply any more."""
        self._show(link, sent, verdict="unknown", problem=why)

    def end(self, tally: PingTally) -> None:
        """Print the counts, the outages and the figures."""
        self._object(
            run=self._run,
            host=self._host,
            port=self._port,
            **tally.counts(),
            reconnects=tally.reconnects,
            end_acknowledged=tally.ended,
            outages=[_members(outage) for outage in tally.outages.finish(time())],
            latency={name: round(took, 9) for name, took in tally.latencies.figures()},
            status=tally.status,
            problem=tally.problem if tally.status else None,
        )

    def _show(self, link: int, sent: Sent, **members: str | float) -> None:
        self._object(
            number=sent.number, connection=link + 1, time=_iso(sent.at), **members, bytes=sent.size
        )

    def _object(self, **members: object) -> None:
        import json

        print(json.dumps(members), flush=True)

    def _say(self, link: int, what: str) -> None:
        print(f"ackctl: {self._line(link, what)}", file=sys.stderr)

    def _warn(self, link: int, what: str) -> None:
        self._say(link, what)


def _members(outage: Outage) -> dict[str, str | float | None]:
    return {
        "since": _iso(outage.since),
        "until": _iso(outage.until) if outage.over else None,
        "seconds": round(outage.seconds, 3),
        "connections": outage.connections,
    }


def _number(sent: Sent) -> str:
    return f"{f'#{sent.number}':>6}"


def _iso(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")
