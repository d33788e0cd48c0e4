"""The picture in README: `ackctl probe` finds a broken path."""
