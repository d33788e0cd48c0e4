"""How fast ackd is, beside the same exchange in C and in other Python; `make bench` runs it."""
