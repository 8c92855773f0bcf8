"""Results on disk: results/<device>/<section>.json, one row a line, written whole or not at all."""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import environments
from zojax._whole_file import replacing

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


def folder_of(results: Path, device: str) -> Path:
    """The folder of a device, by the name that JAX gives it."""
    return results / device.lower().replace(" ", "-")


def check(folder: Path) -> None:
    """Raises SystemExit if the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        remedy = "choose another folder by --results."
        raise SystemExit(f"{folder} cannot be written ({error.strerror}): {remedy}") from None


def save(folder: Path, section: str, rows: list[dict], device: dict) -> None:
    """Replaces the file of a section in one step."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    text = f'{{"environment": {json.dumps(device | environment())},\n"rows": [\n{lines}\n]}}\n'
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{section}.json") as new:
        new.write_text(text)


def load(folder: Path, section: str) -> list[dict]:
    """The rows of a section; none if there is no file. Raises SystemExit if the file is damaged."""
    path = folder / f"{section}.json"
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text())["rows"]
    except (ValueError, KeyError, TypeError) as error:
        remedy = "take it back from git, or delete it and measure again."
        raise SystemExit(f"{path} holds no results ({error}): {remedy}") from None


def environment() -> dict:
    """The machine, the versions and the commit of a result."""
    return {
        "cores": os.cpu_count(),
        "processor": processor(),
        "python": platform.python_version(),
        "packages": environments.versions(environments.PACKAGES, sys.path),
        "commit": commit(),
    }


def processor() -> str:
    """The CPU's model, as far as the system tells."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def commit() -> str | None:
    """The commit of the checkout, if there is one."""
    if not (ROOT / ".git").exists():
        return None
    ask = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def markdown(rows: list[dict], digits: int = 3) -> str:
    """Rows as a Markdown table, without the columns that are empty in every row.

    Floats are rounded to significant digits.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in names if any(row.get(name) not in ("", None) for row in rows)]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [rounded(row.get(name, ""), digits) for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rounded(value, digits: int = 3) -> str:
    """A float with so many significant digits, an exponent below 1e-4 alone; anything else as it is.

    >>> rounded(1174.3), rounded(0.00042069, 2), rounded(3.4e-07, 2), rounded(12)
    ('1,170', '0.00042', '3.4e-7', '12')
    """
    if not isinstance(value, float) or not math.isfinite(value):
        return "" if value is None else str(value)
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if int(exponent) < -4:
        return f"{mantissa}e{int(exponent)}"
    return f"{float(f'{mantissa}e{exponent}'):,.{max(digits - 1 - int(exponent), 0)}f}"
