"""`ackctl status`: asks a running ackd on this host what it is doing, and shows the answer."""
