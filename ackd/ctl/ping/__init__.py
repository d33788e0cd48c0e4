"""`ackctl ping`."""
