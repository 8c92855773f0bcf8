"""Chooses few columns of a table by Pareto optimisation: `python -m zojax.examples.subset`.

Sparse regression: least squares on at most k columns; the value is the mean squared error. Greedy forward
selection adds the best column and never removes one. POSS (`search.poss`) keeps the best subset of every
size and mutates them, `2 e k^2 n` times. Both see the training half; the report has both halves.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zojax import search
from zojax.examples import _command, _plots, _tables
from zojax.examples._least_squares import DATA, Table, fit, greedy, load, make_loss

__all__ = ["Choice", "main", "make_parser"]


class Choice(NamedTuple):
    """Columns of one table, chosen by greedy selection and by POSS."""

    data: str  # name of the table
    k: int  # how many columns
    greedy: tuple[float, float]  # training and test error
    poss: tuple[float, float]
    columns: list[str]  # chosen by POSS
    seconds: float  # of POSS


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    about = "Choose few columns of a table: POSS beside greedy forward selection."
    parser = _command.make_parser("subset", about)
    add = parser.add_argument
    add("--data", nargs="+", choices=DATA, default=DATA, help="tables of scikit-learn")
    add("--sizes", nargs="+", type=int, default=(4, 6, 8, 10, 12), help="columns to choose")
    add("--runs", type=int, default=4, help="runs of POSS, side by side; the best one counts")
    add("--seed", type=int, default=0, help="of the split and of POSS")
    return parser


def check(args: argparse.Namespace, tables: dict[str, Table]) -> None:
    """Raises ValueError for arguments that are out of range or do not fit a table."""
    if min(args.sizes) < 1:
        raise ValueError(f"--sizes must be positive, got {min(args.sizes)}.")
    _command.require_positive(args, runs=4)
    for name, table in tables.items():
        half = table.columns.shape[1] // 2
        if max(args.sizes) > half:
            raise ValueError(f"--sizes must be at most {half} for {name}, got {max(args.sizes)}.")


def compare(name: str, table: Table, args: argparse.Namespace) -> Iterator[Choice]:
    """Greedy selection and POSS, for each number of columns."""
    n = table.columns.shape[1]
    path = greedy(table, max(args.sizes))
    for k in args.sizes:
        budget = int(2 * math.e * k * k * n)
        print(f"{name}: {k} of {n} columns, {args.runs} runs of {budget:,} evaluations", flush=True)
        start = time.perf_counter()
        loss, space = make_loss(table.columns, table.target, 2 * k), search.subset(n, max_size=k)
        options = dict(key=args.seed, repeats=args.runs, progress=True)
        result = search.minimize(loss, space, search.poss(), budget=budget, **options)
        seconds = time.perf_counter() - start
        chosen = np.asarray(result.best, bool)
        names = [table.names[i] for i in np.flatnonzero(chosen)]
        yield Choice(name, k, fit(table, path[k - 1]), fit(table, chosen), names, seconds)


def report(choices: list[Choice]) -> str:
    """The choices as a table of text."""
    rows: list[tuple] = [("data", "k", "greedy: train", "test", "poss: train", "test", "s")]
    for c in choices:
        errors = (f"{error:.4f}" for error in (*c.greedy, *c.poss))
        rows.append((c.data, str(c.k), *errors, f"{c.seconds:.1f}"))
    return _tables.table((-15, 3, 15, 9, 14, 9, 7), rows)


def plot(path: str | PathLike, choices: list[Choice]) -> Path:
    """Draws training and test error against the number of columns; returns the absolute path."""
    names = list(dict.fromkeys(c.data for c in choices))
    figure, axes = _plots.panels(names, 4)
    for axis, name in zip(axes, names, strict=True):
        here = [c for c in choices if c.data == name]
        sizes = [c.k for c in here]
        # Greedy is wide and pale: often both choose the same columns.
        looks = {"greedy": {"color": "0.75", "lw": 4, "ms": 8}}
        looks["poss"] = {"color": "C3", "lw": 1.5, "ms": 4}
        for method, look in looks.items():
            for half, (style, part) in enumerate((("o-", "training"), ("o--", "test"))):
                errors = [getattr(c, method)[half] for c in here]
                axis.plot(sizes, errors, style, label=f"{method}, {part}", **look)
        axis.set(xlabel="columns", ylabel="mean squared error")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False)
    return _plots.save_figure(figure, path)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(argv)
    with _command.refusing(parser, "tuning", "matplotlib", "tqdm"):
        _command.require_picture(args.out)
        args.data = list(dict.fromkeys(args.data))
        _command.require_seed(args)
        tables = {name: load(name, args.seed) for name in args.data}
        check(args, tables)
    choices = [c for name, table in tables.items() for c in compare(name, table, args)]
    print("\nMean squared error of standardised targets; the training halves were optimised.\n")
    print(report(choices))
    for name in tables:
        last = [c for c in choices if c.data == name][-1]
        print(f"\n{name}, {last.k} columns by POSS: {', '.join(last.columns)}")
    print(f"\ncurves: {plot(args.out, choices)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
