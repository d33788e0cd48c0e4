"""The daemon as a service: its start, its end, reloads, and the hand-over."""
