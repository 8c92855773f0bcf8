"""What a run is judged by: likelihood and accuracy, with and without a calibrated bias; time; memory.

A model may gain by nothing but a shift of its class bias. The control for that is calibration: the
per-class bias that is best for the very examples reported on, which no fair method can beat by a
shift alone.
"""

import pathlib
import statistics
import time
from typing import NamedTuple

import jax
import numpy as np
from scipy import optimize, special

__all__ = [
    "Score",
    "calibrated",
    "classification",
    "completion",
    "peak_bytes",
    "plot",
    "score",
    "seconds",
]


class Score(NamedTuple):
    """Mean negative log-likelihood in nats, and accuracy."""

    nll: float
    accuracy: float


def score(logits, labels, bias=0.0):
    """Scores logits plus a per-class bias.

    Args:
      logits: ``(N, C)`` floats.
      labels: ``(N,)`` integers.
      bias: ``(C,)`` floats, or 0.

    Returns:
      A :class:`Score`.
    """
    log_likelihood = special.log_softmax(logits + bias, axis=1)[np.arange(len(labels)), labels]
    hits = np.argmax(logits + bias, axis=1) == labels
    return Score(float(-log_likelihood.mean()), float(hits.mean()))


def calibrated(logits, labels):
    """Scores logits with the bias that minimises their likelihood loss on these same examples.

    Args:
      logits: ``(N, C)`` floats.
      labels: ``(N,)`` integers.

    Returns:
      A :class:`Score`.
    """
    counts = np.bincount(labels, minlength=logits.shape[1]) / len(labels)

    def nll(bias):
        return score(logits, labels, bias).nll

    def slope(bias):
        return special.softmax(logits + bias, axis=1).mean(axis=0) - counts

    best = optimize.minimize(nll, np.zeros(logits.shape[1]), jac=slope, method="BFGS")
    return score(logits, labels, best.x)


def classification(logits, labels):
    """Rows of a table: what is behind a model's name, and its scores by their columns' names.

    >>> rows = classification(np.array([[0.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))
    >>> list(rows), round(rows[""]["NLL"], 3), rows[""]["accuracy"]
    (['', '  + best bias'], 0.41, 1.0)
    """
    found = {"": score(logits, labels), "  + best bias": calibrated(logits, labels)}
    return {name: {"NLL": s.nll, "accuracy": s.accuracy} for name, s in found.items()}


def completion(judged, labels):
    """The same for prompts and completions; NLL is that of a token.

    Args:
      judged: ``(N, 4)`` floats: a completion's NLL, its tokens, F1 and exact match of what was written.
      labels: Not needed.

    >>> completion(np.array([[2.0, 1, 1, 1], [1.0, 2, 0.5, 0]]), None)
    {'': {'NLL': 1.0, 'F1': 0.75, 'exact': 0.5}}
    """
    del labels
    nll, tokens, f1, exact = map(float, np.mean(judged, axis=0))
    return {"": {"NLL": nll / tokens, "F1": f1, "exact": exact}}


def peak_bytes(compiled):
    """Bytes a compiled function holds at its peak: arguments, outputs and temporaries.

    Args:
      compiled: The result of ``jax.jit(f).lower(...).compile()``.

    Returns:
      An int; a donated argument that became an output is counted once.
    """
    memory = compiled.memory_analysis()
    total = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    return total + memory.output_size_in_bytes - memory.alias_size_in_bytes


def seconds(functions, repeats=7):
    """Median wall time of each function, measured in turn so that a busy machine slows all alike.

    Args:
      functions: Functions without arguments that return JAX arrays; each runs once beforehand.
      repeats: Number of timed calls of each.

    Returns:
      A list of floats.
    """
    times = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, record in zip(functions, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function())
            record.append(time.perf_counter() - start)
    return [statistics.median(record[1:]) for record in times]


def plot(path, losses, points, label, what="negative log-likelihood"):
    """Draws a loss curve.

    Args:
      path: Where the PNG goes.
      losses: Training loss of every step.
      points: Dict from a number of steps to the loss of a split there.
      label: What the points are called.
      what: What the loss is called.

    Returns:
      The absolute path.
    """
    import matplotlib

    matplotlib.use("Agg")  # draw without a display
    from matplotlib import pyplot as plt

    width = max(1, len(losses) // 10)
    mean = np.convolve(losses, np.ones(width) / width, mode="valid")
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(np.arange(1, len(losses) + 1), losses, color="0.85", linewidth=1)
    middle = np.arange(len(mean)) + (width + 1) / 2
    axes.plot(middle, mean, color="C0", label=f"training batches, mean of {width}")
    axes.plot(list(points), list(points.values()), "o-", color="C3", label=label)
    axes.set(xlabel="step", ylabel=what)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path = pathlib.Path(path).expanduser().absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
