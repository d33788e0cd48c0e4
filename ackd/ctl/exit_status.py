"""The exit status, with the same meaning in each verb."""

from enum import IntEnum


class Status(IntEnum):
    """What happened, for scripts; if more than one applies, the worst: unknown before refused."""

    DELIVERED = 0
    REFUSED = 1
    USAGE = 2
    NOT_REACHED = 3
    NO_GREETING = 4
    UNKNOWN = 5
    NOT_WHOLE = 6
    FAILED = 7  # ackctl itself: Python would exit with 1, which is a refusal
    # 128 + the signal, as in shells.
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143
