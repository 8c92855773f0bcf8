"""What CI runs is what the README tells its readers to run."""

from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_ci_runs_the_test_command_of_the_readme():
    *_, last = (ROOT / ".ci" / "run").read_text().strip().splitlines()
    assert last in (ROOT / "README.md").read_text().splitlines()
