"""`ackctl verify` and `ackctl log` with the journals of a collector."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from ackd.ctl.runs.payloads import Run
from ackd.journal.entry import JournalFormat
from ackd.records import Origin
from tests.support.ackctl_process import Ackctl, Ended, ackctl
from tests.support.collector import Node, collect, needs_journal_remote

pytestmark = needs_journal_remote

NODE_1, NODE_2 = "remote-CN=node1.journal", "remote-CN=node2.example.org,O=Acme.journal"
ON_THEIR_WAY = (
    "ackctl: records may still be on their way: see `systemctl status systemd-journal-upload`"
    " on the nodes\n"
)


@pytest.fixture
def run() -> Run:
    return Run()


def numbers(run: Run, *wanted: int) -> list[bytes]:
    return [run.payload(number) for number in wanted]


def verify(directory: Path, run: Run, *options: str) -> Ended:
    """Run `ackctl verify`; replace the times in its output."""
    status, out, err = ackctl("verify", run.name, "--directory", str(directory), *options)
    return status, re.sub(r"(?m)\d{4}-\d\d-\d\d .* to .*$", "TIMES", out), err


def facts(directory: Path, run: Run, *names: str) -> list[object]:
    _, out, _ = verify(directory, run, "--json")
    printed = json.loads(out)
    return [printed[name] for name in names]


def log(directory: Path, *options: str) -> Ended:
    """Run `ackctl log`; remove the times from its output."""
    status, out, err = ackctl("log", "--directory", str(directory), *options)
    return status, re.sub(r"(?m)^[0-9-]{10} \S+ ", "", out), err


def test_a_run_over_two_nodes_is_whole_and_each_node_is_named(tmp_path: Path, run: Run) -> None:
    collect(tmp_path / NODE_1, Node("one", 1).entries(numbers(run, 1, 3)))
    two = Node("two", 2).entries([*numbers(run, 2), run.end(3)], "d4e5f6-1")
    collect(tmp_path / NODE_2, two)
    printed = f"""\
run {run.name}: whole
from 192.0.2.1 in 2 connections, TIMES
      3  sent
      3  recorded
      0  missing
      0  twice
      0  out of order
      0  altered
      2  nodes: node1 has 2: 1, 3; node2.example.org has 1: 2
"""
    assert verify(tmp_path, run) == (0, printed, "")
    assert facts(tmp_path, run, "uploaded_twice", "nodes") == [
        0,
        [
            {
                "node": "node1",
                "hostnames": ["one"],
                "machine_ids": [Node("one", 1).machine],
                "recorded": 2,
                "numbers": [[1, 1], [3, 3]],
            },
            {
                "node": "node2.example.org",
                "hostnames": ["two"],
                "machine_ids": [Node("two", 2).machine],
                "recorded": 1,
                "numbers": [[2, 2]],
            },
        ],
    ]


def test_what_is_uploaded_twice_counts_once(tmp_path: Path, run: Run) -> None:
    node = Node("one", 1)
    repeated = node.entries(numbers(run, 2), first=2, ACKD_REPEATED="1")
    entries = [*node.entries([*numbers(run, 1, 2, 3), run.end(3)]), *repeated]
    for uploaded in (entries[:3], entries[1:], entries):
        collect(tmp_path / NODE_1, uploaded)
    assert facts(tmp_path, run, "whole", "twice", "repeated", "out_of_order", "uploaded_twice") == [
        *(True, 0, 1, 0),
        7,
    ]
    assert "\n      7  uploaded twice, which is no fault\n" in verify(tmp_path, run)[1]
    assert log(tmp_path, "--peer", "192.0.2.1") == (
        0,
        f"""\
