"""Fools a convolutional network from its outputs alone: `python -m zojax.examples.attack`.

A network is trained in place on handwritten digits, then attacked as a black box by every method of
`zojax.attacks`, each with the same number of queries. A table tells how often and how fast they
succeed; a PNG shows what they did to the digits, and success against queries.

`--data digits` runs in seconds on scikit-learn's small digits and downloads nothing.
"""

import argparse
import math
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import attacks
from zojax._keys import require_seed
from zojax.examples import _cnn, _images, _report

__all__ = ["Run", "main", "make_parser", "run"]

ATTACKS = {  # name: (attack, its rounds, norm, further arguments)
    "square-linf": (attacks.square, attacks.square_attack, "linf", {"p": 0.05}),
    "bandits-linf": (attacks.bandits, attacks.bandits_attack, "linf", {}),
    "nes-linf": (attacks.nes, attacks.nes_attack, "linf", {}),
    "zo-sign-sgd-linf": (attacks.zo_sign_sgd, attacks.zo_sign_sgd_attack, "linf", {}),
    "square-l2": (attacks.square, attacks.square_attack, "l2", {"p": 0.1}),
    "simba-l2": (attacks.simba, attacks.simba_attack, "l2", {}),
    "simba-dct-l2": (attacks.simba_dct, attacks.simba_attack, "l2", {"frequencies": 0.5}),
    "zoo-l2": (attacks.zoo, attacks.zoo_attack, "l2", {}),
}
EPS = {"mnist": {"linf": 0.2, "l2": 2.0}, "digits": {"linf": 0.2, "l2": 1.0}}


class Run(NamedTuple):
    """One attack on all images.

    Attributes:
      name: of the attack.
      norm: "linf" or "l2".
      eps: radius of its ball.
      result: a `zojax.attacks.Result`.
      seconds: wall time, compilation aside.
      compile_seconds: wall time of the compilation.
    """

    name: str
    norm: str
    eps: float
    result: attacks.Result
    seconds: float
    compile_seconds: float


def make_parser():
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m zojax.examples.attack",
        description="Attack a network that was trained in place, from its outputs alone.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="Settings shown as None have defaults that depend on --data.",
    )
    add = parser.add_argument
    add("--data", choices=tuple(_images.DATA), default="mnist", help="which digits")
    add("--attacks", nargs="+", choices=tuple(ATTACKS), default=list(ATTACKS), help="which attacks")
    add("--images", type=int, default=100, help="images to attack, all classified correctly")
    add("--budget", type=int, default=2000, help="most queries an image")
    add("--linf", type=float, help="radius for the Linf norm")
    add("--l2", type=float, help="radius for the L2 norm")
    add("--targeted", action="store_true", help="reach the next class instead of leaving the own")
    add("--epochs", type=int, default=15, help="of training the network")
    add("--seed", type=int, default=0, help="of the network and of the attacks")
    add("--out", default="zojax-attack.png", help="where the PNG goes")
    return parser


def settle(args):
    """Fills in the defaults that depend on other arguments."""
    for norm, eps in EPS[args.data].items():
        if getattr(args, norm) is None:
            setattr(args, norm, eps)
    for name, default in (
        ("images", 100),
        ("budget", 2000),
        ("epochs", 15),
        ("linf", 0.2),
        ("l2", 2.0),
    ):
        value = getattr(args, name)
        if not 0 < value < math.inf:
            wanted = "positive" if value <= 0 else "finite"
            raise ValueError(f"--{name} must be {wanted}, got {value}; try {default}.")
    require_seed("--seed", args.seed)
    check_budget(args)
    return args


def check_budget(args):
    """Raises ValueError for an attack of which a round takes more than the budget."""
    for name in args.attacks:
        _, rounds, _, options = ATTACKS[name]
        least = rounds(**options).points + 1  # the image itself, and a round
        if 1 < args.budget < least:
            raise ValueError(
                f"--budget {args.budget} is less than the {least} queries that {name} needs; give more, or "
                "choose other --attacks."
            )


def run(name, args, model, x, y):
    """Attacks all images once.

    Args:
      name: a key of `ATTACKS`.
      args: the command line's arguments.
      model: images to logits.
      x: `(n, size, size)` images.
      y: `(n,)` classes, or targets.

    Returns:
      A `Run`.
    """
    attack, _, norm, options = ATTACKS[name]
    eps = getattr(args, norm)

    def call(key, x, y):
        return attack(key, model, x, y, eps, norm, args.budget, args.targeted, **options)

    start = time.perf_counter()
    compiled = jax.jit(call).lower(jax.random.key(args.seed), x, y).compile()
    middle = time.perf_counter()
    result = jax.block_until_ready(compiled(jax.random.key(args.seed), x, y))
    return Run(name, norm, eps, result, time.perf_counter() - middle, middle - start)


def table(runs):
    """What each attack reached and took, as text.

    Unsolved images spend nearly the whole budget: queries are averaged with and without them.
    """
    lines = [
        f"{'':18} {'':5} {'':8} {'queries of solved':>17} {'queries':>8} {'norm of':>8}",
        f"{'attack':18} {'eps':>5} {'success':>8} {'mean':>9} {'median':>7} {'of all':>8} {'solved':>8} "
        f"{'images/s':>9} {'compile':>8}",
    ]
    for r in runs:
        won = np.asarray(r.result.success)
        queries, norms = np.asarray(r.result.queries), np.asarray(r.result.norms)
        spent = (
            (queries[won].mean(), np.median(queries[won]), norms[won].mean()) if won.any() else ()
        )
        mean, median, norm = (
            (f"{x:.{d}f}" for x, d in zip(spent, (0, 0, 2), strict=True)) if spent else "---"
        )
        lines.append(
            f"{r.name:18} {r.eps:5.2f} {won.mean():8.1%} {mean:>9} {median:>7} {queries.mean():8.0f} "
            f"{norm:>8} {len(won) / r.seconds:9.1f} {r.compile_seconds:6.1f} s"
        )
    return "\n".join([*lines, *(f"{r.name}: {m}" for r in runs for m in r.result.problems())])


