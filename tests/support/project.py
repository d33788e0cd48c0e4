"""The directory of the checkout."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
