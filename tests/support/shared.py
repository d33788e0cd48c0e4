"""What the connections of a server share, for tests of single connections without a server."""

from math import inf

from ackd.deadlines import Deadlines
from ackd.journal.recorder import Recorder
from ackd.server.budget import Budget
from ackd.server.connection import Shared, Timeouts
from ackd.server.counters import Counters
from ackd.server.quota import Quota
from ackd.server.unfinished import UnfinishedLines


def shared_with(recorder: Recorder) -> Shared:
    """Return these parts around a recorder, without any limit that a test could reach."""
    quota = Quota("connections", 100, 100, recorder.note, Deadlines())
    return Shared(
        recorder,
        Budget(recorder),
        (),
        Timeouts(inf, inf),
        Counters(),
        quota,
        quota,
        changed=lambda *_: None,
        received=UnfinishedLines().note,
    )