def draw(path, runs, model, x, y, budget, targeted):
    """Digits before and after, with what was added and both predictions; success against queries.

    Args:
      path: where the PNG goes.
      runs: a list of `Run`.
      model: images to logits.
      x: `(n, size, size)` images.
      y: `(n,)` true classes.
      budget: most queries an image.
      targeted: whether the attacks aimed at a class.

    Returns:
      The absolute path.
    """
    from matplotlib.figure import Figure  # without pyplot, which may want a display
    from matplotlib.ticker import PercentFormatter

    shown = [r for r in runs if np.any(r.result.success)]
    shown = [*[r for r in shown if r.norm == "linf"][:1], *[r for r in shown if r.norm == "l2"][:1]]
    heights = [*[3.9] * len(shown), 3.2]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, r in zip(parts, shown, strict=False):
        _strip(part, r, model, x, y)
    axes = parts[-1].subplots()
    for r in runs:
        queries = np.sort(np.where(r.result.success, r.result.queries, np.inf))
        rate = np.arange(1, len(queries) + 1) / len(queries)
        reached = np.isfinite(queries)
        last = rate[reached][-1] if reached.any() else 0
        axes.step(
            [1, *queries[reached], budget],
            [0, *rate[reached], last],
            where="post",
            linestyle="-" if r.norm == "linf" else "--",
            label=f"{r.name}, eps {r.eps:g}",
        )
    axes.set(xscale="log", xlim=(1, max(budget, 2)), ylim=(0, 1.02), xlabel="queries")
    axes.set_ylabel("targets reached" if targeted else "images misclassified")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(color="0.92")
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return _report.save_figure(figure, path, dpi=130)


def _strip(figure, r, model, x, y, columns=8):
    """Three rows: original, perturbation, adversarial; one solved image of each class in turn."""
    won = np.flatnonzero(r.result.success)
    by_class = sorted(won, key=lambda i: (np.sum(y[won[won < i]] == y[i]), y[i]))[:columns]
    before = np.asarray(jax.nn.softmax(model(x[by_class])))
    adversarial = np.asarray(r.result.adversarial)[by_class]
    after = np.asarray(jax.nn.softmax(model(adversarial)))
    figure.suptitle(f"{r.name}, eps = {r.eps:g}", fontsize=11)
    axes = figure.subplots(3, columns, squeeze=False, gridspec_kw={"wspace": 0.05})
    limit = max(float(np.abs(adversarial - x[by_class]).max()), 1e-6)
    grey = dict(cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    for k, i in enumerate(by_class):
        axes[0, k].imshow(x[i], **grey)
        axes[1, k].imshow(
            adversarial[k] - x[i], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        axes[2, k].imshow(adversarial[k], **grey)
        axes[0, k].set_title(f"{before[k].argmax()}  ({before[k].max():.0%})", fontsize=9)
        axes[2, k].set_title(f"{after[k].argmax()}  ({after[k].max():.0%})", fontsize=9, color="C3")
        axes[1, k].set_title(f"{int(r.result.queries[i])} queries", fontsize=8, color="0.4")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("0.8")
    for k in range(len(by_class), columns):
        for axis in axes[:, k]:
            axis.set_axis_off()
    for axis, label in zip(axes[:, 0], ("original", "added", "adversarial"), strict=True):
        axis.set_ylabel(label, fontsize=9)


def main(argv=None):
    """Runs the command line; returns the exit status."""
    start = time.perf_counter()
    parser = make_parser()
    args = parser.parse_args(argv)
    with _report.refusing(parser, "matplotlib"):
        _report.require_picture(args.out)
        from tqdm import tqdm

        args = settle(args)
        images = _images.DATA[args.data]()

    def bar(items, label):
        return tqdm(items, desc=label, file=sys.stderr)

    params = _images.train(
        images, args.epochs, seed=args.seed, bar=lambda epochs: bar(epochs, "training")
    )

    def model(x):
        return _cnn.forward(params, x)

    logits = np.asarray(jax.jit(model)(images.test_x))
    known = np.isfinite(logits).all(axis=1) & (logits.argmax(axis=1) == images.test_y)
    right = np.flatnonzero(known)[: args.images]
    if not len(right):
        parser.error("the network classifies no image correctly; try more --epochs.")
    x, y = jnp.asarray(images.test_x[right]), jnp.asarray(images.test_y[right])
    aim = (y + 1) % 10 if args.targeted else y
    progress = bar(args.attacks, "attacks")
    runs = [run(name, args, model, x, aim) for name in progress]
    path = draw(args.out, runs, model, np.asarray(x), np.asarray(y), args.budget, args.targeted)
    print(
        f"{args.data}: {len(y)} images that the network classifies correctly "
        f"(its test accuracy is {_images.accuracy(logits, images.test_y):.1%}), "
        f"at most {args.budget:,} queries each, seed {args.seed}\n"
    )
    print(table(runs))
    print(f"\ntotal time {time.perf_counter() - start:.0f} s; picture: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
