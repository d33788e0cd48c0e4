"""`python3 -m ackd.ctl` is ackctl."""

from ackd.ctl.start import start

start()
