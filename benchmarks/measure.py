"""How things are measured: peaks by the compiler, times as ratios inside one interleaved run."""

import argparse
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jaxlib

from benchmarks import environments
from benchmarks.turns import often

ROOT = Path(__file__).parent.parent
# Another folder for a trial run; an environment variable, since sections are processes of their own.
RESULTS = Path(os.environ.get("ZOJAX_RESULTS") or Path(__file__).parent / "results")
SPREAD = 0.5  # (upper - lower quartile) / median beyond which a ratio says nothing
RESIDUAL = 0.25  # of a logarithm, beyond which values follow no power of a size
LEAST = 3  # rounds of a ratio
FEW = 5  # rounds below which all of them must agree: quartiles would leave none or one out


def peak_bytes(compiled) -> int:
    """Temporaries + arguments + outputs, what is donated counted once."""
    m = compiled.memory_analysis()
    resident = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
    return m.temp_size_in_bytes + resident


def interleaved(contestants: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant, one after another in every round, in shuffled order; short steps repeat.

    Drift of the machine hits all of them alike, and so does what the one before leaves in the caches
    and the allocator.
    """
    for run in contestants.values():
        jax.block_until_ready(run())  # compile and warm up
    timers = {name: partial(often, partial(timed, run)) for name, run in contestants.items()}
    return in_turn(timers, dict.fromkeys(contestants, rounds))


def timed(run: Callable) -> float:
    """Seconds of one call, its result awaited."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def in_turn(timers: dict[str, Callable[[], float]], rounds: dict[str, int]) -> dict[str, list]:
    """What each timer returned in its rounds, all in the first ones; the order is shuffled anew."""
    seconds = {name: [] for name in timers}
    shuffler = random.Random(0)
    for i in range(max(rounds.values(), default=0)):
        order = [name for name in timers if rounds[name] > i]
        shuffler.shuffle(order)
        for name in order:
            seconds[name].append(timers[name]())
    return seconds


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile; a single value is all three."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def common(one: list[float], other: list[float]) -> tuple[list[float], list[float]]:
    """The rounds in which both took part: the first ones."""
    rounds = min(len(one), len(other))
    return one[:rounds], other[:rounds]


def ratio(numerator: list[float], denominator: list[float]) -> tuple[float, float, float]:
    """Median of the ratios inside common rounds, and its quartiles; of few rounds the least and most."""
    ratios = [a / b for a, b in zip(*common(numerator, denominator), strict=True)]
    if len(ratios) < FEW:
        return statistics.median(ratios), min(ratios), max(ratios)
    return quartiles(ratios)


def spread(numerator: list[float], denominator: list[float]) -> str:
    """From the lower to the upper quartile of a ratio, where there may be one."""
    if min(len(numerator), len(denominator)) < LEAST:
        return ""
    _, low, high = ratio(numerator, denominator)
    return f"{low:.3g} to {high:.3g}"


def cautious(numerator: list[float], denominator: list[float]) -> float | str:
    """The median ratio, or why there is none: too few common rounds, or quartiles too far apart."""
    if min(len(numerator), len(denominator)) < LEAST:
        return "n/a (rounds)"
    middle, low, high = ratio(numerator, denominator)
    return "n/a (spread)" if high - low > SPREAD * middle else middle


def against(base: str, taken: list[float], theirs: list[float]) -> dict:
    """Columns of a row beside a base: the ratio, if any; its quartiles; every round, for the file alone."""
    quartiles = spread(taken, theirs)
    return {f"/ {base}": cautious(taken, theirs), "quartiles": quartiles, "rounds": taken}


def exponent(sizes: list[float], values: list[float]) -> float | str:
    """b of value = a size^b, by least squares in logarithms; none where a value is far from that."""
    if min(values) <= 0:
        return "n/a (no power)"
    x, y = ([math.log(v) for v in values] for values in (sizes, values))
    slope, start = statistics.linear_regression(x, y)
    far = max(abs(b - slope * a - start) for a, b in zip(x, y, strict=True))
    return "n/a (no power)" if far > RESIDUAL else slope


def random_like(shapes, key: int = 0, scale: float = 0.02):
    """Arrays for ShapeDtypeStructs: normals times `scale`, small integers."""

    def fill(shape, k):
        if jax.numpy.issubdtype(shape.dtype, jax.numpy.integer):
            return jax.random.randint(k, shape.shape, 0, 8, shape.dtype)
        return (scale * jax.random.normal(k, shape.shape)).astype(shape.dtype)

    leaves, treedef = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(key), max(len(leaves), 1))
    return treedef.unflatten([fill(s, k) for s, k in zip(leaves, keys, strict=False)])


def environment(device: str) -> dict:
    """Where and of what a result is: machine, versions, commit."""
    names = ("jax", *environments.PACKAGES)
    folders = environments.folder().glob("*/lib/python*/site-packages")
    return {
        "device": device,
        "cores": os.cpu_count(),
        "processor": processor(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "python": platform.python_version(),
        "packages": environments.versions(environments.PACKAGES, sys.path),
        "environments": {f.parts[-4]: environments.versions(names, [str(f)]) for f in folders},
        "commit": commit(),
    }


def processor() -> str:
    """The CPU's model, as far as the system tells."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def commit() -> str | None:
    """Of the checkout, if this is one."""
    if not (ROOT / ".git").exists():
        return None
    ask = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def results_folder(device: str | None = None) -> Path:
    """Where the results of a device are; by default of the one that JAX uses."""
    device = device or jax.devices()[0].device_kind
    return RESULTS / device.lower().replace(" ", "-")


def ready(folder: Path) -> None:
    """Makes a folder of results and tries it: before anything is measured, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        hint = "the variable ZOJAX_RESULTS names another folder."
        raise SystemExit(f"{folder} cannot be written ({error.strerror}): {hint}") from None


def write(name: str, rows: list[dict], device: str | None = None) -> None:
    """Writes benchmarks/results/<device>/<name>.json, the whole of it or nothing."""
    device = device or jax.devices()[0].device_kind
    path = results_folder(device) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"environment": environment(device), "rows": rows}
    new = path.with_suffix(".json.new")
    new.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(new, path)


def save(name: str, rows: list[dict], device: str | None = None, show=None) -> None:
    """Writes the rows and prints them as a table.

    `show` makes the rows of the table where the file has more than a reader wants to see.
    """
    write(name, rows, device)
    print(markdown(show(rows) if show else rows))


def load(name: str, folder: Path) -> list[dict]:
    """The rows of a file, or none where there is no file; one that cannot be read is an error."""
    path = folder / f"{name}.json"
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text())["rows"]
    except (ValueError, KeyError, TypeError) as error:
        remedy = "take it back from git, or delete it and measure again."
        raise SystemExit(f"{path} holds no results ({error}): {remedy}") from None


def saved(name: str, device: str | None = None) -> list[dict]:
    """The rows of an earlier run on this device; none where there was none."""
    return load(name, results_folder(device))


def positive(text: str) -> int:
    """An option that counts: at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of times.")
    return int(text)


def matching(named: dict, part: str | None) -> dict:
    """Those with `part` in their names; none is an error."""
    found = {name: value for name, value in named.items() if (part or "") in name}
    if not found:
        raise SystemExit(f"--only {part!r} is in none of {', '.join(map(repr, named))}.")
    return found


def markdown(rows: list[dict]) -> str:
    """Rows with the same keys as a Markdown table; lists are raw data, and no columns."""
    names = [name for name, value in rows[0].items() if not isinstance(value, list)]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        values = [row.get(name, "") for name in names]
        cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in values]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
