"""`ackctl bench`."""
