"""Runs and searches that are killed 20 times at random moments end with the bits of an unbroken one."""

import subprocess
import sys

import pytest

from tests._survival import JOBS


@pytest.mark.slow  # of 22 processes each
@pytest.mark.parametrize("job", JOBS)
def test_twenty_kills_change_no_bit(job, tmp_path):
    command = [sys.executable, "-m", "tests._survival", job, tmp_path, "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "20 kills, the same result\n", done.stderr[-3000:]
