"""Fuzz one target; the options are libFuzzer's, https://llvm.org/docs/LibFuzzer.html."""

import sys

import atheris

# What is imported here is watched for the code that an input reaches.
with atheris.instrument_imports(include=["ackd"]):
    from tests.fuzz.targets import TARGETS

name, *options = sys.argv[1:]
# libFuzzer starts itself anew for some options, as the shell command that its first argument is.
atheris.Setup([f"{sys.executable} -m tests.fuzz {name}", *options], TARGETS[name])
atheris.Fuzz()
