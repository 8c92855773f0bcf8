"""Optimizers side by side on the digits: `python -m zojax.examples.methods`.

Every method gets equal evaluations of the loss and the same grid of learning rates. The rate with the
lowest validation loss counts, and the report has its test loss. Backpropagation is a row as well.
"""

import argparse
import sys
import time
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from zojax.examples import _command, _plots, _tables
from zojax.examples._methods import METHODS, evaluations
from zojax.examples._race import RATES, Runs, digits, race

__all__ = ["main", "make_parser"]

FEW = ("mezo", "zo_adam", "zo_muon", "open_es", "eggroll", "backpropagation, adam")


class Raced(NamedTuple):
    """A method and its runs."""

    name: str
    runs: Runs
    seconds: float


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = _command.make_parser("methods", "Optimizers side by side at equal evaluations.")
    add = parser.add_argument
    add("--methods", nargs="+", choices=METHODS, metavar="NAME", default=FEW, help="some or all")
    add("--evaluations", type=int, default=2000, help="of the loss, in a run")
    add("--seeds", type=int, default=3, help="runs of each learning rate")
    add("--mu", type=float, default=1e-3, help="smoothing radius")
    add("--list", action="store_true", help="the names of all methods")
    return parser


def check(args: argparse.Namespace) -> None:
    """Raises ValueError for arguments out of range."""
    _command.require_positive(args, seeds=3, mu=1e-3)
    dearest = max(evaluations(METHODS[name]) for name in args.methods)
    if args.evaluations < dearest:
        least = f"at least {dearest}, those of one step"
        raise ValueError(f"--evaluations must be {least}, got {args.evaluations}.")


def compare(args: argparse.Namespace) -> list[Raced]:
    """Races the methods one after another."""
    work, raced = digits(args.mu), []
    for name in args.methods:
        print(f"{name}: {len(RATES)} learning rates, {args.seeds} seeds", flush=True)
        start = time.perf_counter()
        points = min(20, args.evaluations // evaluations(METHODS[name]))
        runs = race(work, METHODS[name], args.evaluations, seeds=range(args.seeds), points=points)
        raced.append(Raced(name, runs, time.perf_counter() - start))
    return sorted(raced, key=lambda r: float(r.runs.test[r.runs.best()].mean()))


def report(raced: list[Raced]) -> str:
    """Test losses, best first, as a table of text."""
    rows: list[tuple] = [("method", "test loss", "+-", "rate", "s")]
    for name, runs, seconds in raced:
        test = runs.test[runs.best()]
        rate = RATES[runs.best()]
        cells = f"{test.mean():.3f}", f"{test.std():.3f}", f"{rate:.1e}", f"{seconds:.1f}"
        rows.append((name, *cells))
    return _tables.table((-24, 10, 8, 10, 8), rows)


def plot(path: str | PathLike, raced: list[Raced]) -> Path:
    """Draws validation loss against evaluations; returns the absolute path."""
    figure = _plots.make_figure(6, 4)
    axes = figure.subplots()
    for method in raced:
        axes.plot(method.runs.evaluations, method.runs.curve, label=method.name)
    axes.set(xlabel="evaluations of the loss", ylabel="validation loss, nats", yscale="log")
    axes.legend(frameon=False)
    return _plots.save_figure(figure, path)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(METHODS))
        return 0
    with _command.refusing(parser, "tuning", "matplotlib", "sklearn"):
        _command.require_picture(args.out)
        args.methods = list(dict.fromkeys(args.methods))
        check(args)
    raced = compare(args)
    print("\nCross-entropy on held-out digits, in nats; the rate was chosen on other digits.\n")
    print(report(raced))
    print(f"\ncurves: {plot(args.out, raced)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
