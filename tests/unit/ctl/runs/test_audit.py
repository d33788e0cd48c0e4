"""What an audit finds in the journal of a run that was changed on its way."""

from random import Random

from ackd.ctl.runs.audit import Audit
from ackd.ctl.runs.payloads import Run

RUN, OTHER = Run("1a2b3c4d"), Run("99999999")


class Journal:
    """Payloads of connections, with the numbers that ackd gives them."""

    def __init__(self, run: Run = RUN) -> None:
        self.audit = Audit(run)
        self.sequences: dict[str, int] = {}

    def record(self, *payloads: bytes, connection: str = "a", journal: str = "") -> None:
        for payload in payloads:
            self.sequences[connection] = self.sequences.get(connection, 0) + 1
            sequence = self.sequences[connection]
            self.audit.add(connection, sequence, payload, journal=journal)

    def repeat(self, sequence: int, payload: bytes, connection: str = "a") -> None:
        self.audit.add(connection, sequence, payload, repeated=True)


def numbers(*wanted: int) -> list[bytes]:
    return [RUN.payload(number) for number in wanted]


def recorded(*payloads: bytes) -> Audit:
    journal = Journal()
    journal.record(*payloads)
    return journal.audit


def faults(audit: Audit) -> dict[str, object]:
    """Return the faults that an audit has found, by their names."""
    found = {
        "missing": list(audit.missing),
        "beyond": list(audit.beyond),
        "twice": list(audit.twice),
        "out of order": audit.out_of_order,
        "altered": audit.altered,
        "lost": audit.lost,
        "no end": not audit.ended,
    }
    assert audit.whole == (not any(found.values()))
    return {name: fault for name, fault in found.items() if fault}


def test_a_run_is_whole() -> None:
    audit = recorded(*numbers(1, 2, 3), RUN.end(3))
    assert faults(audit) == {}
    assert audit.whole
    assert (audit.sent, audit.recorded, audit.connections, audit.repeated) == (3, 3, 1, 0)


def test_a_run_of_nothing_is_whole() -> None:
    assert recorded(RUN.end(0)).whole


def test_a_run_without_records_is_not_seen() -> None:
    audit = recorded(b"hello", OTHER.payload(1), OTHER.end(1))
    assert not audit.seen
    assert not audit.whole


def test_missing_numbers_are_found() -> None:
    audit = recorded(*numbers(1, 3, 6, 7), RUN.end(9))
    assert faults(audit) == {"missing": [(2, 2), (4, 5), (8, 9)]}
    assert (audit.sent, audit.recorded) == (9, 4)


def test_without_the_end_numbers_are_missing_up_to_the_highest_only() -> None:
    assert faults(recorded(*numbers(1, 3))) == {"missing": [(2, 2)], "no end": True}


def test_a_run_with_a_number_beyond_its_end_is_not_whole() -> None:
    assert faults(recorded(*numbers(1, 2), RUN.end(1))) == {"beyond": [(2, 2)]}


def test_the_highest_number_of_all_is_one_number_beyond_the_end() -> None:
    audit = recorded(*numbers(1, 2), RUN.end(3), *numbers(10**18 - 1))
    assert faults(audit) == {"missing": [(3, 3)], "beyond": [(10**18 - 1, 10**18 - 1)]}
    assert (audit.recorded, audit.beyond.count) == (3, 1)


def test_the_highest_end_of_all_is_taken_as_it_is() -> None:
    audit = recorded(*numbers(1), RUN.end(10**18 - 1))
    assert audit.missing.count == 10**18 - 2
    assert list(audit.missing) == [(2, 10**18 - 1)]


def test_numbers_that_are_recorded_twice_are_found() -> None:
    assert faults(recorded(*numbers(1, 2, 2, 2, 3, 1), RUN.end(3))) == {"twice": [(1, 2)]}


def test_200_000_numbers_in_any_order_are_added_in_linear_steps() -> None:
    wanted = list(range(1, 200_001))
    Random(1).shuffle(wanted)
    audit = recorded(*numbers(*wanted), RUN.end(200_000))
    assert list(faults(audit)) == ["out of order"]
    assert audit.recorded == 200_000


def test_numbers_out_of_order_are_counted() -> None:
    assert faults(recorded(*numbers(1, 3, 2, 4), RUN.end(4))) == {"out of order": 1}
    assert faults(recorded(*numbers(1, 2), RUN.end(3), *numbers(3))) == {"out of order": 1}


def test_each_connection_has_an_order_of_its_own() -> None:
    journal = Journal()
    journal.record(*numbers(2, 4))
    journal.record(*numbers(1, 3), RUN.end(4), connection="b")
    assert faults(journal.audit) == {}
    assert journal.audit.connections == 2


def test_each_journal_has_an_order_of_its_own() -> None:
    journal = Journal()
    journal.record(*numbers(1))
    journal.record(*numbers(3), journal="ackd")
    journal.record(*numbers(2))
    journal.record(RUN.end(3), journal="ackd")
    assert faults(journal.audit) == {}


