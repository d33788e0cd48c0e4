"""`ackctl probe`."""
