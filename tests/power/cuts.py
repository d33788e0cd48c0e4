"""The ways in which the tests cut the power of a machine, and the acks that clients then have.

Each way is a function that gets a machine which has just been switched on.
"""

import itertools
import random
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.system.support.load_clients import ClientReport

from .clients import clients_of
from .disk import PowerCut
from .image import DISK_PORT, JOURNAL_PORT
from .machine import VirtualMachine

# journald enlarges its file, writes the new size into the file's header, and the kernel writes the
# header to the disk before the size of the file itself. A reader refuses such a file. The header of
# a journal file has its own size at the byte 88, and that of the rest of the file at the byte 96.
_TEAR = """
import ctypes, glob, os, secrets, struct
from systemd import journal

(path,) = glob.glob("/var/log/journal/*/system.journal")
descriptor = os.open(path, os.O_RDWR)
size = os.pread(descriptor, 8, 96)
while os.pread(descriptor, 8, 96) == size:
    journal.send(secrets.token_hex(100_000))
write_and_wait = 1 | 2 | 4
ctypes.CDLL(None).sync_file_range(
    descriptor, ctypes.c_int64(0), ctypes.c_int64(4096), write_and_wait
)
"""
_SIZE = """
import glob, struct

(path,) = glob.glob("/var/log/journal/*/system.journal")
with open(path, "rb") as file:
    print(struct.unpack_from("<Q", file.read(104), 96)[0])
"""
_COUNT_TORN = """
import glob, os, struct

def torn(path):
    with open(path, "rb") as file:
        file.seek(88)
        return sum(struct.unpack("<QQ", file.read(16))) > os.path.getsize(path)

print(sum(map(torn, glob.glob("/var/log/journal/*/*"))))
"""


@dataclass
class History:
    """What clients of one machine remember, and what its disk did, through all its cuts.

    `durable` has the reports of clients whose acks must outlive a cut, by the names of their runs.
    `volatile` has those of clients whose acks need not.
    """

    durable: dict[str, ClientReport] = field(default_factory=dict)
    volatile: dict[str, ClientReport] = field(default_factory=dict)
    cuts: list[PowerCut] = field(default_factory=list)


def cut_under_load(machine: VirtualMachine, chance: random.Random, past: History) -> None:
    """Cut the power while clients send. Another client has just got acks that the cut may lose."""
    machine.await_greeting(DISK_PORT)
    machine.run("systemctl", "start", "ackd@journal")
    run, other = _name(), _name()
    with clients_of(machine, DISK_PORT, run, clients=8, depth=8) as load:
        load.await_acks(chance.randrange(100, 2000, 100))
        with clients_of(machine, JOURNAL_PORT, other, clients=1, depth=10, payloads=10) as short:
            past.volatile[other] = short.finish()
        past.cuts.append(machine.cut_power_at_write(_nth(chance.randint(1, 20))))
        past.durable[run] = load.finish()


def cut_during_recovery(machine: VirtualMachine, chance: random.Random, past: History) -> None:
    """Cut the power when ackd has just begun to recover from the cut before."""
    machine.await_greeting(DISK_PORT)
    past.cuts.append(machine.cut_power_at_write(_nth(chance.randint(1, 50))))


def cut_with_a_torn_header(machine: VirtualMachine, _: random.Random, past: History) -> None:
    """Cut the power when the header of the journal's file is on the disk, but not its size."""
    machine.await_greeting(DISK_PORT)
    run = _name()
    with clients_of(machine, DISK_PORT, run, clients=4, depth=8, payloads=400) as load:
        past.durable[run] = load.finish()
    machine.run("journalctl", "--sync")
    size = int(machine.run("python3", "-c", _SIZE).stdout)
    machine.run("sh", "-c", 'python3 -c "$1" >/dev/null 2>&1 &', "sh", _TEAR)
    past.cuts.append(machine.cut_power_at_write(_is_header_beyond(size), share=1))


def torn_files(machine: VirtualMachine) -> int:
    """Return how many files of the journal have a header that promises more than they have."""
    return int(machine.run("python3", "-c", _COUNT_TORN).stdout)


def _nth(count: int) -> Callable[[bytes], bool]:
    """Return a function whose result is true from the n-th call on."""
    calls = itertools.count(1)
    return lambda data: next(calls) >= count


def _is_header_beyond(size: int) -> Callable[[bytes], bool]:
    """Return a function that recognises the header of a file of the journal which has grown.

    The kernel may also write the header before that.
    """

    def is_header(data: bytes) -> bool:
        return data.startswith(b"LPKSHHRH") and struct.unpack_from("<Q", data, 96)[0] > size

    return is_header


def _name() -> str:
    return f"R{secrets.token_hex(4)}"


Cut = Callable[[VirtualMachine, random.Random, History], None]
