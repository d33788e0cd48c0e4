"""The standard output and the standard error, as ackctl prints to them."""

import io
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, TextIO

from ackd.ctl.output.status_line import StatusLine

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Output:
    """Results go to `out`, sentences for the user to `err`; a closed stream is None."""

    def __init__(self, out: TextIO | None, err: TextIO | None) -> None:
        self.out, self.err = out, err
        self._status_line = StatusLine(None)

    def status_line(self, after: float = 0.0, every: float = 0.0) -> StatusLine:
        """Return a status line on the standard error, which makes room for all other output."""
        self._status_line = StatusLine(self.err, after, every)
        return self._status_line

    def print(self, *lines: str) -> None:
        """Print lines and flush them: in a pipe, Python would hold them back."""
        with self._status_line.aside():
            self._write(self.out, *lines)
            self.flush()

    def write(self, line: str) -> None:
        """Print a line, without flushing it."""
        with self._status_line.aside():
            self._write(self.out, line)

    def flush(self) -> None:
        """Flush all lines; raises OSError."""
        if self.out:
            self.out.flush()

    def end_if_unread(self) -> None:
        """End the program by SIGPIPE, as a write would, if nobody reads the standard output."""
        poll = select.poll()
        if self.out:
            poll.register(self.out, 0)
        if not self.out or poll.poll(0):
            signal.raise_signal(signal.SIGPIPE)

    def warn(self, sentence: str) -> None:
        """Print a sentence on the standard error."""
        with self._status_line.aside():
            self._write(self.err, f"ackctl: {sentence}")

    def _write(self, stream: TextIO | None, *lines: str) -> None:
        if stream and lines:
            stream.write("\n".join(lines) + "\n")


def standard_output() -> Output:
    """Return the process's own streams, and have Python and argparse use them in the same way.

    Characters that the encoding lacks are escaped. As is usual in a pipe, `ackctl send - | head -1`
    ends by SIGPIPE, without a message.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    _occupy_closed_descriptors()
    output = Output(sys.stdout, sys.stderr)
    sys.stdout = sys.stdout or _nowhere()  # argparse would take the standard error instead
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr:
        error = _StandardError(sys.stderr.fileno(), "w", closefd=False)
        output.err = sys.stderr = io.TextIOWrapper(
            error, sys.stderr.encoding, "backslashreplace", write_through=True
        )
    else:
        sys.stderr = _nowhere()  # argparse would take the standard output instead
    return output


def _occupy_closed_descriptors() -> None:
    """Have /dev/null in the place of standard streams that are closed.

    Otherwise the next socket would be the standard error, say, and messages would go to the server.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


class _StandardError(io.FileIO):
    """The standard error; an error of its own, such as a full disk, changes no exit status."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def discard_output() -> None:
    """Discard what is still to be printed, or Python would try, and complain, once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
