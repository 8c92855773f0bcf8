"""Tunes a network's hyper-parameters with few trainings: `python -m zojax.examples.tuning`.

The naive formula is `argmin over h of loss(train(h))`. In practice there is more to it:

- **Scale.** Rates, decays and widths matter by their order of magnitude: `log_uniform`, `log_integers`.
- **Bounds, integers, choices.** The space says them (`_trainings.SPACE`), and no candidate lies outside.
- **Noise.** Another seed is another loss, so the best of many values is a lucky one, too good by design.
  Every candidate is trained with a seed of its own; the best few are trained again with fresh seeds, and
  the mean decides. What is reported comes from further seeds, and from test rows that nobody has seen.
- **Failed runs.** Some candidates diverge: nan counts as inf, is reported, and ends nothing.
- **Budget.** It counts trainings: random candidates, then the search from the best of them, then finalists.
  A search that begins at one random point spends its budget on leaving a bad region.
- **Parallel candidates.** Random candidates and finalists are batches; `--runs` searches go side by side.
  The networks are masked to one shape, so that all of it is one `vmap`.
"""

import argparse
import sys
import time
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import search
from zojax._keys import require_seed
from zojax.examples import _report, _trainings

__all__ = ["Tuned", "choose", "judge", "main", "make_losses", "make_parser", "tune"]

UNTUNED = {  # what one might write down without looking
    "learning_rate": 0.01,
    "weight_decay": 1e-4,
    "dropout": 0.2,
    "widths": np.array([16, 16, 16]),
    "depth": 2,
    "activation": 0,
}
METHODS = {  # (space, evaluations) -> algorithm
    "untuned": None,
    "random search": lambda space, budget: search.random_search(),
    "zojax.search": search.default_algorithm,
}
# Color and width of a curve; both searches begin alike, and the wider curve shows beneath.
LOOKS = {"untuned": ("0.4", 1), "random search": ("#6aaed6", 3.5), "zojax.search": ("C3", 1.5)}
JUDGED = 32  # fresh trainings behind every figure that is reported


class Tuned(NamedTuple):
    """What a budget of trainings led to.

    Attributes:
      point: the chosen hyper-parameters.
      values: validation losses in order, inf where one failed; of several runs, the best one's.
      failures: trainings of all runs that were not finite.
      trainings: of all runs.
    """

    point: dict
    values: np.ndarray
    failures: int
    trainings: int


@lru_cache
def make_losses(data, steps):
    """The function `(point, key) -> Losses` for one of `_trainings.DATA`, and its validation alone.

    Made once for the same arguments, so that it is compiled once.
    """
    losses = _trainings.make_training(_trainings.load(data), steps)
    return losses, lambda point, key: losses(point, key).validation


@partial(jax.jit, static_argnums=0)
def side_by_side(losses, points, keys):
    """`losses` of points and keys with a leading axis each."""
    return jax.vmap(losses)(points, keys)


def judge(data, steps, point, key, trainings=JUDGED):
    """Losses of a point, from fresh seeds: leaves `(trainings,)`."""
    points = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * trainings), point)
    return side_by_side(make_losses(data, steps)[0], points, jax.random.split(key, trainings))


