"""Records as journal entries: journald reads back what a client has sent, whatever that is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.journal.entry import JournalFormat, field, payloads_of
from ackd.records import LONGEST_FACT, Kind, Origin, Priority, Record
from tests.support.journal_socket import Entry, parse

ORIGIN = Origin("192.168.150.2", 40321, "192.168.150.1:10008", "00c0ffee-1")
LONGEST = Origin(
    "fe80:1111:2222:3333:4444:5555:6666:7777%longest-ifname",
    65535,
    "[fe80:1111:2222:3333:4444:5555:6666:7777%longest-ifname]:65535",
    "0123456789abcdef-18446744073709551615",
    (
        ("ACKD_PROXY", "[fe80:1111:2222:3333:4444:5555:6666:7777%longest-ifname]:65535"),
        ("ACKD_TLS_NAME", "\n" * LONGEST_FACT),
        ("ACKD_TLS_VERSION", "TLSv1.3"),
        ("ACKD_TLS_CIPHER", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ),
)
HOSTILE = [
    b"two\nlines",
    b"x\nPRIORITY=0\nMESSAGE=forged",
    b"x\n_UID=0\n",
    b"\n",
    b"\n\n\n",
    b"=",
    b"NUL\0 ESC\x1b \xff\xfe",
    b"x\n\x03\0\0\0\0\0\0\0abc\n",
    b"",
]


def entry(payload: bytes, sequence: int = 1, origin: Origin = ORIGIN) -> dict[str, bytes]:
    form = JournalFormat()
    return parse(form.payload(form.prefix(origin), sequence, payload))


def test_a_payload_is_an_entry_with_these_fields_and_no_other() -> None:
    assert entry(b"this data will send to server!", sequence=7) == {
        "MESSAGE": b"Buffer: this data will send to server!",
        "MESSAGE_ID": b"0f02733cf663443baab84341870dd1e0",
        "PRIORITY": b"6",
        "SYSLOG_IDENTIFIER": b"ackd",
        "ACKD_PEER": b"192.168.150.2",
        "ACKD_PEER_PORT": b"40321",
        "ACKD_LISTENER": b"192.168.150.1:10008",
        "ACKD_CONNECTION": b"00c0ffee-1",
        "ACKD_SEQUENCE": b"7",
        "ACKD_BYTES": b"30",
    }


@pytest.mark.parametrize("payload", HOSTILE)
def test_a_payload_can_not_forge_fields(payload: bytes) -> None:
    expected = entry(b"harmless") | {
        "MESSAGE": b"Buffer: " + payload,
        "ACKD_BYTES": b"%d" % len(payload),
    }
    assert entry(payload) == expected


def test_the_length_of_a_payload_is_always_sent() -> None:
    form = JournalFormat()
    datagram = form.payload(form.prefix(ORIGIN), 1, b"x")
    assert datagram.endswith(b"\nMESSAGE\n\x09\0\0\0\0\0\0\0Buffer: x\n")


@pytest.mark.parametrize("value", HOSTILE)
def test_a_field_can_not_forge_others(value: bytes) -> None:
    datagram = field("BEFORE", b"1") + field("FIELD", value) + field("BEHIND", b"2")
    assert parse(datagram) == {"BEFORE": b"1", "FIELD": value, "BEHIND": b"2"}


def test_a_field_of_one_line_is_sent_as_text() -> None:
    assert field("FIELD", b"a=b") == b"FIELD=a=b\n"


def test_any_other_record_is_an_entry_with_its_own_fields() -> None:
    fields = (("ACKD_PAYLOADS", 3), ("ACKD_SECONDS", 0.25), ("ACKD_REASON", "lost"))
    record = Record(Kind.CLOSED, Priority.INFO, "closed the socket", ORIGIN, fields, "in peace")
    assert parse(JournalFormat().record(record)) == {
        "MESSAGE": b"closed the socket: 192.168.150.2 port 40321: in peace",
        "MESSAGE_ID": b"792776a8c2844f32bd9810424b58bb6f",
        "PRIORITY": b"6",
        "SYSLOG_IDENTIFIER": b"ackd",
        "ACKD_PEER": b"192.168.150.2",
        "ACKD_PEER_PORT": b"40321",
        "ACKD_LISTENER": b"192.168.150.1:10008",
        "ACKD_CONNECTION": b"00c0ffee-1",
        "ACKD_PAYLOADS": b"3",
        "ACKD_SECONDS": b"0.25",
        "ACKD_REASON": b"lost",
    }


def test_each_fact_is_a_field_of_payloads_and_of_other_records() -> None:
    facts = (("ACKD_PROXY", "[::1]:7"), ("ACKD_TLS_NAME", "x\nPRIORITY=0"))
    origin = ORIGIN._replace(facts=facts)
    expected = {"ACKD_PROXY": b"[::1]:7", "ACKD_TLS_NAME": b"x\nPRIORITY=0", "PRIORITY": b"6"}
    record = Record(Kind.CONNECTED, Priority.INFO, "socket connected", origin)
    for fields in (entry(b"hello", origin=origin), parse(JournalFormat().record(record))):
        assert {name: fields[name] for name in expected} == expected


def test_a_last_line_without_its_end_is_marked() -> None:
    form = JournalFormat()
    datagram = form.payload(form.unterminated(form.prefix(ORIGIN)), 3, b"2")
    assert parse(datagram)["ACKD_UNTERMINATED"] == b"1"


def test_a_step_of_a_connection_does_not_name_the_client() -> None:
    record = Record(Kind.WROTE, Priority.DEBUG, "wrote to socket: 8 bytes", ORIGIN)
    assert parse(JournalFormat().record(record))["MESSAGE"] == b"wrote to socket: 8 bytes"


def test_a_record_about_no_connection_has_no_fields_of_one() -> None:
    record = Record(Kind.LOG, Priority.WARNING, "the journal takes records again")
    assert parse(JournalFormat().record(record)) == {
        "MESSAGE": b"the journal takes records again",
        "MESSAGE_ID": b"ce1cf5fbdf994cc4879b27c0d2225c34",
        "PRIORITY": b"4",
        "SYSLOG_IDENTIFIER": b"ackd",
    }


@pytest.mark.parametrize("message", ["two\nlines", "x\nPRIORITY=0", ""])
def test_the_message_of_a_record_can_not_forge_fields(message: str) -> None:
    record = Record(Kind.LOG, Priority.ERROR, message, None, (("ACKD_REASON", message),))
    parsed = parse(JournalFormat().record(record))
    assert parsed["MESSAGE"] == parsed["ACKD_REASON"] == message.encode()
    assert parsed["PRIORITY"] == b"3"


def test_a_message_with_a_file_name_that_is_not_utf8_is_recorded() -> None:
    record = Record(Kind.LOG, Priority.ERROR, "/etc/\udcff.yaml:1:1: port: 70000")
    parsed = parse(JournalFormat().record(record))
    assert parsed["MESSAGE"] == b"/etc/\\udcff.yaml:1:1: port: 70000"


def test_every_kind_of_record_has_an_id_of_its_own() -> None:
    ids = [kind.value for kind in Kind]
    assert len(set(ids)) == len(ids)
    assert all(len(bytes.fromhex(kind)) == 16 for kind in ids)


@pytest.mark.parametrize("size", [0, 1, 65536, 131072])
def test_no_record_of_a_payload_exceeds_the_longest(size: int) -> None:
    form = JournalFormat()
    datagram = form.payload(form.prefix(LONGEST), 2**64, b"\n" * size)
    assert len(datagram) <= form.longest(size)


@settings(deadline=None)
@given(payload=st.binary(), sequence=st.integers(1))
def test_any_payload_is_read_back_as_it_was_sent(payload: bytes, sequence: int) -> None:
    parsed = entry(payload, sequence)
    assert parsed["MESSAGE"] == b"Buffer: " + payload
    assert parsed["ACKD_SEQUENCE"] == b"%d" % sequence
    assert parsed.keys() == entry(b"").keys()


# Payloads that share an entry

ROOM = 128 * 1024


def batches(payloads: list[bytes], room: int = ROOM, sequence: int = 1) -> list[Entry]:
    form = JournalFormat()
    shared = list(form.batches(form.prefix(ORIGIN), sequence, payloads, room))
    entries = [parse(datagram) for _, datagram in shared]
    assert [count for count, _ in shared] == [int(e.get("ACKD_COUNT", 1)) for e in entries]
    return entries


def shapes(payloads: list[bytes], room: int = ROOM) -> list[list[bytes]]:
    """Return which payloads share an entry."""
    return [[payload for _, payload in payloads_of(e)] for e in batches(payloads, room)]


def test_payloads_that_share_an_entry_are_lines_of_its_message() -> None:
    assert batches([b"one", b"", b"three"], sequence=7) == [
        entry(b"one", sequence=7)
        | {"MESSAGE": b"Buffer: one\nBuffer: \nBuffer: three"}
        | {"ACKD_COUNT": b"3", "ACKD_BYTES": b"8"}
    ]


def test_a_payload_that_comes_alone_has_its_usual_entry() -> None:
    assert batches([b"one"], sequence=7) == [entry(b"one", sequence=7)]


BLURRING = [
    *(b"two\nlines", b"ends in CR\r", b"x\ry", b"x\x1b[31m", b"NUL\0", b"\x7f", b"\v", b"\f"),
    *(b"\x1c", b"\xff\xfe", b"half a character \xc3", b"\xa9 the other half"),
    *(text.encode() for text in ("\x85", "\x9b31m", "\u2028", "\u2029", "\u202e")),
]


@pytest.mark.parametrize("payload", BLURRING)
def test_a_payload_that_readers_could_take_for_several_has_its_own_entry(payload: bytes) -> None:
    shared = batches([b"one", b"two", payload, payload, b"five", b"six"])
    assert shared[1:3] == [entry(payload, sequence=3), entry(payload, sequence=4)]
    assert [payloads_of(e) for e in (shared[0], shared[3])] == [
        [(1, b"one"), (2, b"two")],
        [(5, b"five"), (6, b"six")],
    ]


@pytest.mark.parametrize(
    "payload", [b"a\tb", b" ", "Gr\u00fc\u00dfe, \u4f60\u597d".encode(), b"Buffer: "]
)
def test_other_text_shares_an_entry(payload: bytes) -> None:
    assert shapes([payload, payload]) == [[payload, payload]]


def test_an_entry_has_as_many_payloads_as_there_is_room_for() -> None:
    payloads = [b"x" * 991] * 10  # 1000 with label and newline
    assert list(map(len, shapes(payloads, 1024 + 3999))) == [3, 3, 3, 1]
    assert list(map(len, shapes(payloads, 1024 + 4000))) == [4, 4, 2]


def test_a_payload_too_long_to_share_an_entry_has_its_own() -> None:
    assert shapes([b"a", b"x" * 131072, b"b", b"c"]) == [[b"a"], [b"x" * 131072], [b"b", b"c"]]


@pytest.mark.parametrize("size", [0, 1, 100, 65536])
def test_no_shared_entry_exceeds_the_room(size: int) -> None:
    form = JournalFormat()
    payloads = [b"x" * size] * 20_000 if size < 1000 else [b"x" * size] * 4
    for count, datagram in form.batches(form.prefix(LONGEST), 2**64, payloads, ROOM):
        assert len(datagram) <= ROOM or count == 1


lines = st.lists(st.binary(max_size=40) | st.text(max_size=20).map(str.encode), min_size=1)


@settings(deadline=None)
@given(payloads=lines, room=st.integers(1024, 1200), sequence=st.integers(1))
def test_any_payloads_that_share_entries_are_read_back_as_they_were_sent(
    payloads: list[bytes], room: int, sequence: int
) -> None:
    entries = batches(payloads, room, sequence)
    read = [one for shared in entries for one in payloads_of(shared)]
    assert read == list(enumerate(payloads, sequence))
    assert sum(int(shared["ACKD_BYTES"]) for shared in entries) == sum(map(len, payloads))


NOT_OURS: list[Entry] = [
    {"ACKD_SEQUENCE": b"1", "MESSAGE": b"hello"},
    {"ACKD_SEQUENCE": b"one", "MESSAGE": b"Buffer: hello"},
    {"ACKD_SEQUENCE": b"1", "MESSAGE": b"Buffer: one", "ACKD_COUNT": b"2"},
    {"ACKD_SEQUENCE": b"1", "MESSAGE": b"Buffer: one\nBuffer: two", "ACKD_COUNT": b"1"},
    {"ACKD_SEQUENCE": b"1", "MESSAGE": b"Buffer: one\ntwo", "ACKD_COUNT": b"2"},
    {"ACKD_SEQUENCE": b"1"},
    {"MESSAGE": b"Buffer: one"},
]


@pytest.mark.parametrize("foreign", NOT_OURS)
def test_an_entry_that_ackd_has_not_made_is_not_read_as_payloads(foreign: Entry) -> None:
    with pytest.raises((ValueError, KeyError)):
        payloads_of(foreign)
