"""`ackctl verify` and `ackctl log`, which read the server's journal."""
