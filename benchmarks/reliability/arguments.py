"""Hostile arguments for everything public: an error is a ValueError or TypeError that names its argument.

Each hostile value replaces each argument of each public function in turn. A call without an error counts as
accepted. The result is used, too: optimizers take a step, algorithms search.
"""

import contextlib
import inspect
import io
import random
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zojax
from zojax import attacks, directions, search, shaping, stencils, trajectory

HOSTILE = {
    "None": None,
    "text": "text",
    "-1": -1,
    "0": 0,
    "-0.5": -0.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "2**70": 2**70,
    "True": True,
    "list": [1, "a"],
    "dict": {"a": object()},
    "object": object(),
    "function of nothing": lambda: 1,
    "type": int,
    "array": np.ones((2, 3)),
    "traced type": jnp.float32,
    "complex": 1j,
    "bytes": b"\xff",
}
X = np.full((2, 4, 4), 0.5, np.float32)
BOX = {"x": search.uniform(-1, 1), "kind": search.choice(["a", "b"])}
# Arguments that take functions: the error of such a function is its own, and passes through.
FUNCTIONS = {"fun", "model", "callback", "label_fn", "mask", "reduce_aux", "mu", "a", "c"}
FUNCTIONS |= {"learning_rate", "weight_decay", "momentum", "inner"}
# Other names of an argument in messages.
ALIASES = {"x0": "params", "tree": "space"}
SECONDS = 60  # of a call; a longer one counts as hanging


def _model(images):
    total = images.reshape(len(images), -1).sum(axis=1)
    return jnp.stack([total, 8.0 + 0 * total], axis=1)


def _loss(params, key=None):
    return jnp.sum(params**2)


def _step(tx) -> None:
    params = jnp.ones(3)
    tx.update(None, tx.init(params), params, value_fn=_loss)


def _estimate(**choices) -> None:
    estimator = zojax.estimator(**choices)
    estimator.estimate(0, _loss, jnp.ones(3), state=estimator.init())


def _search(algorithm) -> None:
    search.minimize(lambda p: p["x"] ** 2, BOX, algorithm, budget=12, key=0, jit=False)


def calls() -> dict[str, tuple[Callable, dict, Callable]]:
    """By name: a public function, valid arguments, and a use of its result."""
    # The order decides the draw of a seed.
    names = "racos sracos asracos ssracos snes random_search coordinate_search".split()
    algorithms = {f"search.{name}": (getattr(search, name), {}, _search) for name in names}
    return _estimation() | _searches() | _choices() | _optimizers() | _attacks() | algorithms


def _nothing(made):
    return None


def _estimation() -> dict[str, tuple]:
    run = {"fun": _loss, "x0": jnp.ones(3), "tx": zojax.mezo(0.1), "num_steps": 2}
    return {
        "estimator": (zojax.estimator, {}, lambda e: e.estimate(0, _loss, jnp.ones(3))),
        "value_and_grad": (zojax.value_and_grad, {"fun": _loss}, lambda f: f(0, jnp.ones(3))),
        "zeroth_order": (zojax.zeroth_order, {"inner": optax.sgd(0.1)}, _step),
        "minimize": (zojax.minimize, run, _nothing),
    }


def _searches() -> dict[str, tuple]:
    run = {"fun": lambda p, key=None: float(p["x"]), "space": BOX, "budget": 12, "key": 0}
    default = {"space": search.space(BOX), "budget": 9}
    valid = {
        "uniform": {"low": 0.0, "high": 1.0},
        "integers": {"low": 0, "high": 5},
        "log_uniform": {"low": 0.1, "high": 1.0},
        "log_integers": {"low": 1, "high": 5},
        "choice": {"options": ["a", "b"]},
        "ordered": {"options": [1, 2]},
        "subset": {"n": 4, "max_size": 2},
    }
    return {
        "search.minimize": (search.minimize, run | {"jit": False}, _nothing),
        "search.space": (search.space, {"tree": BOX}, _nothing),
        **{f"search.{n}": (getattr(search, n), v, search.space) for n, v in valid.items()},
        "search.default_algorithm": (search.default_algorithm, default, _nothing),
    }


