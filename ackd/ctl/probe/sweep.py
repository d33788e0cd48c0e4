"""`ackctl probe --sweep`: growing payloads, to find the largest that gets through."""

from collections.abc import Iterator

from ackd.ctl.exit_status import Status
from ackd.ctl.probe import diagnosis
from ackd.ctl.probe.connection import Exchanged, Packets, ProbeConnection
from ackd.ctl.probe.finding import (
    BrokenError,
    EndedError,
    Finding,
    Outcome,
    SilentError,
    Stage,
    Summary,
)
from ackd.ctl.probe.prober import Prober
from ackd.ctl.probe.report import ProbeReport
from ackd.protocol import Verdict

_FIRST = 64
# No ackd takes more, see `max_payload` in ackd.yaml(5).
_LAST = 131072
# After a size has failed, each further size has this number of seconds, or this multiple of the
# slowest ack's time. TCP sends lost packets again after 0.2, 0.6 and 1.4 s.
_PATIENCE, _SLOWER = 2.0, 20


class Search:
    """The search for the largest size: it doubles the size, and halves the gap after a failure.

    It also halves the gap when the server refuses a size that is within the limit stated before.
    """

    def __init__(self) -> None:
        self.passed = 0
        self.lost: int | None = None
        self.limit = _LAST
        self._refused = False

    @property
    def next(self) -> int:
        """The next size to be tried, in bytes; 0 at the end of the search."""
        if self.lost is not None:
            return (self.passed + self.lost) // 2 if self.lost - self.passed > 1 else 0
        following = min(max(_FIRST, 2 * self.passed), self.limit)
        return following if following > self.passed else 0

    def too_long(self, size: int, limit: int) -> None:
        """Note that the server refuses this size, and which limit it states."""
        stated = limit if limit < size else self.passed
        self.limit = min(stated, (self.passed + size) // 2) if self._refused else stated
        self._refused = True


class Sweep:
    """Sends payloads of growing size over one connection, and over a new one when that fails."""

    def __init__(
        self, prober: Prober, connection: ProbeConnection, summary: Summary, report: ProbeReport
    ) -> None:
        self.connection: ProbeConnection | None = connection
        self._prober = prober
        self._summary = summary
        self._report = report
        self._search = Search()
        self._cuts: list[BrokenError] = []  # failures that a new connection did not have
        self._slowest = 0.0
        self._timeout = connection.timeout
        self._broken: BrokenError | None = None
        self._packets = connection.packets

    def run(self) -> None:
        """Try all sizes and report; raises BrokenError when the server can't be reached."""
        search = self._search
        while size := search.next:
            self._report.trying(f"{size} bytes")
            self._try(size)
        self._summary.largest, self._summary.too_large = search.passed, search.lost
        self._summary.limit = search.limit if search.limit < _LAST else None
        if self._broken and search.lost:
            self._summary.fail(Stage.SWEEP, Status.UNKNOWN, self._too_large(search.lost))
        else:
            limit = "the server's limit" if search.limit < _LAST else "the most that any ackd takes"
            self._summary.add(
                f"Payloads of all sizes get through, up to {search.passed} bytes, {limit}. Large"
                " packets on the way back are not tested, because replies are short."
            )
        for meaning in failures_of_no_size(self._cuts):
            self._summary.fail(Stage.SWEEP, Status.UNKNOWN, meaning)

    def _too_large(self, lost: int) -> str:
        """Send the largest size that passed once more; return what it means that `lost` failed.

        Raises BrokenError if the smaller size fails as well.
        """
        assert self._broken
        meaning = too_large(self._broken, self._search.passed, lost, self._packets)
        if self._search.passed:
            self._exchange_over_new(self._search.passed)
        if self._summary.traffic.retransmitted > 0:
            return f"Packets of other sizes are lost too, so this may be chance. {meaning}"
        return meaning

    def _try(self, size: int) -> None:
        try:
            exchanged = self._exchange(size)
        except (EndedError, SilentError) as broken:
            self._search.lost = size
            self._found(size, Outcome.FAILED, broken.text)
            return
        reply = exchanged.reply
        if reply.verdict is Verdict.ACKNOWLEDGED:
            self._search.passed = size
            self._slowest = max(self._slowest, exchanged.seconds)
            self._found(size, Outcome.PASSED, self._pace(exchanged), exchanged.seconds)
        elif (limit := reply.limit) is not None:
            self._search.too_long(size, limit)
            self._found(size, Outcome.REFUSED, diagnosis.shown(reply.text), exchanged.seconds)
        else:
            raise diagnosis.refused(reply)

    def _exchange(self, size: int) -> Exchanged:
        """Send over the current connection; if it breaks, once more over a new connection."""
        if self.connection and self._search.lost is None:
            try:
                return self._prober.send(self.connection, size)
            except (EndedError, SilentError) as broken:
                self._found(size, Outcome.FAILED, f"{broken.text}; trying a new connection")
                cut = broken
            exchanged = self._exchange_over_new(size)
            self._cuts.append(cut)
            return exchanged
        return self._exchange_over_new(size)

    def _exchange_over_new(self, size: int) -> Exchanged:
        if self.connection:
            self.connection.close()
        self.connection = None
        connection = self._prober.open(self._patience)
        try:
            exchanged = self._prober.send(connection, size)
        except BrokenError as broken:
            self._broken, self._packets = broken, connection.packets
            connection.close()
            raise
        self.connection = connection
        return exchanged

    def _found(
        self, size: int, outcome: Outcome, text: str = "", seconds: float | None = None
    ) -> None:
        self._report.found(Finding(Stage.SWEEP, outcome, text, seconds, size=size))

    def _pace(self, exchanged: Exchanged) -> str:
        """Return the speed if the exchange took longer than the timeout, because bytes arrived."""
        if exchanged.seconds <= self._timeout:
            return ""
        return f"slow: {exchanged.size * 8 / exchanged.seconds / 1000:,.0f} kbit/s"

    @property
    def _patience(self) -> float:
        if self._search.lost is None:
            return self._timeout
        return min(self._timeout, max(_PATIENCE, _SLOWER * self._slowest))


def too_large(broken: BrokenError, passed: int, lost: int, packets: Packets) -> str:
    """Return what it means that payloads of `lost` bytes do not get through."""
    sizes = (
        f"Payloads of up to {passed} bytes get through, payloads of {lost} bytes or more do not."
    )
    if broken.stage is not Stage.SENT or isinstance(broken, EndedError):
        return (
            f"{sizes} The long payloads arrive, but a proxy or load balancer before the server, or"
            " the program that listens there, does not take long lines. Ask its administrator."
        )
    # 1: the end of the line. A longer line fills more than one packet.
    if lost + 1 > packets.segment:
        return (
            f"{sizes} Full packets get through, but a firewall or proxy on the way does not let"
            " long lines pass. Ask the administrators of the network."
        )
    return (
        f"{sizes} Packets of over {passed + 1 + packets.overhead} bytes are lost, but this host"
        f" assumes an MTU of {packets.mtu}. A tunnel or link on the way has a smaller MTU, and the"
        " ICMP messages that report this are dropped. Ask the administrators of the tunnel, VPN or"
        " firewall to let these messages pass, or to clamp the MSS. Until then a smaller `mtu` on"
        " this host's route helps, ip-route(8)."
    )


def failures_of_no_size(cuts: list[BrokenError]) -> Iterator[str]:
    """Yield what it means that payloads failed, but a new connection took the same size."""
    same = "with a payload whose size a new connection took."
    if ended := sum(isinstance(cut, EndedError) for cut in cuts):
        yield (
            f"The connection broke {_times(ended)} {same} A load balancer, a firewall or the server"
            " ends connections that are in use. Ask their administrators."
        )
    if silent := len(cuts) - ended:
        yield (
            f"The connection fell silent {_times(silent)} {same} Packets are lost or delayed on the"
            " way there or back, a firewall or NAT on the way has forgotten the connection, or the"
            " server hangs from time to time. Ask the administrators of the network, then the"
            " administrator of the server."
        )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
