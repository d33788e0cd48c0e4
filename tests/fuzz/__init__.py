"""Inputs that nobody would think of, found by the code that they reach.

`targets` says what must hold for any bytes, and needs nothing but ackd. With atheris,

    python -m tests.fuzz TARGET [DIRECTORY] [LIBFUZZER OPTIONS]

looks for bytes for which it doesn't, and leaves those that reach new code in DIRECTORY. What is
worth keeping of them is added to the corpus, and nothing else, by

    python -m tests.fuzz TARGET -merge=1 tests/fuzz/corpus/TARGET DIRECTORY
"""
