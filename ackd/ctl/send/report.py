"""What `ackctl send` prints: each reply, every step with its time, or JSON."""

from time import monotonic

from ackd.client.addresses import Destination
from ackd.client.errors import ClientError
from ackd.ctl.failure import describe_failure
from ackd.ctl.output.json_lines import json_line
from ackd.ctl.output.streams import Output
from ackd.ctl.send.lines import Lines, SendPayload
from ackd.ctl.send.progress import SendProgress
from ackd.printable import printable
from ackd.protocol import Reply, Verdict


class Refusals:
    """Payloads in a row that the server has refused with the same reply, by their numbers."""

    def __init__(self, first: int, last: int, reply: bytes) -> None:
        self.first = first
        self.last = last
        self.reply = reply

    def continues(self, number: int, reply: bytes) -> bool:
        """Return whether this refusal belongs to the group."""
        return number == self.last + 1 and reply == self.reply

    def __str__(self) -> str:
        if self.first == self.last:
            return f" {self.first} is refused"
        return f"s {self.first} to {self.last} are refused"


class SendReport:
    """Prints each reply at the next `flush`, and counts the replies."""

    def __init__(self, lines: Lines, progress: SendProgress, output: Output) -> None:
        self.acknowledged = 0
        self.refused = 0
        self._unbelieved = 0  # payloads with a reply that may not be one
        self._server = ""  # the address of the server
        self._size = 0  # bytes that have a reply, with the ends of their lines
        self._lines = lines
        self._progress = progress
        self._output = output
        self._held: list[str] = []
        self._refusals: list[Refusals] = []  # that are not reported yet

    @property
    def unknown(self) -> int:
        """How many payloads were sent, and may be recorded or not."""
        return self._lines.unknown + self._unbelieved

    @property
    def counts(self) -> str:
        """How many payloads had which outcome, as the end of a sentence."""
        counts = (
            (self.acknowledged, "acknowledged"),
            (self.refused, "refused"),
            (self.unknown, "unknown: sent, and perhaps recorded"),
            (self._lines.unsent, "not sent"),
            (self._lines.again, "sent again, and perhaps recorded twice"),
        )
        text = ", ".join(f"{count} {outcome}" for count, outcome in counts if count)
        return f" ({text})" if text else ""

    def _all_counts(self) -> str:
        return f"{self.acknowledged} acknowledged, {self.refused} refused, {self.unknown} unknown"

    def connecting(self, host: str, port: int) -> None:
        """Report that the client connects."""

    def passed_over(self, server: str, error: ClientError) -> None:
        """Report that a server has failed, and that the others are tried."""

    def connected(self, address: str, destination: Destination) -> None:
        """Report the address of the server that has greeted."""
        self._server = address

    def encrypted(self, version: str, cipher: str) -> None:
        """Report that the connection is encrypted, by which version of TLS and which cipher."""

    def greeted(self, greeting: bytes) -> None:
        """Report the server's first line."""

    def writing(self) -> None:
        """Report that payloads can be sent now."""

    def sent(self, payload: bytes) -> None:
        """Report that a payload is on its way."""

    def replied(self, sent: SendPayload, reply: Reply) -> None:
        """Report the reply to a payload."""
        size = len(sent.payload)
        if reply.verdict is Verdict.ACKNOWLEDGED:
            self.acknowledged += 1
        else:
            self.refused += 1
            self._note_refusal(reply)
        self._size += size + 1
        self._print_reply(reply, size, monotonic() - sent.since)

    def _print_reply(self, reply: Reply, size: int, seconds: float) -> None:
        self._print(printable(reply.text))

    def _print(self, line: str) -> None:
        self._held.append(line)

    def _note_refusal(self, reply: Reply) -> None:
        number = self.acknowledged + self.refused
        if self._refusals and self._refusals[-1].continues(number, reply.text):
            self._refusals[-1].last = number
        else:
            self._refusals.append(Refusals(number, number, reply.text))

    def warn(self, sentence: str) -> None:
        """Print a sentence on the standard error, after the lines that were printed before."""
        self._print_held()
        self._output.warn(sentence)

    def due(self) -> float:
        """Return in how many seconds to flush at the latest."""
        return self._progress.due()

    def disbelieve(self) -> None:
        """Take note that no reply so far can be believed."""
        self._unbelieved = self.acknowledged + self.refused
        self.acknowledged = self.refused = 0

    def flush(self) -> None:
        """Let all lines be seen, or wait until the status line is due."""
        while self._lines.notes:
            self.warn(self._lines.notes.pop(0))
        if not self._progress.holds_output:
            self._print_held()
        self._progress.update(self._size, self.acknowledged, self.refused)

    def end(self, status: int, problem: str) -> None:
        """Report the outcome; `problem` is a sentence, or "" if there was no problem."""
        self._progress.end()
        self._print_held()

    def _print_held(self) -> None:
        held, self._held = self._held, []  # Ctrl-C may come while these lines are printed
        refusals, self._refusals = self._refusals, []
        if held:
            self._output.print(*held)
        if refusals:
            self._warn_of(refusals)

    def _warn_of(self, refusals: list[Refusals]) -> None:
        what = "line" if self._lines.read_from_input else "payload"
        for each in refusals:
            self._output.warn(f"{what}{each}: {printable(each.reply)}")


