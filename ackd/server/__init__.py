"""The loop, the listeners and the connections."""
