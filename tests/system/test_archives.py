"""When journald's files outlive a power cut, with the real files of both releases."""

import json
import re

from .support.machine import Machine, wait_until

# Runs shell commands, and looks after each of them whether what journald has stored before the
# command is safe, and whether there is a problem. Its arguments: the journald, and the commands.
LOOK = """
import json, os, subprocess, sys, time
from ackd.journal.archives import ArchiveSync
from ackd.journal.files import journal_files

archive_sync = ArchiveSync(journal_files(sys.argv[1], 0))
archive_sync.run()
for command in sys.argv[2:]:
    before = archive_sync.active
    subprocess.run(["sh", "-ec", command], check=True, stdout=subprocess.DEVNULL)
    for _ in range(100):  # journald finishes a file in a thread
        archive_sync.run()
        problem = archive_sync.problem or archive_sync.volatile
        if before in archive_sync.archived or problem:
            break
        time.sleep(0.01)
    print(json.dumps([before in archive_sync.archived, problem]))
"""
STORE = "echo hello | systemd-cat; journalctl --sync"
ROTATE = "journalctl --rotate"
JOURNALD = "systemd-journald@states"

Look = tuple[bool, str]  # whether what was stored before the command is safe; the problem
NOT_SAFE: Look = (False, "")
SAFE: Look = (True, "")


def look(
    machine: Machine, *commands: str, journald: str = "journald", before: tuple[str, ...] = ()
) -> list[Look]:
    done = machine.run(*before, "python3", "-c", LOOK, journald, *commands)
    looks = map(json.loads, done.stdout.splitlines())
    return [(newer, problem) for newer, problem in looks]


def test_records_are_safe_once_journald_has_archived_their_file(installed: Machine) -> None:
    assert look(installed, STORE, ROTATE, STORE, ROTATE) == [NOT_SAFE, SAFE, NOT_SAFE, SAFE]


def test_records_of_a_killed_journald_are_safe_in_the_file_that_it_leaves(
    installed: Machine,
) -> None:
    # journald would leave a whole file if it had synchronized it after the last entry.
    store = "echo unsynced | systemd-cat; until journalctl -n 9 | grep unsynced; do :; done"
    kill = "systemctl kill --signal=KILL systemd-journald; systemctl restart systemd-journald"
    assert look(installed, f"{store}; {kill}", ROTATE) == [SAFE, SAFE]
    assert "system@" in installed.run("sh", "-c", "ls /var/log/journal/*/*.journal~").stdout


def test_a_journal_in_memory_is_a_problem(installed: Machine) -> None:
    relinquish = f"journalctl --relinquish-var; {STORE}"
    (volatile, _, again) = look(installed, relinquish, f"journalctl --flush; {STORE}", ROTATE)
    text = r"the journal does not store payloads on the disk: it is /run/log/journal/\w+/.*"
    assert re.fullmatch(text, volatile[1])
    assert again == SAFE


def test_the_journal_of_a_namespace_has_its_own_files(installed: Machine) -> None:
    store = "systemd-run --quiet --wait -p LogNamespace=other echo hello"
    own = "journalctl --namespace=other --rotate"
    looks = look(installed, store, ROTATE, own, journald="journald@other")
    assert looks == [NOT_SAFE, NOT_SAFE, SAFE]


NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup")


def test_only_members_of_systemd_journal_can_synchronize_files(installed: Machine) -> None:
    installed.run("sh", "-c", f"{STORE}; {ROTATE}")
    ((_, problem),) = look(installed, "true", before=(*NOBODY, "--clear-groups"))
    assert re.fullmatch(r"/var/log/journal/\w+/system\.journal: Permission denied", problem)
    assert look(installed, "true", before=(*NOBODY, "--groups=systemd-journal")) == [NOT_SAFE]


# Prints the states of the files of a namespace's journald: first of the file that it writes.
STATES = """
import sys
from pathlib import Path
from ackd.journal.files import read_header

for path in sorted(Path("/var/log/journal").glob("*.states/system*")):
    with open(path, "rb") as file:
        header = read_header(file.fileno())
        print(header.state.name if header else "damaged")
"""


def test_the_header_of_a_real_file_shows_its_state(installed: Machine) -> None:
    def states() -> list[str]:
        return installed.python(STATES).stdout.splitlines()

    service = ("--unit=states", "-p", "LogNamespace=states", "sh", "-c", "echo hello; sleep 1h")
    installed.run("systemd-run", "--quiet", *service)
    wait_until("the service has logged", states)
    installed.run("journalctl", "--namespace=states", "--rotate")
    # journald sets a file offline whenever it synchronizes it.
    wait_until("the file is archived", lambda: states()[1] == "ARCHIVED")
    assert states()[0] in ("ONLINE", "OFFLINE")
    installed.run("systemctl", "stop", "states")
    stop = ("systemctl", "stop", "systemd-journald@states.socket", JOURNALD)
    # The end of the service has systemd synchronize the journal, which can cancel the stop.
    wait_until("journald has ended", lambda: installed.run(*stop, check=False).returncode == 0)
    assert states() == ["OFFLINE", "ARCHIVED"]
    # The power fails after the header, and before the size of the file, is on the disk.
    installed.run("sh", "-c", "truncate --size=-4096 /var/log/journal/*.states/system.journal")
    assert states() == ["damaged", "ARCHIVED"]
