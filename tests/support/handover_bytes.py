"""The state of a hand-over as bytes, which ackd writes into a file and reads from it."""

from io import BytesIO

from ackd.service.handover import State, read, write


def dump(state: State) -> bytes:
    """Return the bytes that ackd writes; they have no notes."""
    file = BytesIO()
    write(file, state.connections)
    return file.getvalue()


def load(data: bytes) -> State:
    """Return the state that ackd reads from the bytes; raises HandoverError."""
    return read(BytesIO(memoryview(data)))