class VerboseReport(SendReport):
    """Prints every step with its time."""

    def connecting(self, host: str, port: int) -> None:
        """Report that the client connects."""
        self._print(f"connecting to {host} port {port}")

    def passed_over(self, server: str, error: ClientError) -> None:
        """Report that a server has failed, and that the others are tried."""
        self._print(f"passed over: {server}: {describe_failure(error)}")

    def connected(self, address: str, destination: Destination) -> None:
        """Report the address of the server that has greeted, if it is not the only host."""
        super().connected(address, destination)
        if destination.hosts != (address,):
            self._print(f"connected to {address}")

    def encrypted(self, version: str, cipher: str) -> None:
        """Report that the connection is encrypted."""
        self._print(f"encrypted: {version}, {cipher}")

    def greeted(self, greeting: bytes) -> None:
        """Report the server's first line."""
        self._print(f"buffer data: {printable(greeting)}")

    def writing(self) -> None:
        """Report that payloads can be sent now."""
        self._print("writing to socket")

    def sent(self, payload: bytes) -> None:
        """Report that a payload is on its way."""
        self._print(f"Sent to server: {printable(payload)}")

    def _print_reply(self, reply: Reply, size: int, seconds: float) -> None:
        took = f"({seconds * 1000:.3f} ms)"
        self._print(f"Response from server was: {printable(reply.text)} {took}")

    def end(self, status: int, problem: str) -> None:
        """Report the counts."""
        self._print(self._all_counts())
        super().end(status, problem)

    def _print(self, line: str) -> None:
        from datetime import datetime  # slow to import, and not needed without --verbose

        super()._print(f"{datetime.now():%H:%M:%S.%f} {line}")


class QuietReport(SendReport):
    """Prints no replies, only the counts at the end."""

    def _print_reply(self, reply: Reply, size: int, seconds: float) -> None:
        pass

    def end(self, status: int, problem: str) -> None:
        """Report the counts."""
        self._print(self._all_counts())
        super().end(status, problem)


class SendJson(SendReport):
    """Prints a JSON object for each reply, then one for all."""

    def _warn_of(self, refusals: list[Refusals]) -> None:
        """Report nothing: the object of the reply has the number."""

    def _print_reply(self, reply: Reply, size: int, seconds: float) -> None:
        self._print(
            json_line(
                number=self.acknowledged + self.refused,
                verdict=reply.verdict.value,
                reply=printable(reply.text),
                bytes=size,
                seconds=round(seconds, 6),
                server=self._server,
            )
        )

    def end(self, status: int, problem: str) -> None:
        """Print the counts, the exit status, and the problem."""
        self._print(
            json_line(
                acknowledged=self.acknowledged,
                refused=self.refused,
                unknown=self.unknown,
                not_sent=self._lines.unsent,
                sent_again=self._lines.again,
                status=status,
                problem=problem or None,
            )
        )
        super().end(status, problem)
