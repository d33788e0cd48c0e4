"""Coverage-guided fuzzing of the code that reads bytes of clients, servers and an earlier ackd.

`targets` has the conditions that must hold for any bytes; it needs only ackd. With atheris,

    python -m tests.fuzz TARGET [DIRECTORY] [LIBFUZZER OPTIONS]

searches for bytes for which it does not hold, and puts inputs that reach new code into DIRECTORY.
This command adds those that reach code which the corpus does not reach to the corpus:

    python -m tests.fuzz TARGET -merge=1 tests/fuzz/corpus/TARGET DIRECTORY
"""
