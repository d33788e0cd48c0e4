"""Bytes from the network as text that is safe to print on a terminal."""


def printable(data: bytes) -> str:
    r"""Return `data` as text; everything that is not printable is escaped.

    Control characters, bidirectional marks, unusual spaces, bytes that are not UTF-8, and the
    backslash itself are escaped as in a Python string: `\x1b`, `\u202e`, `\\`.
    """
    text = data.decode(errors="surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # PEP 383: a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character.isprintable() and character != "\\":
        return character
    return character.encode("unicode_escape").decode()
