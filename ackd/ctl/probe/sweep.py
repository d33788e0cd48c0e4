"""`ackctl probe --sweep`: growing payloads, to find the largest that comes through."""

import re
from collections.abc import Iterator

from ackd.ctl.probe import diagnosis
from ackd.ctl.probe.connection import Contact, Exchanged, Packets
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
from ackd.ctl.probe.report import Report
from ackd.ctl.status import Status
from ackd.protocol import Verdict

_FIRST = 64
# No ackd takes more, see `max_payload` in ackd.yaml(5).
_LAST = 131072
# Once a size had all the time that there is, further ones have so many seconds, or so many times
# what the slowest ack took: TCP sends what is lost again after 0.2, 0.6 and 1.4 s.
_PATIENCE, _SLOWER = 2.0, 20
_LIMIT = re.compile(rb"longer than (\d{1,9}) bytes")


class Search:
    """Which size is to be tried next: twice the last, then those between the good and the lost."""

    def __init__(self) -> None:
        self.passed = 0
        self.lost: int | None = None
        self.limit = _LAST

    @property
    def next(self) -> int:
        """The size to be tried, in bytes; 0 when all is known."""
        if self.lost is not None:
            return (self.passed + self.lost) // 2 if self.lost - self.passed > 1 else 0
        following = min(max(_FIRST, 2 * self.passed), self.limit)
        return following if following > self.passed else 0

    def too_long(self, size: int, limit: int) -> None:
        """Take note that the server takes no such size, and which it does, as it says."""
        self.limit = limit if limit < size else self.passed


class Sweep:
    """Goes on by one connection as long as that is good."""

    def __init__(self, prober: Prober, contact: Contact, summary: Summary, report: Report) -> None:
        self.contact: Contact | None = contact
        self._prober = prober
        self._summary = summary
        self._report = report
        self._search = Search()
        self._cuts: list[BrokenError] = []  # of which a new connection has shown: not for the size
        self._slowest = 0.0
        self._timeout = contact.timeout
        self._broken: BrokenError | None = None
        self._packets = contact.packets

    def run(self) -> None:
        """Try all sizes, and tell; raises BrokenError when the server can't be reached any more."""
        search = self._search
        while size := search.next:
            self._report.trying(f"{size} bytes")
            self._try(size)
        self._summary.largest, self._summary.too_large = search.passed, search.lost
        self._summary.limit = search.limit if search.limit < _LAST else None
        if self._broken and search.lost:
            self._summary.fail(Stage.SWEEP, Status.UNKNOWN, self._too_large(search.lost))
        else:
            whose = "the server's limit" if search.limit < _LAST else "the most that any ackd takes"
            self._summary.tell(
                f"Payloads of all sizes come through, up to {search.passed} bytes, {whose}. Large"
                " packets on the way back are not tested: replies are short."
            )
        for meaning in for_no_size(self._cuts):
            self._summary.fail(Stage.SWEEP, Status.UNKNOWN, meaning)

    def _too_large(self, lost: int) -> str:
        """Return what it means that this size has failed, when a smaller one still passes.

        Raises BrokenError if that has failed as well.
        """
        assert self._broken
        meaning = too_large(self._broken, self._search.passed, lost, self._packets)
        if self._search.passed:
            self._exchange_anew(self._search.passed)
        if self._summary.traffic.retransmitted > 0:
            return f"Packets of other sizes are lost as well, so this may be chance. {meaning}"
        return meaning

    def _try(self, size: int) -> None:
        try:
            exchanged = self._exchange(size)
        except (EndedError, SilentError) as broken:
            self._search.lost = size
            self._found(size, Outcome.FAILED, broken.text)
            return
        reply = exchanged.reply
        limit = _LIMIT.search(reply.text)
        if reply.verdict is Verdict.ACKNOWLEDGED:
            self._search.passed = size
            self._slowest = max(self._slowest, exchanged.seconds)
            self._found(size, Outcome.PASSED, self._pace(exchanged), exchanged.seconds)
        elif limit:
            self._search.too_long(size, int(limit[1]))
            self._found(size, Outcome.REFUSED, diagnosis.shown(reply.text), exchanged.seconds)
        else:
            raise diagnosis.refused(reply.text)

    def _exchange(self, size: int) -> Exchanged:
        """Send by the connection that there is; if that breaks, once more by a new one."""
        if self.contact and self._search.lost is None:
            try:
                return self._prober.send(self.contact, size)
            except (EndedError, SilentError) as broken:
                self._found(size, Outcome.FAILED, f"{broken.text}; now by a new connection")
                cut = broken
            exchanged = self._exchange_anew(size)
            self._cuts.append(cut)
            return exchanged
        return self._exchange_anew(size)

    def _exchange_anew(self, size: int) -> Exchanged:
        if self.contact:
            self.contact.close()
        self.contact = None
        contact = self._prober.open(self._patience)
        try:
            exchanged = self._prober.send(contact, size)
        except BrokenError as broken:
            self._broken, self._packets = broken, contact.packets
            contact.close()
            raise
        self.contact = contact
        return exchanged

    def _found(
        self, size: int, outcome: Outcome, text: str = "", seconds: float | None = None
    ) -> None:
        self._report.found(Finding(Stage.SWEEP, outcome, text, seconds, size=size))

    def _pace(self, exchanged: Exchanged) -> str:
        """Say so if it took longer than a wait may: then bytes came through all the while."""
        if exchanged.seconds <= self._timeout:
            return ""
        return f"slow: {exchanged.size * 8 / exchanged.seconds / 1000:,.0f} kbit/s"

    @property
    def _patience(self) -> float:
        if self._search.lost is None:
            return self._timeout
        return min(self._timeout, max(_PATIENCE, _SLOWER * self._slowest))


def too_large(broken: BrokenError, passed: int, lost: int, packets: Packets) -> str:
    """Return what it means that payloads of `lost` bytes do not come through."""
    sizes = f"Payloads of up to {passed} bytes come through, of {lost} and more they do not"
    if broken.stage is not Stage.SENT or isinstance(broken, EndedError):
        return (
            f"{sizes}, although they arrive somewhere: a proxy or balancer before the server, or"
            " what listens there, does not take long lines: ask who runs it."
        )
    # The line has its end besides; a larger one is spread over packets that are all full.
    if lost + 1 > packets.segment:
        return (
            f"{sizes}, although full packets come through: a firewall or a proxy on the way does"
            " not let long lines pass: ask those who run the network."
        )
    return (
        f"{sizes}: packets of over {passed + 1 + packets.overhead} bytes vanish, and this host"
        f" believes in {packets.mtu}. A tunnel or link on the way has a smaller MTU, and the ICMP"
        " messages that would say so are dropped: ask those who run the tunnel, VPN or firewall to"
        " let them pass, or to clamp the MSS. Until then a smaller `mtu` on this host's route"
        " helps, ip-route(8)."
    )


def for_no_size(cuts: list[BrokenError]) -> Iterator[str]:
    """Yield what it means that payloads failed, and a new connection has taken the same size."""
    same = "with a payload of which a new one has taken the same size:"
    if ended := sum(isinstance(cut, EndedError) for cut in cuts):
        yield (
            f"The connection broke {_times(ended)} {same} something, a balancer, firewall or the"
            " server, ends connections that are in use: ask those who run them."
        )
    if silent := len(cuts) - ended:
        yield (
            f"The connection fell silent {_times(silent)} {same} packets are lost or held up on the"
            " way, there or back, something on the way has forgotten the connection, or the server"
            " hangs now and then: ask those who run the network, then who runs the server."
        )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
