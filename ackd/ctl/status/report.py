"""The status of an ackd as lines of text."""

from collections.abc import Callable, Iterator
from time import gmtime, localtime, strftime, struct_time
from typing import TextIO

from ackd.ctl.output.figures import amount, lasting, many, rough
from ackd.ctl.output.tables import Row, beside, columns_of
from ackd.printable import printable
from ackd.status import (
    Clients,
    Counted,
    DaemonStatus,
    Durations,
    JournalStatus,
    LogStatus,
    Payloads,
    Rates,
)

_HEADS = ("busiest clients", "connections", "acknowledged", "refused", "received")


def lines_of(status: DaemonStatus, stream: TextIO | None) -> list[str]:
    """Return the lines for `stream`, of which those of a terminal fit into its width."""
    # Any text may come from a client, or from an ackd that somebody else has taken over.
    rows = [(name, _safe(text)) for name, text in _rows(status)]
    table = [_HEADS, *_busiest(status.clients)]
    return [
        *beside(rows, stream),
        *(["", *columns_of(table, stream)] if len(table) > 1 else []),
    ]


def _safe(text: str) -> str:
    return printable(text.encode(errors="backslashreplace"))


def _rows(status: DaemonStatus) -> Iterator[Row]:
    since = _time("%Y-%m-%d %H:%M:%S", localtime, status.started)
    which = status.unit or f"process {status.pid}"
    yield f"ackd {_safe(status.version)}", f"{which}, since {since}, {lasting(status.running)}"
    for trouble in status.troubles:
        yield "wrong", trouble
    if not status.troubles:
        yield "wrong", "nothing"
    for note in status.notes:
        yield "note", note
    yield "listens on", ", ".join(status.listeners) or "no address"
    yield "clients", _clients(status.clients)
    yield "payloads", _payloads(status.payloads)
    yield "each second", _rates(status.rates)
    if status.payloads.refused_for:
        yield "refused", _reasons(status.payloads.refused_for)
    if status.clients.turned_away_for:
        yield "turned away", _reasons(status.clients.turned_away_for)
    yield "journal", _journal(status.journal)
    yield "waits for it", _durations(status.journal.waits)
    yield "log", _log(status.log)
    if status.log.durable:
        yield "commits", _durations(status.commits)
    for certificate in status.certificates:
        end = _time("%Y-%m-%d %H:%M UTC", gmtime, certificate.end)
        yield "certificate", f"until {end}: {certificate.name}"


def _time(form: str, convert: Callable[[float], struct_time], seconds: float) -> str:
    try:
        return strftime(form, convert(seconds))
    except (ValueError, OverflowError, OSError):  # no year has so many digits
        return f"{seconds:.0f}"


def _clients(clients: Clients) -> str:
    arriving = f", {clients.arriving:,} not greeted yet" if clients.arriving else ""
    return (
        f"{clients.connected:,} now, {clients.most:,} at most, {clients.limit:,} allowed"
        f"{arriving}; {many(clients.connections, 'connection')} in all"
    )


def _payloads(payloads: Payloads) -> str:
    return (
        f"{payloads.acknowledged:,} acknowledged, {payloads.refused:,} refused;"
        f" {amount(payloads.bytes)} received"
    )


def _rates(rates: Rates) -> str:
    if not rates.seconds:
        return "unknown yet"
    return (
        f"{rates.acknowledged:,.0f} acknowledged, {rates.refused:,.0f} refused,"
        f" {amount(rates.bytes)}, {many(round(rates.connections), 'connection')};"
        f" over the last {lasting(max(1.0, rates.seconds))}"
    )


def _reasons(counted: tuple[Counted, ...]) -> str:
    return ", ".join(f"{each.reason}: {each.count:,}" for each in counted)


def _journal(journal: JournalStatus) -> str:
    if not journal.reachable:
        state = f"can't be reached: {journal.why}"
    else:
        state = journal.obstacle or f"{journal.journald or journal.name} takes records"
    waiting = f"; {many(journal.waiting, 'connection')} waiting for it" if journal.waiting else ""
    return f"{state}; {many(journal.unconfirmed, 'record')} not confirmed yet{waiting}"


def _durations(durations: Durations) -> str:
    window = f"in the last {lasting(durations.window)}"
    if durations.p50 is None or durations.longest is None:
        return f"none {window}"
    percentiles = ((50, durations.p50), (95, durations.p95), (99, durations.p99))
    parts = [f"{share} % within {rough(each)}" for share, each in percentiles if each is not None]
    parts.append(f"longest {rough(durations.longest)}")
    return f"{durations.recent:,} {window}: {', '.join(parts)}"


def _log(log: LogStatus) -> str:
    lags = [(log.appended - log.sent, "not sent"), (log.appended - log.read, "not confirmed")]
    if log.durable:
        lags.insert(0, (log.appended - log.synced, "not on the disk"))
        lags.append((log.appended - log.safe, "not safe in the journal"))
    behind = ", ".join(f"{count:,} {what}" for count, what in lags)
    return (
        f"{log.place.removeprefix('the log ')}: {amount(log.size)} of {amount(log.limit)};"
        f" {many(log.appended, 'record')}, of these {behind}"
    )


def _busiest(clients: Clients) -> list[tuple[str, ...]]:
    """Return a row for each client that is among the busiest in any order, the first ones first."""
    both = dict.fromkeys((*clients.by_payloads, *clients.by_connections))
    return [
        (
            _safe(each.client),
            f"{each.connections:,}",
            f"{each.acknowledged:,}",
            f"{each.refused:,}",
            amount(each.bytes),
        )
        for each in both
    ]
