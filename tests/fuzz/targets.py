"""Conditions that must hold for any bytes: a target raises an error if they do not hold."""

import select
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from zlib import crc32

from ackd.journal.entry import JournalFormat
from ackd.log.files import FileStorage
from ackd.log.format import FRAME, Header
from ackd.log.log import Log
from ackd.log.storage import LogError
from ackd.peers import address_of
from ackd.protocol import (
    NOT_CONNECT,
    NOT_RECEIVED,
    ClientProtocol,
    ProtocolState,
    Reply,
    ServerProtocol,
    Violation,
)
from ackd.records import Kind, Origin, Priority, Record
from ackd.server.proxy_header import ProxyHeader, ProxyHeaderError, header_length, parse_header
from ackd.server.snapshot import Snapshot
from ackd.server.stream import CutOffError
from ackd.server.tls_stream import EncryptedStream
from ackd.service.handover import HandoverError, State
from tests.simulation.disk import SimulatedDisk, SimulatedWorker
from tests.support.certificates import Authority
from tests.support.handover_bytes import dump, load
from tests.support.runs import in_bytes
from tests.support.tls import client_context, server_context

OK, REFUSED = b"ok", b"not received: no"


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def options(data: bytes, count: int) -> tuple[list[int], bytes]:
    """Return the first `count` bytes as numbers, 0 for missing bytes, and the rest of the data."""
    return [*data[:count].ljust(count, b"\0")], data[count:]


# The server's side


class Exchange:
    """A client's lines and the replies to them; `recorded` has the acknowledged payloads."""

    def __init__(self, limit: int) -> None:
        self.recorded: list[bytes] = []
        self.replies = b""
        self._limit = limit
        self._protocol = ServerProtocol(limit, OK + b"\n")

    def feed(self, data: bytes) -> None:
        self._protocol.receive_data(data)

    def record(self, count: int) -> None:
        """Record at most `count` payloads, like a journal that takes no more."""
        taken = self._protocol.payloads[:count]
        assert self._protocol.sequence == len(self.recorded) + 1
        self.recorded += taken
        self.replies += in_bytes(self._protocol.acknowledge(len(taken)))

    def refuse(self) -> None:
        self.replies += in_bytes(self._protocol.refuse("no"))

    def hand_over(self) -> None:
        """Continue with another ServerProtocol, which has only the state of this one."""
        successor = ServerProtocol(self._limit, OK + b"\n")
        successor.restore(self._protocol.state())
        self._protocol = successor

    def end(self) -> None:
        self.record(len(self._protocol.receive_eof()))
        while self._protocol.waiting:
            self.record(len(self._protocol.split(-1)))
        assert self.replies.count(b"\n") == self._protocol.acknowledged + self._protocol.refused


def server_protocol(data: bytes) -> None:
    """Any chunks, turns and hand-overs give the replies that belong to the whole stream."""
    (limit, size, turn, refusal, handover), stream = options(data, 5)
    whole = Exchange(limit % 20)
    whole.feed(stream)
    whole.end()
    lines = list(lines_of(stream))
    assert whole.recorded == [line for line in lines if len(line) <= limit % 20]
    assert whole.replies.splitlines() == [due(line, limit % 20) for line in lines]

    pieces = Exchange(limit % 20)
    for number, chunk in enumerate(chunks(stream, size % 8 + 1), 1):
        pieces.feed(chunk)
        pieces.record(turn % 4)
        if handover and number % handover == 0:
            pieces.hand_over()
        if refusal and number % refusal == 0:
            pieces.refuse()
        seen = stream[: number * (size % 8 + 1)]
        assert pieces.replies.count(b"\n") <= len(list(lines_of(seen)))
    pieces.end()
    compare(pieces, lines, limit % 20)


def compare(exchange: Exchange, lines: list[bytes], limit: int) -> None:
    """Check that each line has its reply, in order, and is recorded if the reply is an ack."""
    replies = exchange.replies.splitlines()
    assert len(replies) == len(lines)
    acknowledged = []
    for line, reply in zip(lines, replies, strict=True):
        assert reply in (due(line, limit), REFUSED if len(line) <= limit else None)
        if reply == OK:
            acknowledged.append(line)
    assert acknowledged == exchange.recorded


