"""Serves clients: accepts them, reads them, records in the order of a queue, acknowledges."""
