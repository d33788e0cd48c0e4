"""The names in a client's certificate, and which of them may come in."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def names_of(certificate: Mapping[str, Any]) -> list[str]:
    """Return the names of a certificate, given as SSLSocket.getpeercert() returns it.

    These are its alternative names that are DNS names or URIs, or else its common names.
    """
    alternative = certificate.get("subjectAltName", ())
    return [name for kind, name in alternative if kind in ("DNS", "URI")] or list(
        _common_names(certificate.get("subject", ()))
    )


def _common_names(subject: Iterable[Iterable[tuple[str, str]]]) -> Iterator[str]:
    return (value for part in subject for key, value in part if key == "commonName")


def is_allowed(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name is one of these; `*.` at the beginning of a pattern is one label.

    Letters of both cases are equal, but for those of a URI.
    """
    name = _comparable(name)
    label, _, parent = name.partition(".")
    same = {name, f"*.{parent}"} if label and ":" not in name else {name}
    return any(_comparable(pattern) in same for pattern in patterns)


def _comparable(name: str) -> str:
    return name if ":" in name else name.lower()
