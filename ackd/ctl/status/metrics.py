"""What several ackd report, as metrics: in OpenMetrics, or in the text format of Prometheus.

node_exporter's textfile collector reads only the latter: there the type info is an error, and the
line of a counter's type has the name with _total.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from ackd.status import CertificateStatus, Counted, DaemonStatus, Durations

# The units of all ackd, and what each reports; None for one that does not run.
Reports = Mapping[str, DaemonStatus | None]
# The end of a sample's name, its labels besides `unit`, and its value.
Sample = tuple[str, dict[str, str], float]


class MetricType(Enum):
    """The types of metrics; the value is the end of the name of each sample."""

    GAUGE = ""
    COUNTER = "_total"
    INFO = "_info"
    SUMMARY = "_sum"  # and others


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, and its samples in a report.

    No label is about one client: Prometheus keeps each set of labels for ever.
    """

    type: MetricType
    name: str
    help: str
    samples: Callable[[DaemonStatus], list[Sample]]


def to_openmetrics(reports: Reports) -> str:
    """Return all metrics in OpenMetrics, version 1.0.0."""
    lines = []
    for metric, samples in _collected(reports):
        lines.append(f"# TYPE {metric.name} {metric.type.name.lower()}")
        lines += [f"# HELP {metric.name} {metric.help}", *samples]
    return "\n".join([*lines, "# EOF\n"])


def to_prometheus(reports: Reports) -> str:
    """Return all metrics in the text format of Prometheus, version 0.0.4."""
    lines = []
    for metric, samples in _collected(reports):
        kind, name = metric.type, metric.name
        if kind in (MetricType.COUNTER, MetricType.INFO):
            name += kind.value
        if kind is MetricType.INFO:
            kind = MetricType.GAUGE
        lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {kind.name.lower()}", *samples]
    return "\n".join([*lines, ""])


def _collected(reports: Reports) -> Iterator[tuple[Metric, list[str]]]:
    """Yield each metric with the lines of its samples: those of all units, one after the other."""
    yield _UP, [_line(_UP.name, unit, {}, report is not None) for unit, report in reports.items()]
    for metric in METRICS:
        lines = [
            _line(metric.name + end, unit, labels, value)
            for unit, report in reports.items()
            if report
            for end, labels, value in metric.samples(report)
        ]
        if lines:
            yield metric, lines


def _line(name: str, unit: str, labels: Mapping[str, str], value: float) -> str:
    pairs = {"unit": unit, **labels}.items()
    text = ",".join(f'{label}="{_escaped(of)}"' for label, of in pairs)
    return f"{name}{{{text}}} {int(value) if value == int(value) else value}"