def tune(data, method, args, key):
    """Spends the budget: random candidates, searches that begin at the best of them, finalists.

    Args:
      data: one of `_trainings.DATA`.
      method: one of `METHODS`.
      args: the command line's arguments.
      key: a JAX key.

    Returns:
      A `Tuned`.
    """
    space, (_, fun) = search.space(_trainings.SPACE), make_losses(data, args.steps)
    start_key, first_key, search_key, final_key = jax.random.split(key, 4)
    start = space.sample(start_key, args.start)
    keys = jax.random.split(first_key, args.start)
    known = failed_to_inf(side_by_side(fun, space.decode(start), keys))
    points = numbers(space.point(start))
    budget = (args.budget - args.start - args.finalists * args.seeds) // args.runs
    algorithm = method(space, budget)
    result = search.minimize(
        fun,
        space,
        algorithm,
        budget=budget,
        key=search_key,
        init_points=[row(points, i) for i in range(args.start)],
        init_values=known,
        repeats=args.runs,
        with_key=True,
        progress=True,
    )
    best = algorithm.best if args.runs == 1 else jax.vmap(algorithm.best)
    recommended = np.reshape(best(result.state)[0], (args.runs, space.dimension))
    seen = map(numbers, (space.point(recommended), points, result.history.points))
    values = np.concatenate([known, result.history.values])
    order = np.argsort(values, kind="stable")
    order = np.concatenate(
        [np.arange(args.runs), args.runs + order]
    )  # whom the searches name first
    candidates = jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *seen)
    point, again = choose(fun, different(candidates, args.finalists), args.seeds, final_key)
    failures = result.failures + np.sum(~np.isfinite(known)) + np.sum(~np.isfinite(again))
    spent = len(known) + result.evaluations + len(again)
    return Tuned(point, np.concatenate([values, again]), int(failures), spent)


def choose(fun, points, seeds, key):
    """Trains candidates again, each with several fresh seeds.

    Args:
      fun: `(point, key) -> loss`.
      points: leaves with a leading axis of candidates.
      seeds: trainings of each.
      key: a JAX key.

    Returns:
      The point of least mean, and the values of all trainings, inf where one failed.
    """
    number = len(jax.tree.leaves(points)[0])
    repeated = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf), seeds, axis=0), points)
    values = failed_to_inf(side_by_side(fun, repeated, jax.random.split(key, number * seeds)))
    return row(points, np.argmin(values.reshape(number, seeds).mean(axis=1))), values


def different(points, number):
    """The first `number` different ones of points whose leaves have a leading axis."""
    flat = np.column_stack([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(points)])
    first = np.sort(np.unique(flat, axis=0, return_index=True)[1])[:number]
    return jax.tree.map(lambda leaf: leaf[first], points)


def numbers(points):
    """Leaves as numeric arrays: chosen options come as objects."""
    return jax.tree.map(lambda leaf: np.array(leaf.tolist()), points)


def row(points, i):
    """Point i of points whose leaves have a leading axis."""
    return jax.tree.map(lambda leaf: leaf[i], points)


def failed_to_inf(values):
    """NumPy float64 of values, those that are not finite as inf."""
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values), values, np.inf)


def make_parser():
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m zojax.examples.tuning",
        description="Tune a network's hyper-parameters within a budget of trainings.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", nargs="+", choices=_trainings.DATA, default=_trainings.DATA, help="tables")
    add("--budget", type=int, default=200, help="trainings for each way of tuning")
    add("--start", type=int, default=16, help="random candidates that the search begins with")
    add("--runs", type=int, default=2, help="searches side by side, which share the budget")
    add("--finalists", type=int, default=5, help="candidates that are trained again")
    add("--seeds", type=int, default=4, help="fresh trainings of each finalist")
    add("--steps", type=int, default=300, help="of a training")
    add("--seed", type=int, default=0, help="of everything")
    add("--out", default="zojax-tuning.png", help="where the PNG goes")
    return parser


def settle(args):
    """Raises ValueError for arguments that do not fit together; returns them."""
    for name in ("start", "runs", "finalists", "seeds", "steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be positive, got {getattr(args, name)}.")
    least = args.start + args.finalists * args.seeds + args.runs
    if args.budget < least:
        raise ValueError(
            f"--budget must be at least {least}, start + finalists * seeds + runs, got {args.budget}."
        )
    require_seed("--seed", args.seed)
    return args


def compare(data, args):
    """One table's lines: dicts of what was tuned how, and what came out."""
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
        yield {"data": data, "method": name, "tuned": tuned, "losses": losses, "seconds": seconds}


