"""Puts load on a machine, and compares the replies to its clients with the journal."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ackd.journal.entry import payloads_of
from ackd.records import Kind
from tests.support.project import PROJECT

from .load_clients import PROGRESS, ClientReport
from .machine import MACHINE_ADDRESS, Host, Machine, Process

_FIELDS = "MESSAGE,ACKD_CONNECTION,ACKD_SEQUENCE,ACKD_COUNT,ACKD_REPEATED"
# Options of journalctl that show the payloads as `parsed_payloads` reads them.
READ_PAYLOADS = (
    *("--output=json", f"--output-fields={_FIELDS}", "--quiet", "--all"),
    f"MESSAGE_ID={Kind.PAYLOAD.value}",
)


class Load:
    """Running clients that send as fast as the server acknowledges."""

    def __init__(self, process: Process) -> None:
        self._process = process
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"

    def await_acks(self, count: int) -> None:
        """Wait for so many more acks, a multiple of a hundred."""
        assert self._process.stdout
        for _ in range(0, count, PROGRESS):
            assert self._process.stdout.readline().strip().isdigit()

    def stop(self) -> ClientReport:
        """Stop the sending, wait for the replies that are due, and return the clients' report."""
        output, _ = self._process.communicate(timeout=120)
        return _client_report(output)

    def finish(self) -> ClientReport:
        """Wait until the clients have sent all their payloads; return the clients' report."""
        assert self._process.stdout
        return _client_report(self._process.stdout.read())


def _client_report(output: bytes) -> ClientReport:
    return ClientReport(**json.loads(output.splitlines()[-1]))


@contextmanager
def load(
    machine: Machine,
    run: str,
    clients: int,
    depth: int,
    payloads: int = 0,
    reconnect: bool = False,
    ca: Path | None = None,
) -> Iterator[Load]:
    """Start clients on the client host; `payloads` is how many all send, 0 is no limit.

    With `ca` they use TLS, and trust the authority whose certificate is in this file.
    """
    options = (*(["--reconnect"] if reconnect else []), *([f"--ca={ca}"] if ca else []))
    arguments = (run, MACHINE_ADDRESS, "10008", str(clients), str(depth), str(payloads), *options)
    with load_from(machine.client, *arguments) as running:
        yield running


@contextmanager
def load_from(host: Host, *arguments: str) -> Iterator[Load]:
    """Start clients on a host, with the arguments of `load_clients`."""
    with host.popen(
        sys.executable,
        "-m",
        "tests.system.support.load_clients",
        *arguments,
        stdin=-1,
        env={"PYTHONPATH": str(PROJECT)},
    ) as process:
        yield Load(process)


@dataclass(frozen=True)
class RecordedPayload:
    """One payload in the journal, with its connection's name and its number there."""

    payload: str
    connection: str
    sequence: int
    repeated: bool


def recorded_payloads(
    machine: Machine, run: str, namespace: str = "", since: int = 0
) -> Iterator[RecordedPayload]:
    """Yield the payloads of a run from the journal of a namespace, or the system's, oldest first.

    Entries before `since`, in seconds since the epoch, are skipped.
    """
    journalctl = ("journalctl", f"--namespace={namespace}")
    machine.run(*journalctl, "--sync")
    with machine.popen(*journalctl, *READ_PAYLOADS, f"--since=@{since}") as process:
        assert process.stdout
        yield from parsed_payloads(process.stdout, run)
        assert process.wait() == 0


def parsed_payloads(lines: Iterable[str | bytes], run: str) -> Iterator[RecordedPayload]:
    """Yield the payloads of a run from lines of journalctl."""
    for line in lines:
        fields = json.loads(line)
        # journalctl shows a value that is not text as a list of numbers.
        entry = {
            name: bytes(v) if isinstance(v, list) else v.encode() for name, v in fields.items()
        }
        for sequence, payload in payloads_of(entry):
            if payload.startswith(b"%b-" % run.encode()):
                connection = fields["ACKD_CONNECTION"]
                repeated = "ACKD_REPEATED" in entry
                yield RecordedPayload(payload.decode(), connection, sequence, repeated)