def test_records_that_ackd_repeats_are_counted_and_are_no_fault() -> None:
    journal = Journal()
    journal.record(*numbers(1, 2, 3))
    journal.repeat(1, RUN.payload(1))
    journal.repeat(3, RUN.payload(3))
    journal.record(RUN.end(3))
    journal.repeat(4, RUN.end(3))
    assert faults(journal.audit) == {}
    assert journal.audit.repeated == 3


def test_a_lost_record_that_ackd_repeats_is_not_missing() -> None:
    journal = Journal()
    journal.record(*numbers(1))
    journal.sequences["a"] = 2  # journald was killed while it had read the second one
    journal.record(*numbers(3), RUN.end(3))
    assert faults(journal.audit) == {"missing": [(2, 2)], "lost": 1}
    journal.repeat(2, RUN.payload(2))
    assert faults(journal.audit) == {}


def test_an_altered_payload_is_altered_and_missing() -> None:
    bad = RUN.payload(2).replace(b"number", b"Number")
    audit = recorded(*numbers(1), bad, *numbers(3), RUN.end(3))
    assert faults(audit) == {"missing": [(2, 2)], "altered": 1}


def test_a_payload_without_a_trace_of_the_run_is_altered() -> None:
    audit = recorded(*numbers(1), b"\x00\xff", *numbers(3), RUN.end(3))
    assert faults(audit) == {"missing": [(2, 2)], "altered": 1}


def test_a_line_before_the_first_payload_is_altered() -> None:
    audit = recorded(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2", *numbers(1, 2), RUN.end(2))
    assert faults(audit) == {"altered": 1}


def test_a_payload_with_another_run_name_is_altered() -> None:
    bad = RUN.payload(2).replace(RUN.name.encode(), OTHER.name.encode())
    audit = recorded(*numbers(1), bad, RUN.end(2))
    assert faults(audit) == {"missing": [(2, 2)], "altered": 1}


def test_a_run_with_all_payloads_altered_is_seen() -> None:
    audit = recorded(*(payload + b"\r" for payload in (*numbers(1, 2), RUN.end(2))))
    assert audit.seen
    assert faults(audit) == {"altered": 3, "no end": True}


def test_an_altered_payload_that_ackd_repeats_is_counted_once() -> None:
    journal = Journal()
    journal.record(*numbers(1), b"altered", RUN.end(1))
    journal.repeat(2, b"altered")
    assert faults(journal.audit) == {"altered": 1}


def test_payloads_of_other_connections_do_not_count() -> None:
    journal = Journal()
    journal.record(b"hello", OTHER.payload(7), connection="b")
    journal.record(*numbers(1), RUN.end(1))
    journal.record(b"hello", OTHER.payload(7), connection="b")
    assert faults(journal.audit) == {}


def test_a_connection_10_000_connections_before_the_run_is_forgotten() -> None:
    journal = Journal()
    journal.record(b"hello")
    for number in range(10_000):
        journal.record(b"hello", connection=str(number))
    journal.record(*numbers(1), RUN.end(1))
    assert faults(journal.audit) == {}


# A key

KEY = b"a secret of 23 bytes ok"
WITH_KEY, WITH_OTHER_KEY = Run(RUN.name, KEY), Run(RUN.name, KEY[::-1])


def keyed(*wanted: int, run: Run = WITH_KEY) -> list[bytes]:
    return [run.payload(number) for number in wanted]


def test_a_run_with_a_key_is_whole() -> None:
    journal = Journal(WITH_KEY)
    journal.record(*keyed(1, 2, 3), WITH_KEY.end(3))
    assert journal.audit.whole
    assert (journal.audit.unproven, journal.audit.keyed) == (0, 0)


def test_payloads_without_the_key_can_not_fill_a_gap_nor_make_a_fault() -> None:
    forged = (RUN.payload(2), WITH_OTHER_KEY.payload(2), RUN.end(9), RUN.payload(17) + b"x")
    journal = Journal(WITH_KEY)
    journal.record(*forged, connection="b")
    journal.record(*keyed(1, 3), WITH_KEY.end(3))
    journal.record(*forged, connection="b")
    assert faults(journal.audit) == {"missing": [(2, 2)]}
    assert (journal.audit.connections, journal.audit.unproven) == (1, 8)


def test_a_payload_without_the_key_in_a_connection_of_the_run_is_altered() -> None:
    journal = Journal(WITH_KEY)
    journal.record(RUN.payload(1), *keyed(1), RUN.payload(2), WITH_KEY.end(2))
    assert faults(journal.audit) == {"missing": [(2, 2)], "altered": 2}
    assert journal.audit.unproven == 0


def test_a_run_that_was_sent_without_a_key_is_not_seen_with_a_key() -> None:
    journal = Journal(WITH_KEY)
    journal.record(*numbers(1), RUN.end(1))
    assert not journal.audit.seen
    assert journal.audit.unproven == 2


def test_without_the_key_the_payloads_can_not_be_checked() -> None:
    journal = Journal()
    journal.record(*keyed(1), WITH_KEY.end(1))
    assert faults(journal.audit) == {"altered": 2, "no end": True}
    assert journal.audit.keyed == 2
