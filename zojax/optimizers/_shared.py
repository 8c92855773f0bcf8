"""What ready-made optimizers share: their last arguments, and descent along an estimated gradient."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypedDict, TypeVar

import jax
import optax

from zojax._checks import require_rate
from zojax._documented import completed
from zojax._estimator import Estimator, UpdateKind, estimator
from zojax._transform import ZerothOrder, zeroth_order

F = TypeVar("F", bound=Callable[..., ZerothOrder])
Scheduled: TypeAlias = float | optax.Schedule


class Sampling(TypedDict, total=False):
    """The last arguments of optimizers that make an estimator, by keyword. `SHARED` describes them."""

    batch_size: int | None
    axis_name: str | None
    update: UpdateKind
    key: int | jax.Array


SHARED = {
    "learning_rate": "eta, a float or a schedule.",
    "mu": "smoothing radius, a float or a schedule.",
    "num_directions": "N.",
    "momentum": "decay of `optax.trace`; None keeps no state.",
    "estimator": "`zojax.estimator()` by default: one rademacher direction, central difference.",
    "batch_size": "directions evaluated at once, see `zojax.estimator`.",
    "axis_name": "mesh axis over which directions are spread, see `zojax.estimator`.",
    "update": "who sums the directions, see `zojax.estimator`.",
    "key": "of the run.",
}
_RETURNS = "Returns:\n  A `ZerothOrder`, see `zojax.zeroth_order`."
_STEP = """\
>>> import jax.numpy as jnp, zojax
>>> tx = {}
>>> params = jnp.ones((4, 3))
>>> updates, state = tx.update(None, tx.init(params), params, value_fn=lambda x: jnp.sum(x**2))
>>> updates.shape
(4, 3)"""
_DEFAULTS = {
    name: parameter.default
    for function in (estimator, zeroth_order)
    for name, parameter in inspect.signature(function).parameters.items()
}


def documented(optimizer: F) -> F:
    """Completes the signature and the docstring of an optimizer by `Sampling` and `SHARED`.

    An example of the one line `>>> tx = ...` becomes a step of this transformation.
    """
    if optimizer.__doc__:  # none under python -OO
        text, line, tx = inspect.cleandoc(optimizer.__doc__).partition(">>> tx = ")
        if line and "\n" not in tx and ">>>" not in text:
            optimizer.__doc__ = text + _STEP.format(tx)
    return completed(optimizer, SHARED, _RETURNS, Sampling, _DEFAULTS)


def is_named(name: str, path: tuple, leaf: Any) -> bool:
    """Whether a leaf has this name, for masks."""
    del leaf
    last = path[-1] if path else None
    return name in (getattr(last, "name", None), getattr(last, "key", None))


def without_points(source: Estimator, reason: str, **changes: Any) -> Estimator:
    """An estimator that needs a loss: it takes no values from outside, for this reason."""
    refuse = partial(_refuse, reason)
    return source._replace(ask=refuse, tell=refuse, conclude=refuse, **changes)


def _refuse(reason: str, *args: Any, **kwargs: Any) -> Any:
    raise ValueError(
        f"{reason}: give update a value_fn, or use another optimizer where values come from outside."
    )


def on_estimates(
    inner: optax.GradientTransformation, *choices: Any, key: int | jax.Array = 0, **options: Any
) -> ZerothOrder:
    """`inner` on the gradients of `zojax.estimator(*choices, **options)`."""
    return zeroth_order(inner, estimator(*choices, **options), key)


def descend(
    learning_rate: Scheduled,
    *choices: Any,
    momentum: float | None = None,
    **options: Any,
) -> ZerothOrder:
    """Gradient descent on these estimates."""
    require_rate("learning_rate", learning_rate)
    return on_estimates(optax.sgd(learning_rate, momentum), *choices, **options)
