"""The report in Markdown: each target beside what was measured, then all figures."""

from collections.abc import Iterable, Iterator

from .results import Results, cpu, memory, rate
from .targets import TARGETS
from .works import Part, Run, Work

_HEAD = """\
# How fast ackd is

Written by `make bench`; run it to see for yourself. Made on
{machine}.

![Acks a second, CPU and growth](RESULTS.svg)

"""
_METHOD = """
## How it was measured

- *C* is `reference.c`: the same exchange on epoll, one `sd_journal_sendv` for every line, no limits
  and no timeouts. The others do the exchange without recording; they count lines, and do not even
  make payloads of them. The load is `load.c`: unique payloads of 80 bytes, where it says nothing
  else, and each reply compared with the ack. A run with a wrong or missing one has no figures.
- By turns, each of all servers one after another, {seconds:g} s each, every time with a new
  process; turns: {times}. Figures are medians, and *of C's* is the median of the ratios within one
  turn, for machines drift.
- CPU is the server's own, user and system, from /proc/PID/stat; what the kernel does for its
  packets is in there where it happened in its name.
- Recording: in a booted Debian with its real journald, which shares the CPUs with the server and
  the load, as the kernel sees fit: three busy processes on two CPUs, of which any that had one for
  itself would seem faster. All payloads are counted in the journal afterwards.
- Recording nothing, and idle clients: on this host's loopback, the server on one CPU, the load on
  another; ackd and the others with this host's Python.
- Times are from the sending of a payload, or from the connecting, to its ack.
- A start is ackd's from the command to READY=1, in the booted Debian: the median of {starts}. So
  many times, too, `ackctl send` is run to its end, by turns with the bare Python.
"""


_WHY = """\

Where one is missed: one at a time, nothing runs beside anything else, and what Python takes for a
payload more than C, some 2 to 5 µs, comes on top of each ack. uvloop's loop is C as well, and makes
no payloads of what it reads. Many deep, or in batches, journald is what all wait for.
"""


def text(results: Results, facts: dict[str, str | int | float]) -> str:
    """Return the whole report; `facts` fill what it says of how it was made."""
    head, method = _HEAD.format(**facts), _METHOD.format(**facts)
    return "".join((head, *_targets(results), _WHY, *_parts(results), method))


def _targets(results: Results) -> Iterator[str]:
    yield "## Targets\n\n"
    rows = []
    for target in TARGETS:
        value = target.measured(results)
        shown = "" if value is None else target.show(value)
        rows.append((target.work, target.what, shown, target.verdict(value)))
    yield _table(("work", "target", "measured", ""), "llrl", rows)


def _parts(results: Results) -> Iterator[str]:
    for part in Part:
        works = [work for work in results.works() if work.part is part]
        if works:
            yield f"\n## {part.value}\n\n"
            yield (
                _memory_table(results, works) if part is Part.IDLE else _load_table(results, works)
            )


def _memory_table(results: Results, works: list[Work]) -> str:
    rows = [
        (server, failure or f"{_known(results.median(work, server, memory)):,.0f} B")
        for work, server, failure in _cases(results, works)
    ]
    return _table(("server", "resident memory each"), "lr", rows)


def _load_table(results: Results, works: list[Work]) -> str:
    head = ("work", "server", "acks/s", "of C's", "CPU an ack", "of C's", "p50", "p99", "p99.9")
    rows = []
    for work, server, failure in _cases(results, works):
        name = f"{work.name}{', recorded' if work.recording and work.part in _GROWN else ''}"
        if failure:
            rows.append((name, server, failure, *[""] * 6))
            continue
        rows.append((name, server, *_figures(results, work, server)))
    return _table(head, "llrrrrrrr", rows)


_GROWN = (Part.CLIENTS, Part.SIZES)


def _cases(results: Results, works: list[Work]) -> Iterator[tuple[Work, str, str]]:
    for work in works:
        for server in work.servers:
            yield work, server.name, results.failure(work, server.name)


def _figures(results: Results, work: Work, server: str) -> Iterator[str]:
    yield f"{_known(results.median(work, server, rate)):,.0f}"
    yield _ratio(results.ratio(work, server, rate))
    yield _time(_known(results.median(work, server, cpu)))
    yield _ratio(results.ratio(work, server, cpu))
    for quantile in (_p50, _p99, _p999):
        yield _time(_known(results.median(work, server, quantile)))


def _p50(run: Run) -> float:
    return run.p50


def _p99(run: Run) -> float:
    return run.p99


def _p999(run: Run) -> float:
    return run.p999


def _known(value: float | None) -> float:
    assert value is not None
    return value


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _time(seconds: float) -> str:
    for unit, size in (("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _table(head: Iterable[str], sides: str, rows: Iterable[Iterable[str]]) -> str:
    rule = ["--:" if side == "r" else "---" for side in sides]
    lines = (head, rule, *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