def lines_of(stream: bytes) -> Iterator[bytes]:
    """Yield the payloads of a stream, split byte by byte as the protocol is documented."""
    line = b""
    for byte in stream:
        if byte == 0x0A:
            yield line[:-1] if line[-1:] == b"\r" else line
            line = b""
        else:
            line += bytes([byte])
    if line:
        yield line


def due(line: bytes, limit: int) -> bytes:
    return OK if len(line) <= limit else b"not received: longer than %d bytes" % limit


# The client's side


def client_protocol(data: bytes) -> None:
    """Whatever a server sends, there is at most one reply for each payload, in any chunks."""
    (payloads, size, greeting), stream = options(data, 3)
    count, greets = payloads % 8, bool(greeting % 2)
    whole = received(stream, len(stream) or 1, count, greets)
    assert received(stream, size % 8 + 1, count, greets) == whole

    lines = stream.split(b"\n")[:-1]
    replies = lines[greets:]
    rejections = [n for n, line in enumerate(replies) if line.startswith(NOT_CONNECT)]
    if any(NOT_CONNECT in line for line in lines[:greets]):
        rejections.insert(0, 0)
    replies = replies[: rejections[0]] if rejections else replies
    assert [reply.text for reply in whole[0]] == replies[:count]
    assert whole[1] == (Violation.EXCESS_REPLY if len(replies) > count else None)


def received(
    stream: bytes, size: int, payloads: int, greets: bool
) -> tuple[list[Reply], Violation | None]:
    """Return all replies, and a violation: something that no ackd would send."""
    protocol: ClientProtocol[int] = ClientProtocol(greets)
    for number in range(payloads):
        protocol.send_payload(b"%d" % number, number)
    answers: list[tuple[int, Reply]] = []
    for chunk in chunks(stream, size):
        answers += protocol.receive_data(chunk)
        assert [*(tag for tag, _ in answers), *protocol.in_flight] == list(range(payloads))
        if protocol.violation:
            break
    replies = [reply for _, reply in answers]
    for reply in replies:
        assert (reply.verdict.name == "REFUSED") == reply.text.startswith(NOT_RECEIVED)
    return replies, protocol.violation


# The state of the previous process

_PROTOCOL = ProtocolState(b"half", False, (b"one", b"two"), ((1, b"no\n"),), 9, 3, 1)
_FLAGS = (True, True, False)  # has_sent, connect_recorded, eof
_OWED = ((b"ok\n", 2),)
_SNAPSHOT = Snapshot(1, "::1", 9, "[::1]:8", "x-1", 0.5, *_FLAGS, _OWED, 0, None, _PROTOCOL)
_TEXT = dump(State((_SNAPSHOT,), (b"note",)))
_VALUES = (
    *(
        b"1, ",
        b'"::1"',
        b'"[::1]:8"',
        b'"x-1"',
        b"0.5",
        b"true",
        b"false",
        b'[["ok\\n", 2]]',
        b"null",
    ),
    *(b'"half"', b'["one", "two"]', b'"two"', b'[[1, "no\\n"]]', b"9, ", b"3, ", b'["note"]'),
)


def handover(data: bytes) -> None:
    """A state is refused, or connections can continue from it and answer its payloads."""
    try:
        state = load(with_wrong_values(data))
    except HandoverError:
        return
    assert load(dump(state)).connections == state.connections
    for snapshot in state.connections:
        continue_from(snapshot)


def with_wrong_values(data: bytes) -> bytes:
    """Return `data` if it looks like JSON; else a good state in which some values are replaced.

    Each part of `data` between NULs has the number of a value, as one byte, and its replacement.
    """
    if data.startswith(b"{"):
        return data
    text = _TEXT
    for part in data.split(b"\0"):
        text = text.replace(_VALUES[part[0] % len(_VALUES)], part[1:], 1) if part else text
    return text


