"""The metrics of `ackctl status`, as the parsers of Prometheus's own library read them."""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from itertools import count
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.ctl.status.metrics import METRICS, MetricType, Reports, to_openmetrics, to_prometheus
from ackd.status import CertificateStatus, Clients, ClientStatus, Counted, DaemonStatus, Payloads

pytest.importorskip("prometheus_client", reason="needs python3-prometheus-client")

import prometheus_client.openmetrics.parser
import prometheus_client.parser

UNIT = "ackd.service"
# Members that are no metrics: Prometheus computes rates and ages, and has a time of its own.
NOT_EXPORTED = {
    *("pid", "time", "running", "recent", "window"),
    *("rates", "by_connections", "by_payloads"),
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(parse: Callable[[str], Any], text: str) -> tuple[dict[str, str], Samples]:
    """Return the types by the names of metrics, and all samples."""
    metrics = list(parse(text))
    samples = [sample for metric in metrics for sample in metric.samples]
    found = {(each.name, tuple(sorted(each.labels.items()))): each.value for each in samples}
    assert len(found) == len(samples)
    assert all(metric.documentation for metric in metrics)
    return {metric.name: metric.type for metric in metrics}, found


def read_openmetrics(reports: Reports) -> tuple[dict[str, str], Samples]:
    parse = prometheus_client.openmetrics.parser.text_string_to_metric_families
    return read(parse, to_openmetrics(reports))


def read_prometheus(reports: Reports) -> tuple[dict[str, str], Samples]:
    return read(prometheus_client.parser.text_string_to_metric_families, to_prometheus(reports))


def filled(kind: type, numbers: Iterator[int]) -> Any:
    """Return an object of a dataclass with another number in each place."""
    return kind(**{name: _value(of, numbers) for name, of in get_type_hints(kind).items()})


def _value(of: Any, numbers: Iterator[int]) -> Any:
    if isinstance(of, type) and is_dataclass(of):
        return filled(of, numbers)
    number = next(numbers)
    if of is bool:
        return True
    if of is str:
        return f"text {number}"
    if of in (int, float, float | None):
        return number
    item = of.__args__[0]
    return (f"text {number}",) if item is str else (filled(item, numbers),)


def numbers_of(report: Any) -> Iterator[float]:
    """Yield the numbers of a report that are to be exported."""
    for field in fields(report):
        value = getattr(report, field.name)
        if field.name in NOT_EXPORTED:
            continue
        for each in value if isinstance(value, tuple) else (value,):
            if is_dataclass(each):
                yield from numbers_of(each)
            elif isinstance(each, int | float):
                yield each


FULL = filled(DaemonStatus, count(100))


def test_each_number_is_exported() -> None:
    _, samples = read_openmetrics({UNIT: FULL})
    assert set(numbers_of(FULL)) <= set(samples.values())


def test_both_formats_have_the_same_samples() -> None:
    reports = {UNIT: FULL, "ackd@north.service": DaemonStatus(), "ackd@south.service": None}
    types, samples = read_openmetrics(reports)
    old_types, old_samples = read_prometheus(reports)
    assert samples == old_samples
    assert len(types) == len(METRICS) + 1
    assert "info" in types.values()
    assert {name: "gauge" if kind == "info" else kind for name, kind in types.items()} == {
        name.removesuffix("_info"): kind for name, kind in old_types.items()
    }


def test_one_that_does_not_run_is_down_and_has_no_other_metric() -> None:
    for read_format in (read_openmetrics, read_prometheus):
        _, samples = read_format({UNIT: FULL, "ackd@north.service": None})
        down = {key: value for key, value in samples.items() if ("unit", UNIT) not in key[1]}
        assert down == {("ackd_up", (("unit", "ackd@north.service"),)): 0}
        assert samples[("ackd_up", (("unit", UNIT),))] == 1


def test_no_ackd_at_all_is_a_good_text_too() -> None:
    assert read_openmetrics({})[1] == read_prometheus({})[1] == {}


@settings(deadline=None)
@given(st.text(), st.text(), st.text(alphabet='\\"\n{},= #'))
def test_no_text_forges_a_sample(version: str, name: str, reason: str) -> None:
    report = DaemonStatus(
        version=version,
        payloads=Payloads(refused_for=(Counted(reason, 3),)),
        certificates=(CertificateStatus(name, 1, 2),),
    )
    usual, _ = read_openmetrics({UNIT: report})
    for read_format in (read_openmetrics, read_prometheus):
        types, samples = read_format({UNIT: report})
        assert len(types) == len(usual)
        refused = ("reason", reason), ("unit", UNIT)
        assert samples[("ackd_payloads_refused_by_reason_total", refused)] == 3
        expires = ("name", name), ("unit", UNIT)
        assert samples[("ackd_certificate_not_after_timestamp_seconds", expires)] == 2
        assert samples[("ackd_build_info", (("unit", UNIT), ("version", version)))] == 1


def test_of_certificates_with_one_name_the_first_to_expire_counts() -> None:
    ends = (CertificateStatus("a", 1, 20), CertificateStatus("a", 3, 10))
    _, samples = read_openmetrics({UNIT: DaemonStatus(certificates=ends)})
    named = ("name", "a"), ("unit", UNIT)
    assert samples[("ackd_certificate_not_after_timestamp_seconds", named)] == 10
    assert samples[("ackd_certificate_not_before_timestamp_seconds", named)] == 3


def test_clients_make_no_labels() -> None:
    busy = tuple(ClientStatus(f"192.0.2.{number}", 1) for number in range(250))
    clients = Clients(by_connections=busy, by_payloads=busy)
    few, many = (
        to_openmetrics({UNIT: DaemonStatus(clients=each)}) for each in (Clients(), clients)
    )
    assert few == many


def test_the_names_follow_the_conventions() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"ackd(_[a-z]+)+", metric.name)
        assert not metric.name.endswith(("_total", "_info", "_count", "_sum", "_ms", "_kb"))
        assert metric.type is not MetricType.SUMMARY or metric.name.endswith("_seconds")
        assert metric.help.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)
