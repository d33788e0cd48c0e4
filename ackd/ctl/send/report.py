"""What `ackctl send` tells: each reply, the whole story with times, or JSON."""

import sys
from collections import deque
from time import monotonic

from ackd.ctl.send.lines import Lines
from ackd.ctl.send.progress import Progress
from ackd.printable import printable
from ackd.protocol import Reply, Verdict


class Report:
    """Prints each reply, and counts. What it prints is seen at the next `flush`."""

    def __init__(self, lines: Lines, progress: Progress) -> None:
        self.acknowledged = 0
        self.refused = 0
        self._doubted = 0  # had a reply that may not have been one
        self._size = 0  # bytes replied to, with the ends of their lines
        self._lines = lines
        self._progress = progress
        self._text: list[str] = []
        self._sent: deque[tuple[int, float]] = deque()  # unanswered: bytes, when sent

    @property
    def unknown(self) -> int:
        """How many payloads were sent, and nobody knows whether they are recorded."""
        return self._lines.unknown + self._doubted

    @property
    def counts(self) -> str:
        """How many payloads ended how, as the end of a sentence."""
        counts = (
            (self.acknowledged, "acknowledged"),
            (self.refused, "refused"),
            (self.unknown, "unknown: sent, and perhaps recorded"),
            (self._lines.unsent, "not sent"),
            (self._lines.again, "sent again, and perhaps recorded twice"),
        )
        told = ", ".join(f"{count} {what}" for count, what in counts if count)
        return f" ({told})" if told else ""

    def connecting(self, host: str, port: int) -> None:
        """Tell that a connection is attempted."""

    def greeted(self, greeting: bytes) -> None:
        """Tell what the server said first."""

    def writing(self) -> None:
        """Tell that payloads can be sent now."""

    def sent(self, payload: bytes) -> None:
        """Tell that a payload is on its way."""
        self._sent.append((len(payload), monotonic()))

    def replied(self, reply: Reply) -> None:
        """Tell what the server said of the oldest payload without reply."""
        size, since = self._sent.popleft()
        if reply.verdict is Verdict.ACKNOWLEDGED:
            self.acknowledged += 1
        else:
            self.refused += 1
        self._size += size + 1
        self.show(reply, size, monotonic() - since)

    def show(self, reply: Reply, size: int, seconds: float) -> None:
        """Print one reply, to a payload of `size` bytes, `seconds` after that was sent."""
        self.say(printable(reply.text))

    def say(self, text: str) -> None:
        """Print a line."""
        self._text.append(f"{text}\n")

    def warn(self, text: str) -> None:
        """Print a line on the standard error."""
        self._print()
        with self._progress.aside():
            print(f"ackctl: {text}", file=sys.stderr)

    def due(self) -> float:
        """Return in how many seconds to flush at the latest."""
        return self._progress.due()

    def disconnected(self) -> None:
        """Note that no more replies come for what was sent."""
        self._sent.clear()

    def doubt(self) -> None:
        """Note that no reply can be believed."""
        self._doubted = self.acknowledged + self.refused
        self.acknowledged = self.refused = 0

    def flush(self) -> None:
        """Let everything be seen: in a pipe it would wait for more."""
        if not self._progress.seen:
            self._print()
        self._progress.update(self._size, self.acknowledged, self.refused)

    def end(self, status: int, problem: str) -> None:
        """Tell how it came out, with a sentence of what went wrong, if anything did."""
        self._progress.stop()
        self.flush()

    def _print(self) -> None:
        text = "".join(self._text)
        self._text.clear()
        if text:
            with self._progress.aside():
                print(text, end="", flush=True)  # None is no trouble: `ackctl send hello >&-`


class Story(Report):
    """Prints every step with its time."""

    def connecting(self, host: str, port: int) -> None:
        """Tell that a connection is attempted."""
        self.say(f"connecting to {host} port {port}")

    def greeted(self, greeting: bytes) -> None:
        """Tell what the server said first."""
        self.say(f"buffer data: {printable(greeting)}")

    def writing(self) -> None:
        """Tell that payloads can be sent now."""
        self.say("writing to socket")

    def sent(self, payload: bytes) -> None:
        """Tell that a payload is on its way."""
        super().sent(payload)
        self.say(f"Sent to server: {printable(payload)}")

    def show(self, reply: Reply, size: int, seconds: float) -> None:
        """Print one reply."""
        took = f"({seconds * 1000:.3f} ms)"
        self.say(f"Response from server was: {printable(reply.text)} {took}")

    def end(self, status: int, problem: str) -> None:
        """Tell how it came out."""
        self.say(
            f"{self.acknowledged} acknowledged, {self.refused} refused, {self.unknown} unknown"
        )
        super().end(status, problem)

    def say(self, text: str) -> None:
        """Print a line with its time."""
        from datetime import datetime  # not before it is needed, as with json below

        super().say(f"{datetime.now():%H:%M:%S.%f} {text}")


class Json(Report):
    """Prints one object a reply, then one for all."""

    def show(self, reply: Reply, size: int, seconds: float) -> None:
        """Print one reply."""
        self._say(
            number=self.acknowledged + self.refused,
            verdict=reply.verdict.value,
            reply=printable(reply.text),
            bytes=size,
            seconds=round(seconds, 6),
        )

    def end(self, status: int, problem: str) -> None:
        """Print the counts, the exit status, and what went wrong."""
        self._say(
            acknowledged=self.acknowledged,
            refused=self.refused,
            unknown=self.unknown,
            not_sent=self._lines.unsent,
            sent_again=self._lines.again,
            status=status,
            problem=problem or None,
        )
        super().end(status, problem)

    def _say(self, **members: str | int | float | None) -> None:
        import json  # in a script that sends one line, the start is what takes time

        self.say(json.dumps(members))
