"""Benchmarks: ackd beside the same exchange in C and in other Python; `make bench` runs them."""
