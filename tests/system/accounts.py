"""The truth client's account, compared with the journal."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ackd.journal.entry import payloads_of
from ackd.records import Kind
from tests.support.project import PROJECT

from .machine import MACHINE_ADDRESS, Machine, Process
from .truth import PROGRESS, Account

_FIELDS = "MESSAGE,ACKD_CONNECTION,ACKD_SEQUENCE,ACKD_COUNT,ACKD_REPEATED"


class Load:
    """Clients that send as fast as they are answered."""

    def __init__(self, process: Process) -> None:
        self._process = process
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"

    def await_acks(self, count: int) -> None:
        """Wait until there are so many more acks, in hundreds."""
        assert self._process.stdout
        for _ in range(0, count, PROGRESS):
            assert self._process.stdout.readline().strip().isdigit()

    def stop(self) -> Account:
        """Let the clients finish; return what they have seen."""
        output, _ = self._process.communicate(timeout=120)
        return _account(output)

    def finish(self) -> Account:
        """Wait until the clients have sent all that they were to; return what they have seen."""
        assert self._process.stdout
        return _account(self._process.stdout.read())


def _account(output: bytes) -> Account:
    return Account(**json.loads(output.splitlines()[-1]))


@contextmanager
def load(
    machine: Machine, run: str, clients: int, depth: int, payloads: int = 0, reconnect: bool = False
) -> Iterator[Load]:
    """Have clients on the client host send until they are stopped, or have sent so many in all."""
    limits = (str(payloads), *(("--reconnect",) if reconnect else ()))
    arguments = (run, MACHINE_ADDRESS, "10008", str(clients), str(depth), *limits)
    with machine.client.popen(
        sys.executable,
        "-m",
        "tests.system.truth",
        *arguments,
        stdin=-1,
        env={"PYTHONPATH": str(PROJECT)},
    ) as process:
        yield Load(process)


@dataclass(frozen=True)
class Recorded:
    """One payload as it is recorded, as far as accounts go."""

    payload: str
    connection: str
    sequence: int
    repeated: bool


def recorded(machine: Machine, run: str, namespace: str = "", since: int = 0) -> Iterator[Recorded]:
    """Yield a run's payloads as they are recorded, oldest first: a namespace's, or the system's.

    What was recorded before `since`, in seconds since the epoch, is not looked through.
    """
    journalctl = ("journalctl", f"--namespace={namespace}")
    machine.run(*journalctl, "--sync")
    form = ("--output=json", f"--output-fields={_FIELDS}", "--quiet", "--all")
    which = (f"--since=@{since}", f"MESSAGE_ID={Kind.PAYLOAD.value}")
    with machine.popen(*journalctl, *form, *which) as process:
        assert process.stdout
        for line in process.stdout:
            fields = json.loads(line)
            # What is not text is there as a list of numbers.
            entry = {
                name: bytes(v) if isinstance(v, list) else v.encode() for name, v in fields.items()
            }
            for sequence, payload in payloads_of(entry):
                if payload.startswith(b"%b-" % run.encode()):
                    connection = fields["ACKD_CONNECTION"]
                    yield Recorded(payload.decode(), connection, sequence, "ACKD_REPEATED" in entry)
        assert process.wait() == 0


def payloads_in_journal(machine: Machine, run: str, *, namespace: str = "") -> Counter[str]:
    """Return how often each payload of a run is in the journal: a namespace's, or the system's."""
    return Counter(record.payload for record in recorded(machine, run, namespace))


@dataclass(frozen=True)
class Figures:
    """An account and a journal side by side; all but `longest_pause` and `p99` (s) are counts.

    `twice` are those recorded more than once and not said to be repeated; `out_of_order` those that
    come before an earlier one of their connection; `alien` those that nobody sent, or altered ones.
    """

    sent: int
    acknowledged: int
    refused: int
    unknown: int
    reset: int
    missing: int
    twice: int
    repeated: int
    out_of_order: int
    alien: int
    longest_pause: float
    p99: float


def compare(
    machine: Machine, run: str, account: Account, *, namespaces: tuple[str, ...] = ("",)
) -> Figures:
    """Compare an account with what one or more journals have of its run."""
    first, repeated = Counter[str](), Counter[str]()
    out_of_order = 0
    for name in namespaces:
        last: dict[str, int] = {}
        for record in recorded(machine, run, name, account.began):
            (repeated if record.repeated else first)[record.payload] += 1
            if not record.repeated:
                out_of_order += record.sequence <= last.get(record.connection, 0)
                last[record.connection] = record.sequence
    sent = {
        f"{run}-{client}-{number}"
        for client, count in enumerate(account.sent)
        for number in range(1, count + 1)
    }
    acknowledged = set(_named(run, account.acknowledged))
    refused = set(_named(run, account.refused))
    there = first.keys() | repeated.keys()
    return Figures(
        sent=len(sent),
        acknowledged=len(acknowledged),
        refused=len(refused),
        unknown=len(sent) - len(acknowledged) - len(refused),
        reset=account.reset,
        missing=len(acknowledged - there),
        twice=sum(count - 1 for count in first.values()),
        repeated=sum((first + repeated).values()) - len(there) - (sum(first.values()) - len(first)),
        out_of_order=out_of_order,
        alien=len(there - sent) + len(there & refused),
        longest_pause=account.longest_pause,
        p99=_p99(account),
    )


def _named(run: str, ranges: list[list[list[int]]]) -> Iterator[str]:
    for client, own in enumerate(ranges):
        for first, last in own:
            for number in range(first, last + 1):
                yield f"{run}-{client}-{number}"


def _p99(account: Account) -> float:
    """Return the seconds within which 99 of 100 acks came."""
    rest = sum(account.latencies.values()) / 100
    for tenths, count in sorted(account.latencies.items(), key=lambda item: -int(item[0])):
        rest -= count
        if rest < 0:
            return (int(tenths) + 1) / 10_000
    return 0.0


def assert_no_lie(figures: Figures) -> None:
    """Check the promise: whatever has happened, each ack was true, and each record too."""
    assert figures.acknowledged > 0
    assert figures.missing == 0
    assert figures.twice == 0
    assert figures.out_of_order == 0
    assert figures.alien == 0


def assert_true(
    machine: Machine, run: str, account: Account, *, namespaces: tuple[str, ...] = ("",)
) -> None:
    """Check that nobody has noticed anything, and each payload is in a journal exactly once."""
    assert account.trouble == []
    figures = compare(machine, run, account, namespaces=namespaces)
    assert_no_lie(figures)
    assert (figures.sent, figures.unknown, figures.refused) == (figures.acknowledged, 0, 0)
    assert figures.repeated == 0
