"""The same exchange without recording, on other event loops: each with the minimum of code.

    python -m tests.bench.competitors.NAME PORT

Each server listens on 127.0.0.1, sends the greeting, counts the lines and sends as many acks.
None has limits or timeouts. Unlike ackd, none splits the data into payloads: the count is enough.
"""
