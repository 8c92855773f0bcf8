"""Decorators of all attacks: `documented` for their functions, `reused` for their factories."""

import functools
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypedDict, TypeVar, cast

from zojax._checks import require_option, require_positive
from zojax._documented import completed
from zojax.attacks._attack import Attack
from zojax.attacks._ball import NORMS
from zojax.attacks._result import Result

F = TypeVar("F", bound=Callable[..., Result])
G = TypeVar("G", bound=Callable[..., Attack])


class SharedOptions(TypedDict, total=False):
    """The last arguments of all attacks, by keyword. `SHARED` describes them."""

    output: str
    layout: str | None
    batch_size: int | None
    jit: bool
    executor: Executor | None
    timeout: float | None
    retries: int


DEFAULTS = {"output": "logits", "jit": True, "retries": 0}  # None for the others

SHARED = {
    "key": "an int or a JAX key.",
    "model": """\
images (n, ...) in [0, 1] -> scores (n, classes); traceable by JAX unless `jit=False`. The
    same function object compiles once.""",
    "x": "images (batch, height, width) or (batch, height, width, channels) in [0, 1].",
    "y": "(batch,) ints, the true classes, or the targets.",
    "eps": "radius of the ball, in units of the image.",
    "norm": 'of the ball: "linf" or "l2".',
    "budget": """\
most queries an image, the first of them for x itself. Gradient estimates need more than random
    search, hence the different defaults.""",
    "targeted": "whether y is the class to reach instead of the class to leave.",
    "output": 'the scores that the model returns: "logits" or "probabilities".',
    "layout": """\
axes of x and of the images that the model sees: "nhwc" or "nchw". None is "nhwc", with a
    warning where x looks like "nchw".""",
    "batch_size": """\
most images in one call of the model, or one round of an image; by default 16 on CPU and
    1024 elsewhere.""",
    "starts": """\
images like x, one for each, tried first if given. Only for attacks from labels.""",
    "jit": "False calls the model on the host, with NumPy images that are not solved yet.",
    "executor": """\
of `concurrent.futures`, calls the model with several batches at once, with `jit=False`: threads,
    processes or a cluster (`zojax.executors`). Pass a `batch_size` below the number of images.""",
    "timeout": """\
seconds of a call with `jit=False`. Scores that are late count as NaN, and the call is ended.""",
    "retries": "how often a call with `jit=False` is made again after it raised or was late.",
}

LABELS = SHARED | {
    "model": """\
images (n, ...) in [0, 1] -> int labels (n,), or scores (n, classes), of which the largest counts;
    traceable by JAX unless `jit=False`. The same function object compiles once.""",
    "eps": """\
the distance at which an image is solved and stops, in units of the image. With 0, the default, the
    attack spends its budget, and any adversarial image is a success.""",
    "norm": 'of the distance: "linf" or "l2".',
    "budget": "most queries an image, the first of them for x itself; start and bisection count, too.",
    "starts": """\
images like x, one for each: adversarial, or for targets of the target class. Each costs one query.
    Without one, or if it is not adversarial, random images are tried until one is.""",
    "output": 'what the model returns: "labels", or scores as "logits" or "probabilities".',
}

ENDING = """\
Returns:
  A `Result`.

Raises:
  ValueError, TypeError: an argument is out of range, before anything is compiled; or the scores are no
    probabilities, with `output="probabilities"`.
  Exception: with `jit=False`, whatever the model raises, KeyboardInterrupt too. Its attribute
    `partial_result` is the `Result` so far.

Warns:
  UserWarning: some images were not really attacked (`Result.unusable`, `Result.flat`)."""


def documented(attack: F, shared: dict[str, str] = SHARED, output: str = "logits") -> F:
    """Completes the signature and the docstring of an attack's function by all that attacks share."""
    return completed(attack, shared, ENDING, SharedOptions, DEFAULTS | {"output": output})


def documented_labels(attack: F) -> F:
    """`documented`, for attacks from labels."""
    return documented(attack, LABELS, "labels")


def reused(**checks: Callable[[str, Any], Any]) -> Callable[[G], G]:
    """Factories of attacks: checks their settings; equal settings give one attack, which shares programs.

    `check(name, value)` returns the setting as a plain value, or raises. Settings without a check must be
    positive numbers. None passes as a default.
    """
    checks = {"norm": functools.partial(require_option, options=NORMS)} | checks

    def decorate(factory: G) -> G:
        signature, kept = inspect.signature(factory), functools.lru_cache(factory)

        def checked(name: str, value):
            if value is None and signature.parameters[name].default is None:
                return None
            return checks.get(name, _positive)(name, value)

        @functools.wraps(factory)
        def make(*args, **settings) -> Attack:
            given = signature.bind(*args, **settings)
            given.apply_defaults()
            return kept(*(checked(*item) for item in given.arguments.items()))

        return cast(G, make)

    return decorate


def _positive(name: str, value) -> float:
    require_positive(name, value)
    return float(value)
