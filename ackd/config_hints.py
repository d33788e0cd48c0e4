"""Hints for errors in a configuration file whose cause the parser does not name."""

import re

# Strings, which `re` compiles once they are needed: a start with a good file needs none of them.
_QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b"  # typographic ones
# Spaces that only look like the space between a key and its value, and characters of no width.
_SPACES = "\u00a0\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff"
_ODD = f"[{_QUOTES}{_SPACES}]"
_COMMENT = r"(?:^|\s)#.*"
# An IPv6 address that begins with a colon, as the first or a further item of a list in brackets.
_BARE_IPV6 = r"[\[,]\s*(::[0-9A-Fa-f:./]*)"
_LINE_END = "\r\n|[\r\n\x85\u2028\u2029]"  # as PyYAML counts lines
# The parser finds these in the line after a line that it has read as plain text.
_BY_LINE_BEFORE = ("could not find expected ':'", "mapping values are not allowed here")
_BY_PROBLEM = {
    "mapping values are not allowed here": "put a value that has a colon and a space in quotes",
    "character '\\t' that cannot start any token": "use spaces instead of the tab",
    "while scanning an alias": "put a value that begins with * in quotes",
    "found undefined alias": "put a value that begins with * in quotes",
    "that cannot start any token": "put a value that begins with this character in quotes",
}


class Hints:
    """Finds hints in one text."""

    def __init__(self, text: str) -> None:
        self._text = text.removeprefix("\ufeff")  # a byte order mark is allowed
        self._lines: list[str] | None = None

    def about(self, line_number: int, problem: str) -> str:
        """Return a hint for a problem in a line, with `; ` before it, or nothing.

        Lines are counted from 0.
        """
        line = self._line(line_number)
        hint = _odd_character(line, "") or _bare_address(line, problem)
        if not hint and any(part in problem for part in _BY_LINE_BEFORE):
            hint = _odd_character(self._line(line_number - 1), f"line {line_number}, ")
        hint = hint or next((h for part, h in _BY_PROBLEM.items() if part in problem), "")
        return f"; {hint}" if hint else ""

    def _line(self, number: int) -> str:
        if self._lines is None:
            self._lines = re.split(_LINE_END, self._text)
        return self._lines[number] if 0 <= number < len(self._lines) else ""


def is_quoted_typographically(text: str) -> bool:
    """Return whether a value is in quotes that YAML takes for a part of the value."""
    return len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES


def _odd_character(line: str, where: str) -> str:
    found = re.search(_ODD, re.sub(_COMMENT, "", line))
    if not found:
        return ""
    import unicodedata  # here, because it would delay every start

    name = unicodedata.name(found[0]).lower()
    column = found.start() + 1
    what = "\" or '" if found[0] in _QUOTES else "an ordinary space"
    return f"{where}column {column} has U+{ord(found[0]):04X} ({name}): write {what} instead"


def _bare_address(line: str, problem: str) -> str:
    found = re.search(_BARE_IPV6, line)
    if not found or "expected the node content" not in problem:
        return ""
    return f'put the IPv6 address in quotes: "{found[1]}"'