192.0.2.1 port 4711 at node1 #1: {run.payload(1).decode()}
192.0.2.1 port 4711 at node1 #2: {run.payload(2).decode()}
192.0.2.1 port 4711 at node1 #3: {run.payload(3).decode()}
192.0.2.1 port 4711 at node1 #4: {run.end(3).decode()}
192.0.2.1 port 4711 at node1 #2 repeated: {run.payload(2).decode()}
""",
        "ackctl: left out: 7 that were uploaded twice\n",
    )


def test_a_payload_that_was_sent_again_is_still_there_twice(tmp_path: Path, run: Run) -> None:
    entries = Node("one", 1).entries([*numbers(run, 1, 2, 2), run.end(2)])
    collect(tmp_path / NODE_1, entries)
    collect(tmp_path / NODE_1, entries)
    found = facts(tmp_path, run, "whole", "twice_numbers", "uploaded_twice")
    assert found == [False, [[2, 2]], 4]


def test_connections_of_two_nodes_with_one_name_are_two(tmp_path: Path, run: Run) -> None:
    collect(tmp_path / NODE_1, Node("one", 1).entries(numbers(run, 1)))
    collect(tmp_path / NODE_2, Node("two", 2).entries([run.end(1)]))
    assert facts(tmp_path, run, "whole", "connections", "uploaded_twice") == [True, 2, 0]


def test_log_merges_the_nodes_by_time(tmp_path: Path) -> None:
    collect(tmp_path / NODE_1, Node("one", 1).entries([b"0", b"1", b"2"]))
    collect(
        tmp_path / NODE_2,
        Node("two", 2, begin=1).entries([b"one", b"two"], _SYSTEMD_UNIT="ackd@north.service"),
    )
    lines = [
        "192.0.2.1 port 4711 at node1 #1: 0",
        "192.0.2.1 port 4711 at node1 #2: 1",
        "192.0.2.1 port 4711 to ackd@north at node2.example.org #1: one",
        "192.0.2.1 port 4711 at node1 #3: 2",
        "192.0.2.1 port 4711 to ackd@north at node2.example.org #2: two",
    ]
    status, out, err = log(tmp_path)
    assert (status, out.splitlines(), err) == (0, lines, "")
    assert log(tmp_path, "-n", "3")[1].splitlines() == lines[-3:]
    *_, last, end = map(json.loads, log(tmp_path, "--json")[1].splitlines())
    assert (last["node"], last["hostname"], last["machine_id"]) == (
        *("node2.example.org", "two"),
        Node("two", 2).machine,
    )
    assert end == {"payloads": 5, "uploaded_twice": 0, "status": 0}


def test_records_of_other_units_and_users_are_not_believed(tmp_path: Path, run: Run) -> None:
    node = Node("one", 1)
    own = node.entries(numbers(run, 1))
    other_unit = node.entries(numbers(run, 2), "forged-1", _SYSTEMD_UNIT="cron.service")
    other_user = node.entries(numbers(run, 3), "forged-2", _UID="1000")
    no_unit = node.entries(numbers(run, 4), "forged-3", _SYSTEMD_UNIT="", _UID="1000")
    collect(tmp_path / NODE_1, [*own, *other_unit, *other_user, *no_unit])
    found = facts(tmp_path, run, "recorded", "highest", "not_believed", "without_unit")
    assert found == [1, 1, 3, 1]


def test_no_certificate_speaks_for_the_machine_of_another(tmp_path: Path, run: Run) -> None:
    victim, hostile = Node("one", 1), Node("evil", 2)
    collect(tmp_path / NODE_1, victim.entries(numbers(run, 1)))
    collect(tmp_path / NODE_2, hostile.entries([b"own"], "evil-1"))
    collect(tmp_path / NODE_2, victim.entries([*numbers(run, 2), run.end(2)]))
    status, out, err = verify(tmp_path, run)
    assert (status, err) == (6, ON_THEIR_WAY)
    assert out.endswith(
        "      1  nodes: node1 has 1: 1\n"
        "      2  not believed: they name a machine for which another certificate speaks;"
        " see --unit\n"
    )
    assert verify(tmp_path, run, "--unit", "*")[0] == 0


def test_machines_that_share_a_certificate_are_reported(tmp_path: Path, run: Run) -> None:
    one, two = Node("one", 1), Node("two", 2)
    collect(tmp_path / NODE_1, one.entries(numbers(run, 1)))
    collect(tmp_path / NODE_1, two.entries([run.end(1)], "d4e5f6-1"))
    status, out, _ = verify(tmp_path, run)
    machines = f"{one.machine}, {two.machine}"
    assert (status, out.splitlines()[-1]) == (
        0,
        f"      2  machines have uploaded as node1: {machines}",
    )


def test_no_client_hides_the_entries_of_another_node(tmp_path: Path, run: Run) -> None:
    """libsystemd itself would skip entries of the same boot that are before a later time."""
    victim = Node("one", 1)
    collect(tmp_path / NODE_1, victim.entries([*numbers(run, 1, 2, 3), run.end(3)]))
    forged = Node("evil", 2, begin=-1000).entries([b"x"] * 3, _BOOT_ID=victim.boot)
    late = [re.sub(rb"(__MONOTONIC_TIMESTAMP)=.*", rb"\1=999999999999", e) for e in forged]
    collect(tmp_path / NODE_2, late)
    assert verify(tmp_path, run)[0] == 0


@pytest.mark.parametrize(
    ("file", "node"),
    [
        ("remote-192.0.2.9.journal", "192.0.2.9"),
        (r"remote-CN=node\x201.journal", r"node 1"),
        (r"remote-O=Acme,CN=a\x5c,b.journal", r"a\\,b"),
        (r"remote-CN=\x1b[2J.journal", r"\x1b[2J"),
        ("remote-O=Acme.journal", "O=Acme"),
        ("remote.journal", "one"),
        ("system.journal", "one"),
    ],
)
def test_the_file_names_the_node(tmp_path: Path, file: str, node: str) -> None:
    collect(tmp_path / file, Node("one", 1).entries([b"hello"]))
    assert log(tmp_path) == (0, f"192.0.2.1 port 4711 at {node} #1: hello\n", "")


def test_certificates_with_the_same_host_name_have_their_whole_names(tmp_path: Path) -> None:
    collect(tmp_path / "remote-CN=one,O=A.journal", Node("one", 1).entries([b"a"]))
    collect(tmp_path / "remote-CN=one,O=B.journal", Node("one", 2, begin=9).entries([b"b"]))
    nodes = re.findall(" at (.*) #", log(tmp_path)[1])
    assert nodes == ["CN=one,O=A", "CN=one,O=B"]


def archive(directory: Path, name: str, head: int) -> None:
    """Give a file the name of an archived one."""
    path = directory / name
    path.rename(path.with_name(f"{path.stem}@{'0' * 31}1-{head:016x}-{head:016x}.journal"))


def test_archived_files_are_read_in_their_order(tmp_path: Path, run: Run) -> None:
    node = Node("one", 1)
    for first in (1, 3, 5):
        collect(tmp_path / NODE_1, node.entries(numbers(run, first, first + 1), first=first))
        archive(tmp_path, NODE_1, first)
    collect(tmp_path / NODE_1, node.entries([run.end(6)], first=7))
    assert verify(tmp_path, run)[0] == 0
    assert re.findall("#([0-9])", log(tmp_path, "-n", "3")[1]) == ["5", "6", "7"]


def test_following_goes_on_in_a_new_file_and_with_a_new_node(tmp_path: Path) -> None:
    node = Node("one", 1)
    collect(tmp_path / NODE_1, node.entries([b"first"]))
    with Ackctl("log", "--directory", str(tmp_path), "--follow") as follower:
        assert follower.read_line().endswith(" at node1 #1: first\n")
        collect(tmp_path / NODE_1, node.entries([b"second"], first=2))
        assert follower.read_line().endswith(" at node1 #2: second\n")
        archive(tmp_path, NODE_1, 1)
        collect(tmp_path / NODE_1, node.entries([b"third"], first=3))
        assert follower.read_line().endswith(" at node1 #3: third\n")
        collect(tmp_path / NODE_2, Node("two", 2).entries([b"hello"]))
        assert follower.read_line().endswith(" at node2.example.org #1: hello\n")
        follower.signal(signal.SIGINT)
        assert follower.ended() == (0, "", "")


def test_since_counts_for_each_record(tmp_path: Path) -> None:
    entries = Node("one", 1).entries([b"a", b"b", b"c"])
    for uploaded in (entries[1:], entries[:1]):  # a backlog can come late
        collect(tmp_path / NODE_1, uploaded)
    assert re.findall(": (.)\n", log(tmp_path, "--since", "@1764150001")[1]) == ["b", "c"]
    assert log(tmp_path, "--since", "@1764150003") == (0, "", "")


def test_records_of_several_payloads_are_read(tmp_path: Path, run: Run) -> None:
    node = Node("one", 1)
    origin = Origin("192.0.2.1", 4711, "192.0.2.2:10008", "a1b2c3-1")
    payloads = [*numbers(run, *range(1, 101)), run.end(100)]
    shared = JournalFormat().batches(JournalFormat().prefix(origin), 1, payloads, 4096)
    entries = [node.entry(record) for _, record in shared]
    collect(tmp_path / NODE_1, entries)
    collect(tmp_path / NODE_1, entries[-1:])
    found = facts(tmp_path, run, "whole", "recorded")
    assert (len(entries) < 10, found) == (True, [True, 100])
    assert re.findall("#([0-9]+)", log(tmp_path, "-n", "2")[1]) == ["100", "101"]


# Directories and files that can't be read


def error_of(*arguments: str) -> str:
    """Return the error of `ackctl log`, which is that of `ackctl verify` as well."""
    status, out, err = ackctl("log", "--directory", *arguments)
    assert (status, out) == (2, "")
    assert ackctl("verify", "night", "--directory", *arguments) == (2, "", err)
    return err


def test_a_directory_without_journals_is_reported(tmp_path: Path) -> None:
    there, file = tmp_path / "there", tmp_path / "there" / "file"
    assert error_of(str(there)) == f"ackctl: there is no directory {there}\n"
    assert error_of("") == "ackctl: there is no journal in .\n"
    there.mkdir()
    file.write_bytes(b"")
    assert error_of(str(there)) == f"ackctl: there is no journal in {there}\n"
    assert error_of(str(file)) == (
        f"ackctl: {file} is no directory: give the directory that it is in\n"
    )
    (there / "remote").mkdir()
    assert error_of(str(there)) == (
        f"ackctl: there is no journal in {there}: is it {there}/remote?\n"
    )


def test_a_file_without_the_right_to_read_it_is_reported(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read all files")
    collect(tmp_path / NODE_1, Node("one", 1).entries([b"hello"]))
    (tmp_path / NODE_1).chmod(0)
    remedy = "be root, or join the group that may read it"
    assert error_of(str(tmp_path)) == f"ackctl: no right to read {tmp_path / NODE_1}: {remedy}\n"


def test_damaged_files_are_left_out_and_reported(tmp_path: Path, run: Run) -> None:
    entries = Node("one", 1).entries([*numbers(run, 1), run.end(1)])
    whole, cut, torn = (tmp_path / f"remote-CN={name}.journal" for name in ("a", "b", "c"))
    for path in (whole, cut, torn):
        collect(path, entries)
    cut.write_bytes(cut.read_bytes()[:100_000])
    torn.write_bytes(b"\0" * 100_000)
    whole_run = verify(tmp_path, run)
    assert (whole_run[0], whole_run[2]) == (
        0,
        f"ackctl: {cut} is left out: it is empty or cut off, as a copy can be that was made while"
        f" it was written\nackctl: {torn} is left out: it is damaged\n",
    )
    whole.unlink()
    status, _, err = verify(tmp_path, run)
    assert (status, err.splitlines()[-1]) == (2, f"ackctl: no journal in {tmp_path} can be read")


def test_a_file_that_is_damaged_in_its_middle_is_reported(tmp_path: Path) -> None:
    path = tmp_path / NODE_1
    collect(path, Node("one", 1).entries([b"x" * 500] * 2000))
    content = bytearray(path.read_bytes())
    middle = content.index(b"ACKD_SEQUENCE=1000")
    content[middle : middle + 65536] = bytes(65536)
    path.write_bytes(content)
    _, out, err = log(tmp_path)
    assert len(out.splitlines()) < 2000
    assert err == f"ackctl: {path} is left out: it is damaged, and not all of it can be read\n"


def test_a_copy_that_is_made_while_the_file_is_written_is_read(tmp_path: Path) -> None:
    node = Node("one", 1)
    growing, copy = tmp_path / NODE_1, tmp_path / "copy"
    collect(growing, node.entries([b"first"]))
    copy.mkdir()
    remote = ("--split-mode=none", f"--output={growing}", "-")
    with subprocess.Popen(
        ["/usr/lib/systemd/systemd-journal-remote", *remote], stdin=subprocess.PIPE
    ) as process:
        assert process.stdin
        process.stdin.write(b"".join(node.entries([b"second"], first=2)))
        process.stdin.flush()
        with Ackctl("log", "--directory", str(tmp_path), "--follow") as follower:
            assert follower.read_line().endswith("#1: first\n")
            assert follower.read_line().endswith("#2: second\n")
        subprocess.run(["cp", growing, copy / NODE_1], check=True)
        assert log(copy)[1].splitlines()[-1].endswith("#2: second")


def test_directory_and_namespace_exclude_each_other() -> None:
    status, _, err = ackctl("log", "--directory", ".", "--namespace", "ackd")
    assert status == 2
    assert "argument --namespace: not allowed with argument --directory" in err
