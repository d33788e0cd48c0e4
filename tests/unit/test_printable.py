"""What came over the network, as text that does nothing to a terminal."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.printable import printable

SHOWN = {
    "plain text stays": (b"this data will send to server!", "this data will send to server!"),
    "nothing stays nothing": (b"", ""),
    "other scripts stay": ("Grüß Gott, 世界 🙂".encode(), "Grüß Gott, 世界 🙂"),
    "a colour is not painted": (b"\x1b[31mred", "\\x1b[31mred"),
    "a window is not renamed": (b"\x1b]0;root\x07", "\\x1b]0;root\\x07"),
    "nothing is overwritten": (b"bad\rgood", "bad\\rgood"),
    "nothing is erased": (b"bad\x08\x7f", "bad\\x08\\x7f"),
    "no line is added": (b"one\ntwo", "one\\ntwo"),
    "nor by Unicode's line ends": ("a\x85b\u2028c\u2029".encode(), "a\\x85b\\u2028c\\u2029"),
    "NUL and tab are seen": (b"\0\t", "\\x00\\t"),
    "the C1 form of ESC [ is seen": ("\x9b31m".encode(), "\\x9b31m"),
    "text is not turned around": ("abc\u202edef\u2066".encode(), "abc\\u202edef\\u2066"),
    "nothing is invisible": ("a\u200bb\u00adc\ufeff".encode(), "a\\u200bb\\xadc\\ufeff"),
    "unusual spaces are seen": ("a\u00a0b\u3000".encode(), "a\\xa0b\\u3000"),
    "tags from beyond the BMP are seen": ("\U000e0041".encode(), "\\U000e0041"),
    "bytes that are no UTF-8 are seen": (b"a\xffb\xc3", "a\\xffb\\xc3"),
    "good text around them stays": (b"\xff" + "ü".encode() + b"\xff", "\\xffü\\xff"),
    "half a surrogate pair is no UTF-8": (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    "an overlong slash is no UTF-8": (b"\xc0\xaf", "\\xc0\\xaf"),
    "an escape that was sent is not taken for ours": (b"\\x1b", "\\\\x1b"),
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
    """Say whether it is no control, format, surrogate, private or unassigned one, nor a space."""
    return unicodedata.category(character)[0] not in "CZ"
