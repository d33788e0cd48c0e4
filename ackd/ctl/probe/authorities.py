"""What `probe` remembers: the authorities that have signed the certificates of servers.

Something in between that ends TLS has a certificate of another authority than the server, perhaps
one that this host trusts. The memory is a file of the user. It only helps to find that: whatever is
wrong with the file is no error.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ackd import regular_file
from ackd.client.end import Certificate

_FILE = "authorities.json"
# Servers that are remembered: those that were seen last.
_MOST = 1000
# A time that strftime(3) still knows.
_LATEST = 1 << 36


class Authority(NamedTuple):
    """An authority, and when a server last had a certificate of it, in seconds of time.time()."""

    name: str
    organisation: str
    seen: float

    def signed(self, certificate: Certificate) -> bool:
        """Return whether this authority, or another one of its organisation, has signed.

        Organisations change the names of their authorities from renewal to renewal.
        """
        return (self.organisation or self.name) == (
            certificate.issuer_organisation or certificate.issuer
        )


def remembered(server: str) -> Authority | None:
    """Return the authority of a server, the last time; None if nothing is known."""
    file = _file()
    return _read(file).get(server) if file else None


def remember(server: str, certificate: Certificate, now: float) -> None:
    """Remember who has signed the certificate of a server, if there is a place for it."""
    file = _file()
    if not file:
        return
    known = _read(file)
    known.pop(server, None)
    known[server] = Authority(certificate.issuer, certificate.issuer_organisation, now)
    latest = dict(sorted(known.items(), key=lambda item: item[1].seen)[-_MOST:])
    with suppress(OSError):
        _replace(file, {name: authority._asdict() for name, authority in latest.items()})


def _file() -> Path | None:
    """Return where the file is, or should be; None if this process should not write there.

    With HOME of another user, such as in `sudo -E`, the file would be root's in the home of a user
    who then can't write it. A HOME that does not exist means that nothing should be written.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    home = os.environ.get("HOME", "")
    directory = Path(state) if os.path.isabs(state) else Path(home, ".local/state")
    if not directory.is_absolute():
        return None
    with suppress(OSError):
        existing = next(each for each in (directory, *directory.parents) if each.exists())
        if existing != Path("/") and existing.stat().st_uid == os.geteuid():
            return directory / "ackctl" / _FILE
    return None


def _read(file: Path) -> dict[str, Authority]:
    """Return what is remembered of each server; nothing if the file is damaged."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(regular_file.read(str(file)))
        if isinstance(content, dict):
            return dict(_entries(content))
    return {}


def _entries(content: dict[str, Any]) -> Iterator[tuple[str, Authority]]:
    for server, entry in content.items():
        match entry:
            case {"name": str(name), "organisation": str(organisation), "seen": int() | float()}:
                if 0 <= entry["seen"] < _LATEST:
                    yield server, Authority(name, organisation, entry["seen"])


def _replace(file: Path, content: dict[str, Any]) -> None:
    """Write the file, so that another process reads the old content or the new; raises OSError."""
    os.makedirs(file.parent, 0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f"{_FILE}.", dir=file.parent)
    try:
        with open(descriptor, "w") as output:
            json.dump(content, output, indent=1)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise
