"""The fuzz targets hold for their corpus, and for what a short fuzzing run finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.support.certificates import needs_openssl

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 200 if os.environ.get("ACKD_CAMPAIGN") else 8  # for each target

every_target = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=needs_openssl if "tls" in name else ()) for name in sorted(TARGETS)],
)


@every_target
def test_each_target_holds_for_its_corpus(name: str) -> None:
    inputs = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
    assert inputs
    for data in inputs:
        TARGETS[name](data)


# Debian has no atheris. In the project's own environment it must be installed.
@pytest.mark.skipif(
    sys.prefix == sys.base_prefix, reason="needs atheris, which Debian does not have"
)
@every_target
def test_fuzzing_finds_no_input_for_which_a_target_fails(name: str, tmp_path: Path) -> None:
    found = tmp_path / "found"
    found.mkdir()
    options = (f"-max_total_time={SECONDS}", "-timeout=20", f"-artifact_prefix={tmp_path}/")
    command = (sys.executable, "-m", "tests.fuzz", name, *options, found, CORPUS / name)
    done = subprocess.run(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
    # The output has the traceback, and the input in hexadecimal and Base64.
    assert done.returncode == 0, done.stdout[-4000:]
    assert "\nDone " in done.stdout
