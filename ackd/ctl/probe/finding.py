"""What a probe finds: its stages, how each came out, and the whole."""

from dataclasses import dataclass, field
from enum import Enum

from ackd.ctl.status import Status


class Stage(Enum):
    """What must work one after the other; with --sweep and --hold there is one for each try."""

    RESOLVED = "resolved"
    CONNECTED = "connected"
    GREETED = "greeted"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    SWEEP = "sweep"
    HOLD = "hold"


class Outcome(Enum):
    """How a stage came out."""

    PASSED = "passed"
    FAILED = "failed"
    REFUSED = "refused"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Finding:
    """How one stage came out: `text` is what was seen, `seconds` the time that it took.

    `address` is the one that was tried, `size` the payload's in bytes, `silence` in seconds.
    """

    stage: Stage
    outcome: Outcome
    text: str = ""
    seconds: float | None = None
    address: str = ""
    size: int | None = None
    silence: float | None = None

    @property
    def label(self) -> str:
        """The stage, as a column of numbers where it has one."""
        if self.stage is Stage.SWEEP:
            return f"{self.size:>6} bytes"
        if self.stage is Stage.HOLD:
            return f"{self.silence:>6g} s silent"
        return str(self.stage.value)


class BrokenError(Exception):
    """A stage failed: `text` is what was seen, `advice` what it means and whom to ask."""

    def __init__(self, stage: Stage, status: Status, text: str, advice: str) -> None:
        super().__init__(text)
        self.stage = stage
        self.status = status
        self.text = text
        self.advice = advice


class EndedError(BrokenError):
    """So did the connection end."""


class SilentError(BrokenError):
    """So long did nothing come, and we have given up."""


@dataclass(slots=True)
class Traffic:
    """How many packets were sent, of what has arrived then, and how many of these again."""

    packets: int = 0
    retransmitted: int = 0


@dataclass(slots=True)
class Summary:
    """What is known in the end; sizes in bytes, of payloads, and silences in seconds."""

    run: str
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    end_acknowledged: bool = False
    failed: Stage | None = None
    largest: int | None = None
    too_large: int | None = None
    limit: int | None = None
    held: float | None = None
    not_held: float | None = None
    traffic: Traffic = field(default_factory=Traffic)
    meanings: list[str] = field(default_factory=list)
    status: Status = Status.DELIVERED

    def fail(self, stage: Stage, status: Status, meaning: str) -> None:
        """Take note of the first that failed, and of what it means."""
        self.failed = self.failed or stage
        self.status = self.status or status
        self.tell(meaning)

    def tell(self, meaning: str) -> None:
        """Take note of what something means, once."""
        if meaning not in self.meanings:
            self.meanings.append(meaning)
