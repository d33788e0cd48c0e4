"""Fuzz one target; the options are libFuzzer's, https://llvm.org/docs/LibFuzzer.html."""

import sys

import atheris

# atheris sees which code of these imports an input reaches.
with atheris.instrument_imports(include=["ackd"]):
    from tests.fuzz.targets import TARGETS

name, *options = sys.argv[1:]
# For some options libFuzzer starts its first argument as a shell command.
atheris.Setup([f"{sys.executable} -m tests.fuzz {name}", *options], TARGETS[name])
atheris.Fuzz()
