"""How things are measured: peaks by the compiler, times as ratios inside one interleaved run."""

import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jaxlib

RESULTS = Path(__file__).parent / "results"


def peak_bytes(compiled) -> int:
    """Temporaries + arguments + outputs, what is donated counted once."""
    m = compiled.memory_analysis()
    resident = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes
    return m.temp_size_in_bytes + resident


def interleaved(contestants: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant, one after another in every round, in shuffled order.

    Drift of the machine hits all of them alike, and so does what the one before leaves in the caches
    and the allocator.
    """
    for run in contestants.values():
        jax.block_until_ready(run())  # compile and warm up
    seconds = {name: [] for name in contestants}
    order, shuffler = list(contestants), random.Random(0)
    for _ in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            run = contestants[name]
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(numerator: list[float], denominator: list[float]) -> tuple[float, float, float]:
    """Median of the pairwise ratios of one run, and its quartiles."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high


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
    return {
        "device": device,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "python": platform.python_version(),
    }


def save(name: str, rows: list[dict], device: str | None = None) -> None:
    """Writes benchmarks/results/<device>/<name>.json and prints the rows as a table."""
    device = device or jax.devices()[0].device_kind
    folder = RESULTS / device.lower().replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    content = {"environment": environment(device), "rows": rows}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(markdown(rows))


def markdown(rows: list[dict]) -> str:
    """Rows with the same keys as a Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
