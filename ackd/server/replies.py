"""Replies that a client is owed, as runs: so many equal lines. They are bytes only when sent."""

from ackd.protocol import Run, add_run

# Bytes that are sent at once, and runs that are looked at for them.
SEND, _LOOK_AT = 65536, 64
# All clients that are owed nothing share this list, which saves memory. It stays empty.
NOTHING: list[Run] = []


def owe(owed: list[Run], replies: list[Run]) -> None:
    """Add replies to what a client is owed."""
    for line, count in replies:
        add_run(owed, line, count)


def first_bytes(owed: list[Run]) -> bytes:
    """Return the lines that are sent at once: those of a few runs, or a part of a long run."""
    data = b""
    for line, count in owed[:_LOOK_AT]:
        data += line * min(count, (SEND - len(data)) // len(line) + 1)
        if len(data) > SEND:
            break
    return data


def after_sent(owed: list[Run], sent: int) -> list[Run]:
    """Return what a client is owed after `sent` bytes; the rest of a cut line is its own run."""
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
    return rest + owed[done:]
