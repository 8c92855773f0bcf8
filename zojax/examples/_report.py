"""What a run is judged by: likelihood and accuracy, with and without a calibrated bias; time; memory.

A model may gain by nothing but a shift of its class bias. The control for that is calibration: the
per-class bias that is best for the very examples reported on, which no fair method can beat by a
shift alone. The command lines also share how they refuse to begin, and how a picture is written.
"""

import contextlib
import importlib
import os
import pathlib
import statistics
import time

import jax
import numpy as np

from zojax.lm import AssetError

__all__ = [
    "of_bytes",
    "of_seconds",
    "peak_bytes",
    "plot",
    "refusing",
    "require_picture",
    "save_figure",
    "seconds",
]


def peak_bytes(compiled):
    """Bytes a compiled function holds at its peak: arguments, outputs and temporaries.

    Args:
      compiled: the result of `jax.jit(f).lower(...).compile()`.

    Returns:
      An int; a donated argument that became an output is counted once.
    """
    memory = compiled.memory_analysis()
    total = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    return total + memory.output_size_in_bytes - memory.alias_size_in_bytes


def seconds(functions, repeats=7):
    """Median wall time of each function, measured in turn so that a busy machine slows all alike.

    Args:
      functions: functions without arguments that return JAX arrays; each runs once beforehand.
      repeats: number of timed calls of each.

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


def of_bytes(count):
    """A number of bytes in words.

    >>> of_bytes(39000), of_bytes(2.5 * 2**30)
    ('38.1 KiB', '2.5 GiB')
    """
    power = max(1, min(4, int(np.log2(max(1, count)) // 10)))
    return f"{count / 2 ** (10 * power):.1f} {'KMGT'[power - 1]}iB"


def of_seconds(seconds):
    """A time in words.

    >>> of_seconds(0.000923), of_seconds(2.5)
    ('0.92 ms', '2.5 s')
    """
    return f"{1e3 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"


def plot(path, losses, points, *, label, start, what, title):
    """Draws a loss curve, with a line at its value before training.

    Args:
      path: where the PNG goes.
      losses: training loss of every step, NaN where it is not known.
      points: dict from a number of steps to the loss of a split there.
      label: name of the split.
      start: name of the model before training.
      what: name of the loss.
      title: of the picture.

    Returns:
      The absolute path.
    """
    from matplotlib.figure import Figure  # without pyplot, which may want a display

    width = max(1, len(losses) // 10)
    mean = np.convolve(losses, np.ones(width) / width, mode="valid")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    before = next(iter(points.values()))
    axes.axhline(before, color="0.5", linewidth=1, linestyle=":", label=f"{label}, {start}")
    axes.plot(np.arange(1, len(losses) + 1), losses, color="0.85", linewidth=1)
    middle = np.arange(len(mean)) + (width + 1) / 2
    axes.plot(middle, mean, color="C0", label=f"training batches, mean of {width}")
    axes.plot(list(points), list(points.values()), "o-", color="C3", label=label)
    axes.set(xlabel="step", ylabel=what, title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if _decades([*losses, *points.values()]) > 2:  # a run that diverged, too
        axes.set_yscale("log")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return save_figure(figure, path)


def _decades(values):
    """Powers of ten between the least and the greatest positive number; 0 if one is not positive."""
    known = np.array(values)[np.isfinite(values)]
    return np.log10(known.max() / known.min()) if len(known) and known.min() > 0 else 0.0


def save_figure(figure, path, dpi=150):
    """Writes a figure, and makes the folders that it goes to.

    Args:
      figure: a Matplotlib figure.
      path: of the file, whose ending says which format.
      dpi: pixels an inch.

    Returns:
      The absolute path.
    """
    path = pathlib.Path(path).expanduser().absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path


def require_picture(path):
    """Makes the folder of a picture; raises ValueError unless Matplotlib could write it there.

    >>> require_picture("curve.xyz")
    Traceback (most recent call last):
    ValueError: --out curve.xyz must end in one of ...
    """
    from matplotlib.backend_bases import FigureCanvasBase

    path = pathlib.Path(path).expanduser()
    known = [f".{ending}" for ending in sorted(FigureCanvasBase.get_supported_filetypes())]
    if path.suffix.lower() not in known:
        raise ValueError(f"--out {path} must end in one of {', '.join(known)}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written: {error}.") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"--out {path} cannot be written; choose another path.")


@contextlib.contextmanager
def refusing(parser, *modules):
    """Ends the program with status 2 and a remedy where its block lacks a module, an archive or sense.

    The given modules are imported first: a run that could not draw its picture does not begin.

    Args:
      parser: of the command line.
      *modules: names of modules that the run imports later.

    Raises:
      SystemExit: for a ModuleNotFoundError, an `AssetError`, a ValueError or an OSError.

    >>> import argparse
    >>> with refusing(argparse.ArgumentParser(prog="it"), "json", "no_such_module"):
    ...     print("not reached")
    Traceback (most recent call last):
    SystemExit: 2
    """
    try:
        for module in modules:
            importlib.import_module(module)
        yield
    except (AssetError, ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except ModuleNotFoundError as error:
        remedy = 'install the extra: python -m pip install ".[examples]"'
        parser.exit(2, f"{parser.prog}: {error.name} is missing; {remedy}\n")
