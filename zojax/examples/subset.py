"""Chooses few columns of a table by Pareto optimisation: `python -m zojax.examples.subset`.

Sparse regression: at most k columns, least squares on them, the mean squared error as the value. Greedy
forward selection adds the column that helps most and never takes one back; POSS (`search.poss`) keeps the
best subset of every size and mutates them, `2 e k^2 n` times. Both see the training half and are also
judged on the rest.
"""

import argparse
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import search
from zojax._keys import require_seed
from zojax.examples import _report

__all__ = ["Table", "greedy", "load", "main", "make_loss", "make_parser"]

DATA = ("breast_cancer", "digits")


class Table(NamedTuple):
    """Standardised columns `(rows, n)` and target `(rows,)` of both halves, by the training half."""

    columns: np.ndarray
    target: np.ndarray
    test_columns: np.ndarray
    test_target: np.ndarray
    names: list[str]


def load(name, seed):
    """One of scikit-learn's tables, split in two; digits predict the number itself from 64 pixels.

    Args:
      name: one of `DATA`.
      seed: decides the split.

    Returns:
      A `Table` without constant columns.
    """
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    x, y = data.data.astype(float), data.target.astype(float)
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[: len(x) // 2], order[len(x) // 2 :]
    keep = x[train].std(0) > 0
    x, names = x[:, keep], [str(n) for n, k in zip(data.feature_names, keep, strict=True) if k]

    def standard(values):
        return (values - values[train].mean(0)) / values[train].std(0)

    x, y = standard(x), standard(y)
    return Table(x[train], y[train], x[test], y[test], names)


def make_loss(columns, target, largest):
    """The mean squared error of least squares on chosen columns, as a function that JAX can trace.

    With the Gram matrix G and b = X'y / rows of the chosen columns it is y'y / rows - b' G^-1 b. Only the
    chosen columns, at most `largest`, are gathered, and G is eliminated step by step: for matrices of this
    size that is quicker than a call of LAPACK for each, and it runs side by side under `vmap`.

    Args:
      columns: `(rows, n)`, standardised.
      target: `(rows,)`, standardised.
      largest: subsets above this size have the value inf.

    Returns:
      A function of a mask `(n,)` to a scalar.
    """
    rows, n = columns.shape
    # Column n stands for "none": it is orthogonal to everything, so that eliminating it changes nothing.
    full = np.zeros((n + 2, n + 2))
    inside = np.column_stack([columns, np.zeros(rows), target])
    full[:] = inside.T @ inside / rows
    full[n, n] = 1.0
    # A ridge of this size keeps pairs of equal columns apart in float32.
    full[np.arange(n), np.arange(n)] += 1e-6
    gram = jnp.asarray(full, jnp.result_type(float))

    def loss(chosen):
        size = jnp.sum(chosen)
        # The j-th member stands behind as many columns as have at most j members up to them; n if there is
        # none. `jnp.nonzero` finds the same with a scatter, which takes longer than the elimination.
        members = jnp.cumsum(chosen)
        index = jnp.sum(members <= jnp.arange(largest)[:, None], axis=1)
        index = jnp.append(index, n + 1)
        matrix = gram[index][:, index]

        def eliminate(i, matrix):
            row = matrix[i]
            factor = jnp.where(jnp.arange(largest + 1) > i, matrix[:, i] / row[i], 0.0)
            return matrix - factor[:, None] * row

        matrix = jax.lax.fori_loop(0, jnp.minimum(size, largest), eliminate, matrix)
        return jnp.where(size <= largest, matrix[-1, -1], jnp.inf)

    return loss


def fit(table, chosen):
    """Training and test error of least squares on the chosen columns, in float64 by LAPACK."""
    weights = np.linalg.lstsq(table.columns[:, chosen], table.target, rcond=None)[0]
    train = np.mean((table.target - table.columns[:, chosen] @ weights) ** 2)
    test = np.mean((table.test_target - table.test_columns[:, chosen] @ weights) ** 2)
    return float(train), float(test)


def greedy(table, k):
    """Forward selection: k times the column that lowers the training error most.

    Returns:
      The subsets of size 1 to k, masks `(k, n)`.
    """
    n = table.columns.shape[1]
    chosen, path = np.zeros(n, bool), []
    for _ in range(k):
        larger = [chosen | (np.arange(n) == j) for j in np.flatnonzero(~chosen)]
        chosen = min(larger, key=lambda s: fit(table, s)[0])
        path.append(chosen)
    return np.array(path)


def make_parser():
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m zojax.examples.subset",
        description="Choose few columns of a table: POSS beside greedy forward selection.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", nargs="+", choices=DATA, default=DATA, help="tables of scikit-learn")
    add("--sizes", nargs="+", type=int, default=(4, 6, 8, 10, 12), help="columns to choose")
    add("--runs", type=int, default=4, help="runs of POSS, side by side; the best one counts")
    add("--seed", type=int, default=0, help="of the split and of POSS")
    add("--out", default="zojax-subset.png", help="where the PNG goes")
    return parser


