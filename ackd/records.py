"""Records: their kinds, each with its fixed MESSAGE_ID, and their fields."""

from enum import Enum, IntEnum
from typing import NamedTuple


class Kind(Enum):
    """A kind of record; the value is its MESSAGE_ID, systemd.journal-fields(7)."""

    PAYLOAD = "0f02733cf663443baab84341870dd1e0"
    CONNECTED = "1b5cdc6ec5b3460ea118f7f8d2a1c075"
    CLOSED = "792776a8c2844f32bd9810424b58bb6f"
    ANSWERED = "79ce0d7acfb242ff8d4f4b94b1672e8b"
    WROTE = "7a934554118d4e2b869a4a346964cf2f"
    COUNTERS = "9b13fc415db6402c9777be5d7c20e8ef"
    LISTENING = "6175b4934582447fb7e06876f81d0566"
    STOPPED = "0a96d477b76647fbb3c6e157e44c461b"
    RELOADED = "9e6488490fc0418aa5b55b1b8aef16ba"
    NOT_RELOADED = "b650df9703714be6b64d4825c3e65ca5"
    JOURNAL_LOST = "304d3cea66544d16a6e9420abd6b360a"
    JOURNAL_BACK = "da1b444399cc47b6ae50239cf62f17a7"
    NOT_STORED = "bef7a440eebd429181f896e7fd44dfc5"
    STORED_AGAIN = "93957c0665744830b6e10156b7eaa6d3"
    NOT_ON_DISK = "435d13f9e828473f94bf421235128dfa"
    ON_DISK_AGAIN = "921bc5f57ed94d97a83cb32160d3db01"
    LIMIT_REACHED = "4990e867c5e142eeacc798cb5cf0dc3a"
    REJECTED = "a36288fa10d0f9532070d13220dfffc0"
    NO_DESCRIPTORS = "2f1abb73696741dabd46f4d621040a17"
    REPEATED = "1a4bad681441ddd14894295d49c7df94"
    LEFT_OUT = "22bbecfdf69f4d3d861fd527d0835b1d"
    LIMITED = "f6d35d41510a5755ae4cefbbe6aac610"
    TAKEN_OVER = "1d457d46fe924491a03d0547f07ad7ed"
    LOG = "ce1cf5fbdf994cc4879b27c0d2225c34"


class Priority(IntEnum):
    """Syslog's severities, as in syslog(3)."""

    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


class Reason(Enum):
    """Why a connection ended; the value is the text in the record."""

    CLIENT = "the client closed it"
    LOST = "lost"
    IDLE = "silent for too long"
    UNFINISHED = "its line was unfinished for too long"
    STOP = "ackd stopped"
    NOT_TAKEN_OVER = "it could not be taken over"
    REJECTED = "turned away"


# Bytes of the value of a fact. Facts, with all other fields of a payload's entry, have a bound.
LONGEST_FACT = 256


# Named tuples, here and below: the decorator `dataclass` would delay each start noticeably.
class Origin(NamedTuple):
    """The origin of payloads: the same for all payloads of one connection.

    `peer` is the client's address, `listener` is `ADDRESS:PORT`. `connection` is a name that stays
    unique over restarts. `facts` are further journal fields of all records of the connection, of
    which no value is longer than LONGEST_FACT: (NAME, value).
    """

    peer: str
    peer_port: int
    listener: str
    connection: str
    facts: tuple[tuple[str, str], ...] = ()


class Record(NamedTuple):
    """A record of anything but a payload. `fields` are journal fields: (NAME, value).

    `detail` follows the message in the text; in an entry of the journal, the client's address comes
    between the two.
    """

    kind: Kind
    priority: Priority
    message: str
    origin: Origin | None = None
    fields: tuple[tuple[str, str | int | float], ...] = ()
    detail: str = ""

    @property
    def text(self) -> bytes:
        """The text as bytes. Bytes that are not UTF-8, as in a file name, are escaped."""
        return _text(self.message, self.detail)

    @property
    def text_with_client(self) -> bytes:
        """The text with the client's address, if the record is about a client's connection."""
        if not self.origin or self.kind not in _NAMES_CLIENT:
            return self.text
        client = f"{self.origin.peer} port {self.origin.peer_port}"
        return _text(self.message, client, self.detail)


# Where each line of `journalctl -u ackd` shows the client; the steps of `debug` lie between these.
_NAMES_CLIENT = (Kind.CONNECTED, Kind.CLOSED, Kind.REJECTED)


def _text(*parts: str) -> bytes:
    return ": ".join(filter(None, parts)).encode(errors="backslashreplace")
