"""A file that is whole at any time, although others read it."""

import os
from contextlib import suppress


def replace(path: str, text: str) -> None:
    """Put another file, which all may read, in the place of the file; raises OSError."""
    # In the same directory, for rename(2). node_exporter reads only names that end in .prom.
    new = f"{path}.{os.getpid()}"
    with suppress(FileNotFoundError):
        os.unlink(new)  # of a process that was killed
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o644)
            file.write(text)
        os.rename(new, path)
    except BaseException:
        os.unlink(new)
        raise
