"""What `ackctl send` tells: each reply, the whole story with times, or JSON."""

from collections import deque
from time import monotonic

from ackd.printable import printable
from ackd.protocol import Reply, Verdict


class Report:
    """Prints each reply, and counts."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.refused = 0
        self._sent: deque[tuple[int, float]] = deque()  # unanswered: bytes, when sent

    @property
    def unknown(self) -> int:
        """How many payloads were sent and have no reply."""
        return len(self._sent)

    def connecting(self, host: str, port: int) -> None:
        """Tell that a connection is attempted."""

    def greeted(self, greeting: bytes) -> None:
        """Tell what the server said first."""

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
        self.show(reply, size, monotonic() - since)

    def show(self, reply: Reply, size: int, seconds: float) -> None:
        """Print one reply, to a payload of `size` bytes, `seconds` after that was sent."""
        print(printable(reply.text))

    def flush(self) -> None:
        """Let everything be seen; in a pipe it would wait for more."""
        print(end="", flush=True)  # there may be no sys.stdout: `ackctl send hello >&-`

    def end(self, status: int) -> None:
        """Tell how it came out."""
        self.flush()


class Story(Report):
    """Prints every step with its time."""

    def connecting(self, host: str, port: int) -> None:
        """Tell that a connection is attempted."""
        self._say(f"connecting to {host} port {port}")

    def greeted(self, greeting: bytes) -> None:
        """Tell what the server said first."""
        self._say(f"buffer data: {printable(greeting)}")
        self._say("writing to socket")

    def sent(self, payload: bytes) -> None:
        """Tell that a payload is on its way."""
        super().sent(payload)
        self._say(f"Sent to server: {printable(payload)}")

    def show(self, reply: Reply, size: int, seconds: float) -> None:
        """Print one reply."""
        took = f"({seconds * 1000:.3f} ms)"
        self._say(f"Response from server was: {printable(reply.text)} {took}")

    def end(self, status: int) -> None:
        """Tell how it came out."""
        counts = f"{self.acknowledged} acknowledged, {self.refused} refused, {self.unknown} unknown"
        self._say(counts)
        super().end(status)

    def _say(self, text: str) -> None:
        from datetime import datetime  # not before it is needed, as with json below

        print(datetime.now().strftime("%H:%M:%S.%f"), text)


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

    def end(self, status: int) -> None:
        """Print the counts and the exit status."""
        self._say(
            acknowledged=self.acknowledged,
            refused=self.refused,
            unknown=self.unknown,
            status=status,
        )
        super().end(status)

    def _say(self, **members: str | int | float) -> None:
        import json  # in a script that sends one line, the start is what takes time

        print(json.dumps(members))
