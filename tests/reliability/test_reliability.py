"""Every check with many runs; 25 minutes in all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKS = {
    "logs.interrupts": 300,
    "logs.full_disks": 60,
    "logs.kills": 20,
    "logs.damaged": 5000,
    "files.hostile": 500,
    "estimates.random_estimates": 300,
    "arguments.invalid_arguments": 1500,
}
INPUTS = {"runs", "accepted", "refused", "interrupted"}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_nothing_goes_wrong(name):
    printed = _in_a_new_process(name, CHECKS[name], 0)
    counts = json.loads(printed.splitlines()[-1])
    assert counts["runs"] == CHECKS[name]
    assert not any(n for what, n in counts.items() if what not in INPUTS), printed


@pytest.mark.slow
def test_calls_leave_no_array_file_or_thread_behind():
    """Nor programs, but for a few memory maps of the allocator."""
    for row in json.loads(_in_a_new_process("leaks.leaks", 1000)):
        assert row["arrays"] == row["files"] == row["threads"] == 0, row
        assert row["memory maps"] < row["calls"], row


def _in_a_new_process(name: str, *arguments: int) -> str:
    """The lines that a check prints, then its result. Interrupts and full disks change a whole process."""
    module, function = name.split(".")
    code = f"import json; from tests.reliability import {module}; "
    code += f"print(json.dumps({module}.{function}(*{arguments})))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
