"""What becomes of a run on its way into the journal, as `ackctl verify` sees it."""

from ackd.ctl.runs.audit import Audit
from ackd.ctl.runs.payloads import Run

RUN, OTHER = Run("1a2b3c4d"), Run("99999999")


class Journal:
    """Payloads in connections, numbered as ackd numbers them."""

    def __init__(self) -> None:
        self.audit = Audit(RUN.name)
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
    """Return what is wrong, by its name."""
    found = {
        "missing": list(audit.missing),
        "twice": list(audit.twice),
        "out of order": audit.out_of_order,
        "altered": audit.altered,
        "lost": audit.lost,
        "no end": not audit.ended,
    }
    assert audit.whole == (not any(found.values()) and audit.highest == audit.sent)
    return {name: what for name, what in found.items() if what}


def test_a_run_is_whole() -> None:
    audit = recorded(*numbers(1, 2, 3), RUN.end(3))
    assert faults(audit) == {}
    assert audit.whole
    assert (audit.sent, audit.recorded, audit.connections, audit.repeated) == (3, 3, 1, 0)


def test_a_run_of_nothing_is_whole() -> None:
    assert recorded(RUN.end(0)).whole


def test_nothing_has_been_seen() -> None:
    audit = recorded(b"hello", OTHER.payload(1), OTHER.end(1))
    assert not audit.seen
    assert not audit.whole


def test_some_are_missing() -> None:
    audit = recorded(*numbers(1, 3, 6, 7), RUN.end(9))
    assert faults(audit) == {"missing": [(2, 2), (4, 5), (8, 9)]}
    assert (audit.sent, audit.recorded) == (9, 4)


def test_without_the_end_nobody_knows_how_many_are_missing() -> None:
    assert faults(recorded(*numbers(1, 3))) == {"missing": [(2, 2)], "no end": True}


def test_a_number_beyond_the_end_is_not_whole() -> None:
    audit = recorded(*numbers(1, 2), RUN.end(1))
    assert faults(audit) == {}
    assert not audit.whole


def test_one_is_there_twice() -> None:
    assert faults(recorded(*numbers(1, 2, 2, 2, 3, 1), RUN.end(3))) == {"twice": [(1, 2)]}


def test_one_has_been_overtaken() -> None:
    assert faults(recorded(*numbers(1, 3, 2, 4), RUN.end(4))) == {"out of order": 1}
    assert faults(recorded(*numbers(1, 2), RUN.end(3), *numbers(3))) == {"out of order": 1}


def test_order_is_that_within_a_connection() -> None:
    journal = Journal()
    journal.record(*numbers(2, 4))
    journal.record(*numbers(1, 3), RUN.end(4), connection="b")
    assert faults(journal.audit) == {}
    assert journal.audit.connections == 2


def test_order_is_that_within_a_journal() -> None:
    journal = Journal()
    journal.record(*numbers(1))
    journal.record(*numbers(3), journal="ackd")
    journal.record(*numbers(2))
    journal.record(RUN.end(3), journal="ackd")
    assert faults(journal.audit) == {}


def test_what_ackd_has_recorded_again_is_told_and_no_fault() -> None:
    journal = Journal()
    journal.record(*numbers(1, 2, 3))
    journal.repeat(1, RUN.payload(1))
    journal.repeat(3, RUN.payload(3))
    journal.record(RUN.end(3))
    journal.repeat(4, RUN.end(3))
    assert faults(journal.audit) == {}
    assert journal.audit.repeated == 3


def test_what_was_lost_but_for_its_repetition_is_there() -> None:
    journal = Journal()
    journal.record(*numbers(1))
    journal.sequences["a"] = 2  # journald was killed, and had the second one in hand
    journal.record(*numbers(3), RUN.end(3))
    assert faults(journal.audit) == {"missing": [(2, 2)], "lost": 1}
    journal.repeat(2, RUN.payload(2))
    assert faults(journal.audit) == {}


def test_one_is_altered_and_so_missing_as_it_was_sent() -> None:
    bad = RUN.payload(2).replace(b"number", b"Number")
    audit = recorded(*numbers(1), bad, *numbers(3), RUN.end(3))
    assert faults(audit) == {"missing": [(2, 2)], "altered": 1}


def test_one_is_altered_beyond_recognition() -> None:
    audit = recorded(*numbers(1), b"\x00\xff", *numbers(3), RUN.end(3))
    assert faults(audit) == {"missing": [(2, 2)], "altered": 1}


def test_something_was_put_before_the_first() -> None:
    audit = recorded(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2", *numbers(1, 2), RUN.end(2))
    assert faults(audit) == {"altered": 1}


def test_even_the_name_of_the_run_is_altered() -> None:
    bad = RUN.payload(2).replace(RUN.name.encode(), OTHER.name.encode())
    audit = recorded(*numbers(1), bad, RUN.end(2))
    assert faults(audit) == {"missing": [(2, 2)], "altered": 1}


def test_all_are_altered() -> None:
    audit = recorded(*(payload + b"\r" for payload in (*numbers(1, 2), RUN.end(2))))
    assert audit.seen
    assert faults(audit) == {"altered": 3, "no end": True}


def test_an_altered_one_that_ackd_has_recorded_again_is_one() -> None:
    journal = Journal()
    journal.record(*numbers(1), b"altered", RUN.end(1))
    journal.repeat(2, b"altered")
    assert faults(journal.audit) == {"altered": 1}


def test_other_connections_have_nothing_to_do_with_it() -> None:
    journal = Journal()
    journal.record(b"hello", OTHER.payload(7), connection="b")
    journal.record(*numbers(1), RUN.end(1))
    journal.record(b"hello", OTHER.payload(7), connection="b")
    assert faults(journal.audit) == {}


def test_what_came_10_000_connections_before_it_is_forgotten() -> None:
    journal = Journal()
    journal.record(b"hello")
    for number in range(10_000):
        journal.record(b"hello", connection=str(number))
    journal.record(*numbers(1), RUN.end(1))
    assert faults(journal.audit) == {}
