"""The control block: the log's cursors, and how the last process that used the log has ended."""

import struct

from ackd.log.format import VERSION, VersionError

MAGIC = b"ackd ctl"
# magic, version, clean, boot id; then three cursors
_BLOCK = struct.Struct("=8sII16s")
CONTROL_SIZE = _BLOCK.size + 3 * 8


class ControlBlock:
    """The control block in `view`, which has CONTROL_SIZE bytes.

    To assign a cursor writes one aligned word: a process that is killed leaves the old number or
    the new one.
    """

    def __init__(self, view: memoryview) -> None:
        """Find what the view has. Raises VersionError."""
        self.view = view
        self.cursors = view[_BLOCK.size :].cast("Q")
        magic, version, clean, self.boot = _BLOCK.unpack_from(view)
        self.valid = magic == MAGIC
        if not self.valid:  # then no ackd has written the cursors
            view[:] = bytes(CONTROL_SIZE)
        if self.valid and version != VERSION:
            raise VersionError(version)
        self.clean = self.valid and bool(clean)

    def mark(self, clean: bool, boot: bytes) -> None:
        """Write all but the cursors; `boot` has 16 bytes, the id of the machine's boot."""
        self.valid, self.clean, self.boot = True, clean, boot
        _BLOCK.pack_into(self.view, 0, MAGIC, VERSION, clean, boot)