def continue_from(snapshot: Snapshot) -> None:
    protocol = ServerProtocol(10, OK + b"\n")
    protocol.restore(snapshot.protocol)
    record(snapshot, protocol)
    state = snapshot.protocol
    replies = b""
    for position in range(len(state.payloads) + 1):
        replies += b"".join(reply for before, reply in state.refusals if before == position)
        replies += OK + b"\n" if position < len(state.payloads) else b""
    turns = cycle((1, 0, 2))
    given = in_bytes(protocol.acknowledge(0))
    while protocol.payloads:
        given += in_bytes(protocol.acknowledge(min(next(turns), len(protocol.payloads))))
    assert given == replies
    lines = [b"y"] if state.skipping else [state.partial + b"x", b"y"]
    assert protocol.receive_data(b"x\ny\n") == [line for line in lines if len(line) <= 10]


def record(snapshot: Snapshot, protocol: ServerProtocol) -> None:
    """Format each record that can follow."""
    form = JournalFormat()
    origin = snapshot.origin
    for number, payload in enumerate(protocol.payloads):
        form.payload(form.prefix(origin), protocol.sequence + number, payload)
    counts = (("ACKD_PAYLOADS", protocol.acknowledged), ("ACKD_BYTES", protocol.received))
    form.record(Record(Kind.CLOSED, Priority.INFO, f"{snapshot.started}", origin, counts))


# The log of the previous process


class SmallFiles(FileStorage):
    """The log in files that are small enough for a fuzzer."""

    segment_size = 1024


def log_files(data: bytes) -> None:
    """Whatever is in the files, only whole records are read, and all those before the damage."""
    (count, size, place, file, control), damage = options(data, 5)
    headers = [Header(77 + epoch, epoch, 9 * epoch, 0, True) for epoch in (1, 2)]
    files = [segment_file(header, count % 10, b"r" * size) for header in headers]
    start = place * 4
    expected = {
        number
        for header, content, damaged in zip(headers, files, (file % 2, not file % 2), strict=True)
        for number, end in records_in(header, content)
        if end <= start or not damaged
    }
    files[1 - file % 2][start : start + len(damage)] = damage[: SmallFiles.segment_size - start]
    disk = SimulatedDisk(Random(0), 512)
    for slot, content in enumerate(files):
        disk.open(f"segment-{slot:06d}", create=True).write(bytes(content), 0)
    disk.open("control", create=True).write(damage * (control % 2), 0)
    try:
        log = Log(SmallFiles(disk, 1 << 20, SimulatedWorker(), bytes(16)))
    except LogError as error:
        assert "version" in error.problem  # noqa: PT017
        return
    found = found_in(log)
    assert expected <= found.keys()
    for number, record in found.items():
        frames = [frame(header, number, record) for header in headers]
        assert any(whole in content for whole, content in zip(frames, files, strict=True))
    missing = {number for gap in log.gaps for number in range(gap.first, gap.next)}
    assert missing | found.keys() == set(range(log.appended))
    assert not missing & found.keys()
    assert log.append(b"next")
    assert [*log.records(0, log.appended)] == [*found.values(), b"next"]


def frame(header: Header, number: int, record: bytes) -> bytes:
    """Return the bytes of a record in a segment."""
    return FRAME.pack(len(record), crc32(record, header.salt + number), number) + record


def segment_file(header: Header, count: int, rest: bytes) -> bytearray:
    """Return a segment with so many records, each its number and `rest`; then zeros."""
    content = bytearray(header.pack())
    for number in range(header.first, header.first + count):
        content += frame(header, number, b"%d" % number + rest)
        content += bytes(-len(content) % 8)
    return content[: SmallFiles.segment_size].ljust(SmallFiles.segment_size, b"\0")


def records_in(header: Header, content: bytearray) -> Iterator[tuple[int, int]]:
    """Yield the number of each whole record of a segment, and where it ends."""
    start = len(header.pack())
    number = header.first
    while (length := int.from_bytes(content[start : start + 4], sys.byteorder)) > 0:
        end = start + FRAME.size + length
        if end > len(content):
            break
        yield number, end
        start = end + -end % 8
        number += 1


def found_in(log: Log) -> dict[int, bytes]:
    """Return all records of a log by their numbers."""
    found = {}
    reader = log.reader(0)
    while (record := reader.peek()) is not None:
        found[reader.number] = record
        reader.advance()
    return found


# The header of a load balancer


def proxy_header(data: bytes) -> None:
    """Any pieces of a stream give the same header, and leave all bytes behind it; or none does."""
    (size,), stream = options(data, 1)
    if not stream:
        return
    try:
        length = header_length(stream)
        whole = length is not None and length <= len(stream)
        header = parse_header(stream[:length]) if whole else None
    except ProxyHeaderError as error:
        assert error.reason.isprintable()  # noqa: PT017
        header, length = None, -1
    if header:
        origin = Origin(header.address, header.port, "[::1]:8", "x-1", header.facts)
        assert not header.address or str(address_of(header.address)) == header.address
        assert len(JournalFormat().prefix(origin)) < 1024
        assert all(fact.isprintable() for _, fact in header.facts)
    assert read_header(stream, size % 9 + 1) == (header, length)


def read_header(stream: bytes, size: int) -> tuple[ProxyHeader | None, int | None]:
    """Return the header that a stream begins with, and its length, from pieces of this size."""
    length = None
    for end in range(size, len(stream) + size, size):
        seen = stream[:end]
        try:
            length = header_length(seen)
            if length is not None and length <= len(seen):
                return parse_header(stream[:length]), length
        except ProxyHeaderError:
            return None, -1
    return None, length


# TLS


@cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a client and of a server, with a new certificate."""
    with TemporaryDirectory() as directory:
        authority = Authority(Path(directory) / "ca")
        return client_context(authority), server_context(authority.issue("ackd"))


class TlsClient:
    """A client over TLS whose bytes can be damaged on their way to the server."""

    def __init__(self, damage: bytes, place: int) -> None:
        ours, theirs = tls_contexts()
        self.end, server = socket.socketpair()
        self.end.setblocking(False)
        server.setblocking(False)
        self.stream = EncryptedStream(server, theirs)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = ours.wrap_bio(self._incoming, self._outgoing)
        self._damage, self._place = damage, place

    def shake_hands(self) -> bool:
        """Return whether the handshake is complete; damage can prevent that."""
        with suppress(ssl.SSLError, OSError, EOFError):
            while True:
                with suppress(ssl.SSLWantReadError):
                    self._tls.do_handshake()
                    self.send(self._outgoing.read())
                    return self.stream.handshake() or self.stream.handshake()
                self.send(self._outgoing.read())
                while select.select([self.stream], [], [], 0)[0]:
                    self.stream.handshake()
                self._incoming.write(self.end.recv(65536))
        return False

    def send(self, data: bytes) -> None:
        """Send encrypted bytes, with the damage if its place is among them."""
        if self._place < len(data):
            end = self._place + len(self._damage)
            data = data[: self._place] + self._damage + data[end:]
        self._place -= len(data)
        self.end.send(data)

    def encrypted(self, payload: bytes) -> bytes:
        self._tls.write(payload)
        return self._outgoing.read()

    def close(self) -> None:
        self.stream.close()
        self.end.close()


def tls_stream(data: bytes) -> None:
    """Whatever comes, a handshake fails in words, or payload arrives as it was sent, or not at all.

    The damage is in the handshake, or behind it.
    """
    (behind, place, size, count), damage = options(data, 4)
    client = TlsClient(b"" if behind % 2 else damage, 4 * place)
    try:
        if not client.shake_hands():
            assert damage
            return
        sent = [b"%d" % number * (size + 1) for number in range(count % 16 + 1)]
        records = bytearray(b"".join(map(client.encrypted, sent)))
        if behind % 2:
            records[4 * place : 4 * place + len(damage)] = damage
        client.end.send(records)
        client.end.shutdown(socket.SHUT_WR)
        received, error = receive_all(client.stream)
        assert b"".join(sent).startswith(received)
        assert damage or received == b"".join(sent)
        assert "_" not in error
    finally:
        client.close()


def receive_all(stream: EncryptedStream) -> tuple[bytes, str]:
    """Return all payload, and the error at its end; at each step there must be an event."""
    received = b""
    while True:
        assert select.select([stream], [], [], 0)[0]
        try:
            payload = stream.recv(65536)
        except (CutOffError, OSError) as error:
            return received, str(error)
        received += payload
        if not payload:
            return received, ""


TARGETS: dict[str, Callable[[bytes], None]] = {
    "server_protocol": server_protocol,
    "client_protocol": client_protocol,
    "handover": handover,
    "log_files": log_files,
    "proxy_header": proxy_header,
    "tls_stream": tls_stream,
}
