"""Fools a convolutional network from its outputs alone: `python -m zojax.examples.attack`.

A network is trained in place on handwritten digits. Then every method of `zojax.attacks` attacks it as a
black box, each with the same number of queries. A table says how often and how fast they succeed. A PNG
shows the changed digits, and success against queries.

`--data digits` runs in seconds on scikit-learn's small digits and downloads nothing.
"""

import argparse
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from zojax import attacks
from zojax.examples import _attack_report, _cnn, _command, _images

__all__ = ["ATTACKS", "main", "make_parser", "run", "settle"]

Row = tuple[Callable, Callable, str, dict]  # an attack, its rounds, norm, further arguments
ATTACKS: dict[str, Row] = {
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


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = _command.make_parser(
        "attack",
        "Attack a network that was trained in place, from its outputs alone.",
        "Settings shown as None have defaults that depend on --data.",
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
    return parser


def settle(args: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults that depend on other arguments; raises ValueError for misfits."""
    for norm, eps in EPS[args.data].items():
        if getattr(args, norm) is None:
            setattr(args, norm, eps)
    _command.require_positive(args, images=100, budget=2000, epochs=15, linf=0.2, l2=2.0)
    _command.require_seed(args)
    for name in args.attacks:
        _, rounds, _, options = ATTACKS[name]
        least = rounds(**options).points + 1  # the image itself, and a round
        if 1 < args.budget < least:
            raise ValueError(
                f"--budget {args.budget} is less than the {least} queries that {name} needs; give more, or "
                "choose other --attacks."
            )
    return args


def run(
    name: str, args: argparse.Namespace, model: Callable, x: jax.Array, y: jax.Array
) -> _attack_report.Attacked:
    """Attacks all images `x` `(n, size, size)` once; `y` are their classes, or the targets."""
    attack, _, norm, options = ATTACKS[name]
    eps = getattr(args, norm)

    def call(key, x, y):
        return attack(key, model, x, y, eps, norm, args.budget, args.targeted, **options)

    key, start = jax.random.key(args.seed), time.perf_counter()
    compiled = jax.jit(call).lower(key, x, y).compile()
    middle = time.perf_counter()
    result = jax.block_until_ready(compiled(key, x, y))
    seconds = time.perf_counter() - middle
    return _attack_report.Attacked(name, norm, eps, result, seconds, middle - start)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    start = time.perf_counter()
    parser = make_parser()
    args = parser.parse_args(argv)
    with _command.refusing(parser, "attacks", "matplotlib", "tqdm"):
        _command.require_picture(args.out)
        settle(args)
        images = _images.DATA[args.data]()
    from tqdm import tqdm

    def bar(items, label):
        return tqdm(items, desc=label, file=sys.stderr)

    training = dict(seed=args.seed, bar=lambda epochs: bar(epochs, "training"))
    params = _images.train(images, args.epochs, **training)

    def model(x):
        return _cnn.forward(params, x)

    logits = np.asarray(jax.jit(model)(images.test_x))
    known = np.isfinite(logits).all(axis=1) & (logits.argmax(axis=1) == images.test_y)
    right = np.flatnonzero(known)[: args.images]
    if not len(right):
        parser.error("the network classifies no image correctly; try more --epochs.")
    x, y = jnp.asarray(images.test_x[right]), jnp.asarray(images.test_y[right])
    aim = (y + 1) % 10 if args.targeted else y
    attacked = [run(name, args, model, x, aim) for name in bar(args.attacks, "attacks")]
    shown = np.asarray(x), np.asarray(y), args.budget, args.targeted
    path = _attack_report.draw(args.out, attacked, model, *shown)
    print(
        f"{args.data}: {len(y)} images that the network classifies correctly "
        f"(its test accuracy is {_images.accuracy(logits, images.test_y):.1%}), "
        f"at most {args.budget:,} queries each, seed {args.seed}\n"
    )
    print(_attack_report.describe(attacked))
    print(f"\ntotal time {time.perf_counter() - start:.0f} s; picture: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
