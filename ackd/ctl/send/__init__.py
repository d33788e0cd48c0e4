"""`ackctl send`."""
