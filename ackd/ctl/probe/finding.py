"""The stages of a probe, the outcome of each, and the summary."""

from dataclasses import dataclass, field
from enum import Enum

from ackd.client.end import Certificate
from ackd.ctl.exit_status import Status
from ackd.ctl.probe.authorities import Authority
from ackd.ctl.runs.payloads import Run


class Stage(Enum):
    """The steps of a probe, in this order. With --sweep and --hold each try is a stage.

    ENCRYPTED is a stage with --tls only.
    """

    RESOLVED = "resolved"
    CONNECTED = "connected"
    ENCRYPTED = "encrypted"
    GREETED = "greeted"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    SWEEP = "sweep"
    HOLD = "hold"


_PROBLEMS = {
    Stage.RESOLVED: "the name is not resolved",
    Stage.CONNECTED: "not connected",
    Stage.ENCRYPTED: "connected, but TLS failed",
    Stage.GREETED: "connected, but not greeted",
    Stage.SENT: "a payload was not sent",
    Stage.ACKNOWLEDGED: "a payload is not acknowledged",
    Stage.SWEEP: "payloads of some sizes do not get through",
    Stage.HOLD: "a silence ends the connection",
}


class Outcome(Enum):
    """The outcome of a stage."""

    PASSED = "passed"
    FAILED = "failed"
    REFUSED = "refused"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Encryption:
    """How a connection is encrypted: the version of TLS, the cipher, the server's certificate.

    If TLS failed, there may be a certificate, and no version and no cipher. `before` is the
    authority of the last time, if it is another one.
    """

    version: str
    cipher: str
    certificate: Certificate | None
    before: Authority | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one stage: `text` is what ackctl observed, `seconds` how long the stage took.

    `address` was tried, `size` (bytes) belongs to the payload, `silence` is in seconds.
    `encryption` belongs to ENCRYPTED.
    """

    stage: Stage
    outcome: Outcome
    text: str = ""
    seconds: float | None = None
    address: str = ""
    size: int | None = None
    silence: float | None = None
    encryption: Encryption | None = None

    @property
    def label(self) -> str:
        """The stage's name, or its number with the unit, aligned in a column."""
        if self.stage is Stage.SWEEP:
            return f"{self.size:>6} bytes"
        if self.stage is Stage.HOLD:
            return f"{self.silence:>6g} s silent"
        return str(self.stage.value)


class BrokenError(Exception):
    """A stage failed: `text` is what ackctl observed, `advice` the meaning and whom to ask."""

    def __init__(self, stage: Stage, status: Status, text: str, advice: str) -> None:
        super().__init__(text)
        self.stage = stage
        self.status = status
        self.text = text
        self.advice = advice


class EndedError(BrokenError):
    """A stage failed because the connection ended."""


class SilentError(BrokenError):
    """A stage failed because nothing arrived for too long."""


@dataclass(slots=True)
class Traffic:
    """How many packets were sent and have arrived, and how many of them were sent again."""

    packets: int = 0
    retransmitted: int = 0


@dataclass(slots=True)
class Summary:
    """The results of a probe. Sizes are those of payloads in bytes, silences in seconds."""

    run: Run
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
    problem: str = ""
    status: Status = Status.DELIVERED

    def fail(self, stage: Stage, status: Status, meaning: str, text: str = "") -> None:
        """Note the first stage that failed, what was seen, and what the failure means."""
        self.failed = self.failed or stage
        self.problem = self.problem or f"{_PROBLEMS[stage]}{text and ': '}{text}"
        self.status = self.status or status
        self.add(meaning)

    def add(self, meaning: str) -> None:
        """Add a sentence to the meaning, unless it has that sentence."""
        if meaning not in self.meanings:
            self.meanings.append(meaning)