def report(lines):
    """The lines as a table of text."""
    text = [
        f"{'data':<14}{'hyper-parameters':<18}{'trainings':>9}{'failed':>7}{'least seen':>11}"
        f"{'validation':>17}{'test':>8}{'error':>8}{'s':>7}"
    ]
    for line in lines:
        tuned, losses = line["tuned"], line["losses"]
        least = f"{tuned.values.min():.4f}" if len(tuned.values) else "-"
        spread = f"{np.mean(losses.validation):.4f} +- {np.std(losses.validation):.4f}"
        text.append(
            f"{line['data']:<14}{line['method']:<18}{tuned.trainings:>9}{tuned.failures:>7}{least:>11}"
            f"{spread:>17}{np.mean(losses.test):>8.4f}{np.mean(losses.error):>8.2%}"
            f"{line['seconds']:>7.1f}"
        )
    return "\n".join(text)


def describe(point):
    """A point in words."""
    depth = int(point["depth"])
    return (
        f"{' x '.join(str(int(w)) for w in point['widths'][:depth])} units, "
        f"{list(_trainings.ACTIVATIONS)[int(point['activation'])]}, "
        f"learning rate {float(point['learning_rate']):.2g}, "
        f"weight decay {float(point['weight_decay']):.2g}, dropout {float(point['dropout']):.2g}"
    )


def plot(path, lines):
    """Draws all values and the least so far against trainings; returns the absolute path.

    Dashed lines are the chosen points' losses with fresh seeds. Failed trainings stand at the top.
    """
    from matplotlib.figure import Figure  # without pyplot, which may want a display

    names = list(dict.fromkeys(line["data"] for line in lines))
    figure = Figure(figsize=(5 * len(names), 4.6), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        here = [line for line in lines if line["data"] == name]
        low, high = limits(here)
        for line in here:
            values, fresh = line["tuned"].values, float(np.mean(line["losses"].validation))
            color, width = LOOKS[line["method"]]
            count, shown = np.arange(1, len(values) + 1), np.minimum(values, high)
            if len(values):
                ax.plot(count, shown, ".", ms=4, alpha=0.5, color=color, clip_on=False)
                least = np.minimum.accumulate(shown)
                ax.step(count, least, where="post", color=color, lw=width)
            label = f"{line['method']}: {fresh:.3f} on fresh seeds"
            ax.axhline(fresh, ls="--", lw=1, color=color, label=label)
        ax.set(title=name, xlabel="trainings", ylabel="validation loss", yscale="log")
        ax.set(xlim=(0, None), ylim=(low, high))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return _report.save_figure(figure, path)


def limits(lines):
    """The range of losses that a panel shows: all but the worst quarter of the finite values."""
    fresh = [float(np.mean(line["losses"].validation)) for line in lines]
    values = np.concatenate([line["tuned"].values for line in lines])
    values = values[np.isfinite(values)]
    known = np.array([f for f in fresh if np.isfinite(f)])
    most = np.append(known, np.quantile(values, 0.75) if len(values) else [])
    least = np.append(known, values)
    return (max(1e-6, 0.8 * least.min()), 1.2 * most.max()) if len(least) else (0.1, 10.0)


def main(argv=None):
    """Runs the command line; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(argv)
    with _report.refusing(parser, "matplotlib", "sklearn", "tqdm"):
        _report.require_picture(args.out)
        args.data = list(dict.fromkeys(args.data))
        settle(args)
    lines = [line for data in args.data for line in compare(data, args)]
    print(
        f"\nMean negative log-likelihood; validation, test and error are means of {JUDGED} trainings with "
        "fresh seeds\n(+- standard deviation of one), test rows were used for nothing else.\n"
    )
    print(report(lines))
    for line in lines:
        print(f"{line['data']}, {line['method']}: {describe(line['tuned'].point)}")
    print(f"\npicture: {plot(args.out, lines)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
