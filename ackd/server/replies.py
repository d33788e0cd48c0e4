"""Replies that a client is owed, as runs: so many equal lines. They are bytes only when sent."""

from ackd.protocol import Run, add_run

# Bytes that are sent at once, and runs that are looked at for them.
_SEND, _LOOK_AT = 65536, 64


def owe(owed: list[Run], replies: list[Run]) -> None:
    """Add replies to what a client is owed."""
    for line, count in replies:
        add_run(owed, line, count)


def first_bytes(owed: list[Run]) -> bytes:
    """Return the first bytes of what a client is owed: whole lines, as many as are sent at once."""
    if len(owed) == 1:
        line, count = owed[0]
        return line * (count if len(line) * count <= _SEND else _SEND // len(line) + 1)
    data = b""
    for line, count in owed[:_LOOK_AT]:
        data += line * min(count, (_SEND - len(data)) // len(line) + 1)
        if len(data) > _SEND:
            break
    return data


def remove_sent(owed: list[Run], sent: int) -> None:
    """Remove the first `sent` bytes; the rest of a line that was cut becomes a run of its own."""
    done = 0
    rest: list[Run] = []
    while sent:
        line, count = owed[done]
        done += 1
        whole, part = divmod(sent, len(line))
        if whole < count:
            add_run(rest, line[part:], 1)
            add_run(rest, line, count - whole - 1)
            break
        sent -= count * len(line)
    owed[:done] = rest