def check(args, tables):
    """Raises ValueError for arguments that are out of range or do not fit a table."""
    if min(args.sizes) < 1:
        raise ValueError(f"--sizes must be positive, got {min(args.sizes)}.")
    if args.runs < 1:
        raise ValueError(f"--runs must be positive, got {args.runs}.")
    for name, table in tables.items():
        half = table.columns.shape[1] // 2
        if max(args.sizes) > half:
            raise ValueError(f"--sizes must be at most {half} for {name}, got {max(args.sizes)}.")


def compare(name, table, args):
    """One table's rows: dicts with size, training and test error of both methods, and seconds."""
    n = table.columns.shape[1]
    path = greedy(table, max(args.sizes))
    for k in args.sizes:
        budget = int(2 * np.e * k * k * n)
        print(f"{name}: {k} of {n} columns, {args.runs} runs of {budget:,} evaluations", flush=True)
        start = time.perf_counter()
        result = search.minimize(
            make_loss(table.columns, table.target, 2 * k),
            search.subset(n, max_size=k),
            search.poss(),
            budget=budget,
            key=args.seed,
            repeats=args.runs,
            progress=True,
        )
        seconds = time.perf_counter() - start
        chosen = np.asarray(result.best, bool)
        yield {
            "data": name,
            "k": k,
            "greedy": fit(table, path[k - 1]),
            "poss": fit(table, chosen),
            "columns": [table.names[i] for i in np.flatnonzero(chosen)],
            "seconds": seconds,
        }


def report(rows):
    """The rows as a table of text."""
    lines = [
        f"{'data':<15}{'k':>3}{'greedy: train':>15}{'test':>9}{'poss: train':>14}{'test':>9}{'s':>7}"
    ]
    for row in rows:
        (a, b), (c, d) = row["greedy"], row["poss"]
        lines.append(
            f"{row['data']:<15}{row['k']:>3}{a:>15.4f}{b:>9.4f}{c:>14.4f}{d:>9.4f}{row['seconds']:>7.1f}"
        )
    return "\n".join(lines)


def plot(path, rows):
    """Draws training and test error against the number of columns; returns the absolute path."""
    from matplotlib.figure import Figure  # without pyplot, which may want a display

    names = list(dict.fromkeys(row["data"] for row in rows))
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        here = [row for row in rows if row["data"] == name]
        sizes = [row["k"] for row in here]
        # Greedy is wide and pale: often both choose the same columns.
        for method, look in (
            ("greedy", {"color": "0.75", "lw": 4, "ms": 8}),
            ("poss", {"color": "C3", "lw": 1.5, "ms": 4}),
        ):
            for half, style in enumerate(("o-", "o--")):
                label = f"{method}, {('training', 'test')[half]}"
                ax.plot(sizes, [row[method][half] for row in here], style, label=label, **look)
        ax.set(title=name, xlabel="columns", ylabel="mean squared error")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False)
    return _report.save_figure(figure, path)


def main(argv=None):
    """Runs the command line; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(argv)
    with _report.refusing(parser, "matplotlib", "tqdm"):
        _report.require_picture(args.out)
        args.data = list(dict.fromkeys(args.data))
        require_seed("--seed", args.seed)
        tables = {name: load(name, args.seed) for name in args.data}
        check(args, tables)
    rows = [row for name, table in tables.items() for row in compare(name, table, args)]
    print("\nMean squared error of standardised targets; training halves are what was optimised.\n")
    print(report(rows))
    for name in tables:
        last = [row for row in rows if row["data"] == name][-1]
        print(f"\n{name}, {last['k']} columns by POSS: {', '.join(last['columns'])}")
    print(f"\ncurves: {plot(args.out, rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
