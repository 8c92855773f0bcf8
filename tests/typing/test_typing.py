"""A user's program has no type error in strict mode."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("user_program.py")
OPTIONS = ["--strict", "--follow-imports=silent", f"--config-file={ROOT / 'pyproject.toml'}"]


@pytest.mark.slow  # mypy reads all of zojax a second time; .ci/run has a line for it
def test_a_users_program_is_clean_in_strict_mode(monkeypatch, tmp_path):
    """A copy with one more line, which is wrong, has the only error."""
    api = pytest.importorskip("mypy.api")
    monkeypatch.chdir(ROOT)
    wrong = tmp_path / "wrong_program.py"
    wrong.write_text(PROGRAM.read_text() + "\nzojax.mezo().estimator.num_directions.nothing\n")
    report, _, status = api.run([*OPTIONS, str(PROGRAM), str(wrong)])
    errors = [line for line in report.splitlines() if ": error: " in line]
    assert status == 1 and len(errors) == 1, report
    assert errors[0].startswith(str(wrong)) and '"int" has no attribute "nothing"' in errors[0]
