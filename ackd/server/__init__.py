"""Clients: they are let in, read, recorded in the order of a queue, and acknowledged."""
