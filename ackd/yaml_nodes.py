"""The nodes of a long YAML text, by libyaml: several times as fast as PyYAML's own parser."""

from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

# Characters. Shorter texts need no other parser than PyYAML's own.
_LONG = 20_000

if yaml.__with_libyaml__:
    from yaml._yaml import CParser

    # Not yaml.CSafeLoader: that one recurses in C, and a long `[[[[` would crash the process.
    class _FastLoader(Composer, CParser, SafeConstructor, Resolver):
        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)


def long_document(text: str) -> tuple[Any, yaml.Node | None] | None:
    """Return a loader for the nodes of a long text, and its root node.

    Return None for a short text and for a text with an error: PyYAML's own parser finds the error
    again, and places it better.
    """
    if not yaml.__with_libyaml__ or len(text) < _LONG:
        return None
    try:
        loader = _FastLoader(text)
        return loader, loader.get_single_node()
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return None
