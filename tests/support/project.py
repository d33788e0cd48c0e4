"""Where the checkout is that the tests test."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
