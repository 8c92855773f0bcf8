"""Tunes a network's hyper-parameters with few trainings: `python -m zojax.examples.tuning`.

The naive formula is `argmin over h of loss(train(h))`. Practice adds:

- **Scale.** Rates, decays and widths matter by their order of magnitude: `log_uniform`, `log_integers`.
- **Bounds, integers, choices.** The space defines them (`_trainings.SPACE`); no candidate lies outside.
- **Noise.** The loss depends on the seed, so the best of many values is too good by luck. Every candidate
  has its own seed. The best few are trained again with fresh seeds, and their means decide. Further seeds,
  and unseen test rows, give the reported figures.
- **Failed runs.** Some candidates diverge. NaN counts as inf, is reported, and ends nothing.
- **Budget.** It counts trainings: random candidates, then the search from the best of them, then finalists.
  A search from one random point would spend its budget on leaving a bad region.
- **Parallel candidates.** Random candidates and finalists are batches; `--runs` searches go side by side.
  The networks are masked to one shape, so one `vmap` trains all.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax import search
from zojax.examples import _command, _trainings, _tuning_report
from zojax.examples._candidates import different, failed_to_inf, numbers, row, side_by_side
from zojax.examples._tuning_options import make_parser, settle
from zojax.examples._tuning_report import JUDGED, Comparison, Tuned

__all__ = ["METHODS", "choose", "judge", "main", "make_losses", "tune"]

UNTUNED = {  # a guess
    "learning_rate": 0.01,
    "weight_decay": 1e-4,
    "dropout": 0.2,
    "widths": np.array([16, 16, 16]),
    "depth": 2,
    "activation": 0,
}
METHODS: dict[str, Callable | None] = {  # (space, evaluations) -> algorithm
    "untuned": None,
    "random search": lambda space, budget: search.random_search(),
    "zojax.search": search.default_algorithm,
}


@lru_cache
def make_losses(data: str, steps: int) -> tuple[Callable, Callable]:
    """The function `(point, key) -> Losses` for one of `_trainings.DATA`, and its validation alone.

    Cached, so that equal arguments share compiled programs.
    """
    losses = _trainings.make_training(_trainings.load(data), steps)
    return losses, lambda point, key: losses(point, key).validation


def tune(data: str, method: Callable, args: argparse.Namespace, key: jax.Array) -> Tuned:
    """Spends the budget: random candidates, searches that begin at the best of them, finalists."""
    space, (_, fun) = search.space(_trainings.SPACE), make_losses(data, args.steps)
    start_key, first_key, search_key, final_key = jax.random.split(key, 4)

    start = space.sample(start_key, args.start)
    keys = jax.random.split(first_key, args.start)
    known = failed_to_inf(side_by_side(fun, space.decode(start), keys))

    budget = (args.budget - args.start - args.finalists * args.seeds) // args.runs
    algorithm, points = method(space, budget), numbers(space.point(start))
    result = search.minimize(
        fun,
        space,
        algorithm,
        budget=budget,
        key=search_key,
        init_points=[row(points, i) for i in range(args.start)],
        init_values=list(known),
        repeats=args.runs,
        with_key=True,
        progress=True,
    )
    best = algorithm.best if args.runs == 1 else jax.vmap(algorithm.best)
    favourites = np.reshape(best(result.state)[0], (args.runs, space.dimension))
    values = np.concatenate([known, result.history.values])
    seen = [points, numbers(result.history.points)]
    ranked = _ranked([numbers(space.point(favourites)), *seen], values)

    point, again = choose(fun, different(ranked, args.finalists), args.seeds, final_key)
    failures = result.failures + np.sum(~np.isfinite(known)) + np.sum(~np.isfinite(again))
    spent = len(known) + result.evaluations + len(again)
    return Tuned(point, np.concatenate([values, again]), int(failures), spent)


def _ranked(points: list[Any], values: np.ndarray) -> Any:
    """The searches' favourites, then all points with a value from the best to the worst."""
    whole = jax.tree.map(lambda *leaves: np.concatenate(leaves), *points)
    first = len(jax.tree.leaves(points[0])[0])
    order = [*range(first), *(first + np.argsort(values, kind="stable"))]
    return jax.tree.map(lambda leaf: leaf[order], whole)


def choose(fun: Callable, points: Any, seeds: int, key: jax.Array) -> tuple[Any, np.ndarray]:
    """Trains candidates again, each with several fresh seeds.

    Returns the point of least mean, and the values of all trainings; inf for a failed one.
    """
    number = len(jax.tree.leaves(points)[0])
    repeated = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf), seeds, axis=0), points)
    values = failed_to_inf(side_by_side(fun, repeated, jax.random.split(key, number * seeds)))
    best = int(np.argmin(values.reshape(number, seeds).mean(axis=1)))
    return row(points, best), values


def judge(
    data: str, steps: int, point: Any, key: jax.Array, trainings: int = JUDGED
) -> _trainings.Losses:
    """Losses of a point, from fresh seeds: leaves `(trainings,)`."""
    # NumPy's types, so that a point of Python numbers compiles nothing anew.
    points = jax.tree.map(lambda leaf: np.stack([leaf] * trainings), point)
    return side_by_side(make_losses(data, steps)[0], points, jax.random.split(key, trainings))


def compare(data: str, args: argparse.Namespace) -> Iterator[Comparison]:
    """All ways of tuning on one table."""
    key = jax.random.key(args.seed)
    for name, method in METHODS.items():
        began = time.perf_counter()
        if method is None:
            tuned = Tuned(UNTUNED, np.zeros(0), 0, 0)
        else:
            print(f"{data}: {name}, {args.budget} trainings", flush=True)
            tuned = tune(data, method, args, key)
        seconds = time.perf_counter() - began
        losses = judge(data, args.steps, tuned.point, jax.random.fold_in(key, 1))
        yield Comparison(data, name, tuned, losses, seconds)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(argv)
    with _command.refusing(parser, "tuning", "matplotlib", "sklearn", "tqdm"):
        _command.require_picture(args.out)
        args.data = list(dict.fromkeys(args.data))
        settle(args)
    comparisons = [c for data in args.data for c in compare(data, args)]
    print(_tuning_report.describe(comparisons))
    print(f"\npicture: {_tuning_report.plot(args.out, comparisons)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
