"""A parser of command lines that starts fast."""

import argparse
from functools import partial
from typing import Any

_Formatter = type[argparse.HelpFormatter]


class Parser(argparse.ArgumentParser):
    """A parser that asks for the width of the terminal only when a text is printed.

    For each option argparse makes a formatter, and for its width imports shutil and all compression
    modules.
    """

    def __init__(self, formatter: _Formatter = argparse.HelpFormatter, **arguments: Any) -> None:
        super().__init__(**arguments, formatter_class=partial(formatter, width=80))
        self._formatter = formatter

    def format_usage(self) -> str:
        """Return the usage, as wide as the terminal."""
        self.formatter_class = self._formatter
        return super().format_usage()

    def format_help(self) -> str:
        """Return the help, as wide as the terminal."""
        self.formatter_class = self._formatter
        return super().format_help()