def _choices() -> dict[str, tuple]:
    def direction(made):
        return _estimate(direction=made)

    def shaped(made):
        return _estimate(shaping=made, num_directions=4)

    masked = {"direction": directions.normal(), "mask": True}
    points = {"offsets": (1.0, -1.0), "weights": (0.5, -0.5)}
    votes = {"label_fn": lambda images: jnp.zeros(len(images), int), "num_classes": 2}
    return {
        "directions.low_rank": (directions.low_rank, {"rank": 1}, direction),
        "directions.sparse": (directions.sparse, {"density": 0.5}, direction),
        "directions.masked": (directions.masked, masked, direction),
        "shaping.top": (shaping.top, {"b": 2}, shaped),
        "shaping.clip": (shaping.clip, {"limit": 1.0}, shaped),
        "stencils.Stencil": (stencils.Stencil, points, lambda made: _estimate(stencil=made)),
        "trajectory.load": (trajectory.load, {"path": "missing.log"}, _nothing),
        "attacks.smoothed": (attacks.smoothed, votes, _nothing),
    }


def _optimizers() -> dict[str, tuple]:
    required = {"zo_sgd": {"learning_rate": 0.1}, "spsa": {"a": 0.1, "c": 0.1, "A": 1.0}}
    names = ("zo_sgd", "mezo", "spsa", "open_es", "ars")
    return {name: (getattr(zojax, name), required.get(name, {}), _step) for name in names}


def _attacks() -> dict[str, tuple]:
    found = {}
    for name in ("nes", "bandits", "zoo", "zo_sign_sgd", "simba", "simba_dct", "square"):
        norm = "l2" if name in ("simba", "simba_dct", "zoo") else "linf"
        valid = {"key": 0, "model": _model, "x": X, "y": np.array([0, 1]), "eps": 0.3, "norm": norm}
        found[f"attacks.{name}"] = (getattr(attacks, name), valid | {"budget": 120}, _nothing)
    return found


def invalid_arguments(runs: int, seed: int) -> dict[str, int]:
    """Counts calls: accepted, refused by name, and with an error that does not name the argument."""
    public, counts = calls(), {"runs": 0, "accepted": 0, "refused": 0, "unnamed": 0}
    drawn = list(cases(public))
    random.Random(seed).shuffle(drawn)
    for name, argument, hostile in drawn[:runs]:
        function, valid, use = public[name]
        given = valid | {argument: HOSTILE[hostile]}
        error = error_of(lambda given=given, function=function, use=use: use(function(**given)))
        named = error is None or is_named(error, argument)
        kind = "accepted" if error is None else "refused" if named else "unnamed"
        counts["runs"] += 1
        counts[kind] += 1
        if not named:
            print(f"{name}({argument}={hostile}): {type(error).__name__}: {str(error)[:100]!r}")
    return counts


def cases(public: dict[str, tuple]) -> Iterator[tuple[str, str, str]]:
    """Function, argument and hostile value, by name."""
    for name, (function, *_) in public.items():
        for argument in inspect.signature(function).parameters:
            for hostile, value in HOSTILE.items():
                if not (callable(value) and argument in FUNCTIONS):
                    yield name, argument, hostile


def error_of(call: Callable[[], Any]) -> Exception | None:
    """The error of a call, if any; TimeoutError if it takes too long."""
    try:
        silent = contextlib.redirect_stderr(io.StringIO())
        with warnings.catch_warnings(action="ignore"), silent, time_limit(SECONDS):
            jax.block_until_ready(call())
    except Exception as error:  # of any type, which is counted
        return error
    return None


def is_named(error: Exception, argument: str) -> bool:
    """Whether it is a ValueError or TypeError with the argument as a word in its message or a note."""
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return True  # it names its file
    text = " ".join([str(error), *getattr(error, "__notes__", [])])
    names = "|".join({argument, ALIASES.get(argument, argument)})
    found = re.search(rf"\b({names})\b", text)
    return isinstance(error, (ValueError, TypeError)) and found is not None


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in the block after so many seconds, unless compiled code keeps the thread."""

    def stop(*_):
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
