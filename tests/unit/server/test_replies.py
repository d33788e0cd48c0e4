"""What a client is owed, as it is sent over a stream that has encrypted some of it already."""

from hypothesis import given
from hypothesis import strategies as st

from ackd.protocol import Run
from ackd.server.replies import after_sent, first_bytes, owe

lines = st.sampled_from([b"ok\n", b"not received: no\n", b"x" * 5000 + b"\n"])
replies = st.lists(st.tuples(lines, st.integers(1, 9000)), min_size=1, max_size=80)


@given(first=replies, more=replies, part=st.floats(0, 1))
def test_replies_that_are_owed_later_change_only_the_end_of_what_is_sent(
    first: list[Run], more: list[Run], part: float
) -> None:
    owed: list[Run] = []
    owe(owed, first)
    before = first_bytes(owed)
    sent = int(part * (len(before) - 1))
    owed = after_sent(owed, sent)
    owe(owed, more)
    after = first_bytes(owed)
    size = min(len(after), len(before) - sent)
    assert after[:size] == before[sent : sent + size]
