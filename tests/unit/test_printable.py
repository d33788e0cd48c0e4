"""Bytes from the network, as text that does nothing to a terminal."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.printable import printable

SHOWN = {
    "plain text is unchanged": (
        b"this data will send to server!",
        "this data will send to server!",
    ),
    "no bytes are no text": (b"", ""),
    "other scripts are unchanged": ("Grüß Gott, 世界 🙂".encode(), "Grüß Gott, 世界 🙂"),
    "a colour is escaped": (b"\x1b[31mred", "\\x1b[31mred"),
    "a window title is escaped": (b"\x1b]0;root\x07", "\\x1b]0;root\\x07"),
    "CR is escaped": (b"bad\rgood", "bad\\rgood"),
    "backspace and DEL are escaped": (b"bad\x08\x7f", "bad\\x08\\x7f"),
    "LF is escaped": (b"one\ntwo", "one\\ntwo"),
    "Unicode's line ends are escaped": ("a\x85b\u2028c\u2029".encode(), "a\\x85b\\u2028c\\u2029"),
    "NUL and tab are escaped": (b"\0\t", "\\x00\\t"),
    "the C1 form of ESC [ is escaped": ("\x9b31m".encode(), "\\x9b31m"),
    "bidirectional marks are escaped": ("abc\u202edef\u2066".encode(), "abc\\u202edef\\u2066"),
    "invisible characters are escaped": (
        "a\u200bb\u00adc\ufeff".encode(),
        "a\\u200bb\\xadc\\ufeff",
    ),
    "unusual spaces are escaped": ("a\u00a0b\u3000".encode(), "a\\xa0b\\u3000"),
    "tags beyond the BMP are escaped": ("\U000e0041".encode(), "\\U000e0041"),
    "bytes that are not UTF-8 are escaped": (b"a\xffb\xc3", "a\\xffb\\xc3"),
    "text around such bytes is unchanged": (b"\xff" + "ü".encode() + b"\xff", "\\xffü\\xff"),
    "half a surrogate pair is not UTF-8": (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    "an overlong slash is not UTF-8": (b"\xc0\xaf", "\\xc0\\xaf"),
    "the backslash of an escape in the input is escaped": (b"\\x1b", "\\\\x1b"),
    "a backslash beside an escape": (b"\\\x1b", "\\\\\\x1b"),
}


@pytest.mark.parametrize(("data", "text"), SHOWN.values(), ids=SHOWN.keys())
def test_bytes_are_shown_as_printable_text(data: bytes, text: str) -> None:
    assert printable(data) == text


@settings(deadline=None)
@given(st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_shown_with_visible_characters_and_spaces_only(data: bytes) -> None:
    text = printable(data)
    assert text.encode().decode() == text
    assert all(character == " " or is_visible(character) for character in text)
    assert len(text.encode()) <= 4 * len(data)


def is_visible(character: str) -> bool:
    """Return whether the category of a character is neither C, other, nor Z, separator."""
    return unicodedata.category(character)[0] not in "CZ"
