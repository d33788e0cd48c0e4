"""ackd records each line that arrives over TCP in the systemd journal, then acknowledges it."""

__version__ = "0.2.0"
