"""ackctl, the client on the command line: a folder for each verb."""
