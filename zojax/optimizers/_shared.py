"""What ready-made optimizers share: their last arguments, and descent along an estimated gradient."""

import inspect
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

import jax
import optax

from zojax._checks import require_rate
from zojax._documented import completed
from zojax._estimator import UpdateKind, estimator
from zojax._transform import ZerothOrder, zeroth_order

F = TypeVar("F", bound=Callable[..., ZerothOrder])


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
_DEFAULTS = {
    name: parameter.default
    for function in (estimator, zeroth_order)
    for name, parameter in inspect.signature(function).parameters.items()
}


def documented(optimizer: F) -> F:
    """Completes the signature and the docstring of an optimizer by `Sampling` and `SHARED`."""
    return completed(optimizer, SHARED, _RETURNS, Sampling, _DEFAULTS)


def on_estimates(
    inner: optax.GradientTransformation, *choices: Any, key: int | jax.Array = 0, **options: Any
) -> ZerothOrder:
    """`inner` on the gradients of `zojax.estimator(*choices, **options)`."""
    return zeroth_order(inner, estimator(*choices, **options), key)


def descend(
    learning_rate: float | optax.Schedule,
    *choices: Any,
    momentum: float | None = None,
    **options: Any,
) -> ZerothOrder:
    """Gradient descent on these estimates."""
    require_rate("learning_rate", learning_rate)
    return on_estimates(optax.sgd(learning_rate, momentum), *choices, **options)
