"""Runs: payloads that are numbered and checked, so that `ackctl verify` finds them again."""
