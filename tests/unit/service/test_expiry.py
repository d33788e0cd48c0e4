"""The dates of certificates: what is said about them, and when."""

import logging
from math import inf

import pytest

from ackd.deadlines import Deadlines
from ackd.loop import Timer
from ackd.service.expiry import Expiry, Validity, troubles

DAY = 86400
BEGIN = 1_800_000_000  # 2027-01-15 08:00:00 UTC
END = BEGIN + 90 * DAY
VALIDITY = Validity("tls_key: k", "clients reject ackd", BEGIN, END)
NOT_YET = "tls_key: k is not valid before 2027-01-15 08:00:00 UTC, by this host's clock"
SOON = "tls_key: k expires at 2027-04-15 08:00:00 UTC: renew it"
EXPIRED = "tls_key: k has expired at 2027-04-15 08:00:00 UTC: clients reject ackd"


@pytest.mark.parametrize(
    ("now", "priority", "text", "next_change"),
    [
        (0, logging.ERROR, f"{NOT_YET}: clients reject ackd", BEGIN),
        (BEGIN - 1, logging.ERROR, f"{NOT_YET}: clients reject ackd", BEGIN),
        (BEGIN, logging.NOTSET, "", END - 14 * DAY),
        (END - 14 * DAY - 1, logging.NOTSET, "", END - 14 * DAY),
        (END - 14 * DAY, logging.WARNING, SOON, END),
        (END - 1, logging.WARNING, SOON, END),
        (END, logging.ERROR, EXPIRED, inf),
        (END + 1000 * DAY, logging.ERROR, EXPIRED, inf),
    ],
)
def test_the_dates_of_a_certificate(now: int, priority: int, text: str, next_change: float) -> None:
    assert VALIDITY.trouble(now) == (priority, text)
    assert VALIDITY.next_change(now) == next_change
    assert troubles([VALIDITY], now) == ([(priority, text)] if text else [])


def test_without_certificates_nothing_is_due() -> None:
    timers: Deadlines[Timer] = Deadlines()
    expiry = Expiry(timers)
    expiry.watch([VALIDITY])
    assert timers.next() < inf
    expiry.watch([])
    assert (expiry.deadline, expiry.trouble) == (inf, "")
