"""The truth client's account, compared with the journal."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ackd.records import Kind

from .machine import MACHINE_ADDRESS, Machine, Process
from .truth import Account

_PROJECT = Path(__file__).parents[2]


class Load:
    """Clients that send as fast as they are answered."""

    def __init__(self, run: str, process: Process) -> None:
        self._run = run
        self._process = process
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"

    def stop(self) -> Account:
        """Let the clients finish; return what they have seen."""
        output, _ = self._process.communicate(timeout=120)
        return Account(**json.loads(output))


@contextmanager
def load(machine: Machine, run: str, clients: int, depth: int) -> Iterator[Load]:
    """Have clients on the client host send until they are stopped."""
    arguments = (run, MACHINE_ADDRESS, "10008", str(clients), str(depth))
    with machine.client.popen(
        sys.executable,
        "-m",
        "tests.system.truth",
        *arguments,
        stdin=-1,
        env={"PYTHONPATH": str(_PROJECT)},
    ) as process:
        yield Load(run, process)


def payloads_in_journal(machine: Machine, run: str, *, namespace: str = "") -> Counter[str]:
    """Return how often each payload of a run is in the journal: a namespace's, or the system's."""
    journalctl = ("journalctl", f"--namespace={namespace}")
    prefix = f"Buffer: {run}-"
    match = f"MESSAGE_ID={Kind.PAYLOAD.value}"
    machine.run(*journalctl, "--sync")
    output = machine.run(*journalctl, "-q", "-o", "cat", match, timeout=300).stdout
    return Counter(
        line.removeprefix("Buffer: ") for line in output.split("\n") if line.startswith(prefix)
    )


def assert_true(
    machine: Machine, run: str, account: Account, *, namespaces: tuple[str, ...] = ("",)
) -> None:
    """Check that all went well, and each acknowledged payload is in a journal exactly once."""
    assert account.trouble == []
    assert account.sent == account.acknowledged
    expected = {
        f"{run}-{client}-{number}": 1
        for client, count in enumerate(account.acknowledged)
        for number in range(1, count + 1)
    }
    recorded = (payloads_in_journal(machine, run, namespace=name) for name in namespaces)
    assert sum(recorded, Counter()) == expected