def _escaped(text: str) -> str:
    """Return the value of a label as both formats want it."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return text.encode(errors="backslashreplace").decode()


def _gauge(name: str, text: str, value: Callable[[DaemonStatus], float]) -> Metric:
    return Metric(MetricType.GAUGE, name, text, lambda report: [("", {}, value(report))])


def _counter(name: str, text: str, value: Callable[[DaemonStatus], int]) -> Metric:
    return Metric(MetricType.COUNTER, name, text, lambda report: [("_total", {}, value(report))])


def _by_reason(
    name: str, text: str, counts: Callable[[DaemonStatus], tuple[Counted, ...]]
) -> Metric:
    def samples(report: DaemonStatus) -> list[Sample]:
        return [("_total", {"reason": each.reason}, each.count) for each in counts(report)]

    return Metric(MetricType.COUNTER, name, text, samples)


def _summary(name: str, text: str, durations: Callable[[DaemonStatus], Durations]) -> Metric:
    def samples(report: DaemonStatus) -> list[Sample]:
        of = durations(report)
        late = (("0.5", of.p50), ("0.95", of.p95), ("0.99", of.p99), ("1", of.longest))
        quantiles: list[Sample] = [
            ("", {"quantile": quantile}, value) for quantile, value in late if value is not None
        ]
        return [*quantiles, ("_count", {}, of.count), ("_sum", {}, of.sum)]

    return Metric(MetricType.SUMMARY, name, text, samples)


def _cursors(report: DaemonStatus) -> list[Sample]:
    log = report.log
    names = ("appended", "synced", "sent", "read", "safe")
    return [("_total", {"cursor": name}, getattr(log, name)) for name in names]


def _certificates(time: Callable[[CertificateStatus], float]) -> Callable[..., list[Sample]]:
    def samples(report: DaemonStatus) -> list[Sample]:
        # Several can have one name: then the first one to expire counts.
        latest_first = sorted(report.certificates, key=lambda each: -each.end)
        times = {each.name: time(each) for each in latest_first}
        return [("", {"name": name}, seconds) for name, seconds in times.items()]

    return samples


_UP = _gauge("ackd_up", "Whether this ackd runs and answers.", lambda _: 1)
# Names as https://prometheus.io/docs/practices/naming/ wants them.
METRICS = (
    Metric(
        MetricType.INFO,
        "ackd_build",
        "The version of ackd.",
        lambda report: [("_info", {"version": report.version}, 1)],
    ),
    _gauge(
        "ackd_start_time_seconds",
        "When this process started, in seconds since 1970.",
        lambda report: report.started,
    ),
    _gauge(
        "ackd_troubles",
        "How many things are wrong; ackctl status says which.",
        lambda report: len(report.troubles),
    ),
    _gauge(
        "ackd_listeners", "Addresses that ackd listens on.", lambda report: len(report.listeners)
    ),
    _gauge("ackd_clients", "Clients that are connected.", lambda report: report.clients.connected),
    _gauge(
        "ackd_clients_most",
        "Clients that were connected at a time, since the start.",
        lambda report: report.clients.most,
    ),
    _gauge(
        "ackd_clients_limit",
        "Clients that can be connected: max_connections.",
        lambda report: report.clients.limit,
    ),
    _gauge(
        "ackd_clients_arriving",
        "Connections that are accepted and not greeted yet.",
        lambda report: report.clients.arriving,
    ),
    _counter(
        "ackd_connections", "Clients that were greeted.", lambda report: report.clients.connections
    ),
    _counter(
        "ackd_clients_turned_away",
        "Clients that were turned away.",
        lambda report: report.clients.turned_away,
    ),
    _by_reason(
        "ackd_clients_turned_away_by_reason",
        "Clients that were turned away, by reason.",
        lambda report: report.clients.turned_away_for,
    ),
    _counter(
        "ackd_payloads_acknowledged",
        "Payloads that were acknowledged.",
        lambda report: report.payloads.acknowledged,
    ),
    _counter(
        "ackd_payloads_refused",
        "Payloads that were refused.",
        lambda report: report.payloads.refused,
    ),
    _by_reason(
        "ackd_payloads_refused_by_reason",
        "Payloads that were refused, by reason.",
        lambda report: report.payloads.refused_for,
    ),
    _counter(
        "ackd_received_bytes",
        "Bytes received from clients.",
        lambda report: report.payloads.bytes,
    ),
    _gauge(
        "ackd_journal_reachable",
        "Whether the journal takes records.",
        lambda report: report.journal.reachable,
    ),
    _gauge(
        "ackd_journal_storing",
        "Whether the journal stores what it takes, as far as its settings say.",
        lambda report: not report.journal.obstacle,
    ),
    _gauge(
        "ackd_journal_unconfirmed_records",
        "Records that the journal may not have stored yet.",
        lambda report: report.journal.unconfirmed,
    ),
    _gauge(
        "ackd_journal_waiting_clients",
        "Clients whose payloads wait for the journal.",
        lambda report: report.journal.waiting,
    ),
    _summary(
        "ackd_journal_wait_seconds",
        "How long payloads have waited for the journal; quantiles are of late.",
        lambda report: report.journal.waits,
    ),
    Metric(
        MetricType.COUNTER,
        "ackd_log_records",
        "Records before each cursor of the log.",
        _cursors,
    ),
    _gauge("ackd_log_bytes", "Size of the log.", lambda report: report.log.size),
    _gauge(
        "ackd_log_limit_bytes", "The size that the log can have.", lambda report: report.log.limit
    ),
    _gauge(
        "ackd_log_durable",
        "Whether acks wait for the disk: durability.",
        lambda report: report.log.durable,
    ),
    _summary(
        "ackd_log_commit_seconds",
        "How long commits of the log to the disk took; quantiles are of late.",
        lambda report: report.commits,
    ),
    Metric(
        MetricType.GAUGE,
        "ackd_certificate_not_before_timestamp_seconds",
        "When the certificate becomes valid, in seconds since 1970.",
        _certificates(lambda certificate: certificate.begin),
    ),
    Metric(
        MetricType.GAUGE,
        "ackd_certificate_not_after_timestamp_seconds",
        "When the certificate expires, in seconds since 1970.",
        _certificates(lambda certificate: certificate.end),
    ),
)
