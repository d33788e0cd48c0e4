"""Runs: payloads with numbers and checksums, so that `ackctl verify` finds them in the journal."""
