"""The same exchange without recording, in other ways: each as small as it can honestly be.

    python -m tests.bench.competitors.NAME PORT

Each greets on 127.0.0.1, counts the lines that come and sends as many acks; none looks at limits or
timeouts. None makes payloads of the lines either, as ackd does: counting is the least they can do.
"""