def payloads_in_journal(machine: Machine, run: str, *, namespace: str = "") -> Counter[str]:
    """Return how often each payload of a run is in the journal of a namespace, or the system's."""
    return Counter(record.payload for record in recorded_payloads(machine, run, namespace))


@dataclass(frozen=True)
class Audit:
    """The clients' report compared with the journal: counts, but for two times in seconds.

    `missing` payloads are acknowledged and not in the journal. `duplicated` ones are there more
    than once without the mark of a repetition; `repeated` ones are there again with the mark.
    `out_of_order` ones are recorded after a later one of their connection. `foreign` ones are in
    the journal although no client sent them, or although ackd refused them.
    """

    sent: int
    acknowledged: int
    refused: int
    unknown: int
    reset: int
    missing: int
    duplicated: int
    repeated: int
    out_of_order: int
    foreign: int
    longest_pause: float
    p99: float


def audit(
    machine: Machine, run: str, report: ClientReport, *, namespaces: tuple[str, ...] = ("",)
) -> Audit:
    """Compare the clients' report with one or more journals."""
    journals = (recorded_payloads(machine, run, name, report.began) for name in namespaces)
    return compare(run, report, journals)


def compare(run: str, report: ClientReport, journals: Iterable[Iterable[RecordedPayload]]) -> Audit:
    """Compare the clients' report with the records of one or more journals."""
    first, repeated = Counter[str](), Counter[str]()
    out_of_order = 0
    for records in journals:
        last: dict[str, int] = {}
        for record in records:
            (repeated if record.repeated else first)[record.payload] += 1
            if not record.repeated:
                out_of_order += record.sequence <= last.get(record.connection, 0)
                last[record.connection] = record.sequence
    sent = {
        f"{run}-{client}-{number}"
        for client, count in enumerate(report.sent)
        for number in range(1, count + 1)
    }
    acknowledged = set(_payloads(run, report.acknowledged))
    refused = set(_payloads(run, report.refused))
    in_journal = first.keys() | repeated.keys()
    duplicated = sum(first.values()) - len(first)
    return Audit(
        sent=len(sent),
        acknowledged=len(acknowledged),
        refused=len(refused),
        unknown=len(sent) - len(acknowledged) - len(refused),
        reset=report.reset,
        missing=len(acknowledged - in_journal),
        duplicated=duplicated,
        repeated=sum((first + repeated).values()) - len(in_journal) - duplicated,
        out_of_order=out_of_order,
        foreign=len(in_journal - sent) + len(in_journal & refused),
        longest_pause=report.longest_pause,
        p99=_p99(report),
    )


def _payloads(run: str, ranges: list[list[list[int]]]) -> Iterator[str]:
    """Yield the payloads with these numbers; `ranges` has a list of ranges for each client."""
    for client, numbers in enumerate(ranges):
        for first, last in numbers:
            for number in range(first, last + 1):
                yield f"{run}-{client}-{number}"


def _p99(report: ClientReport) -> float:
    """Return the latency that 99 of 100 acks did not exceed, in seconds."""
    rest = sum(report.latencies.values()) / 100
    for tenths, count in sorted(report.latencies.items(), key=lambda item: -int(item[0])):
        rest -= count
        if rest < 0:
            return (int(tenths) + 1) / 10_000
    return 0.0


def assert_promise_kept(result: Audit) -> None:
    """Check that every ack was true, and every record: the promise that holds in all faults."""
    assert result.acknowledged > 0
    assert result.missing == 0
    assert result.duplicated == 0
    assert result.out_of_order == 0
    assert result.foreign == 0


def assert_exactly_once(
    machine: Machine, run: str, report: ClientReport, *, namespaces: tuple[str, ...] = ("",)
) -> None:
    """Check that the clients saw no error, and that each payload is in a journal exactly once."""
    assert report.errors == []
    result = audit(machine, run, report, namespaces=namespaces)
    assert_promise_kept(result)
    assert (result.sent, result.unknown, result.refused) == (result.acknowledged, 0, 0)
    assert result.repeated == 0
