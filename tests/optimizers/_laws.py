"""The table of optimizers: each obeys the laws of transformations, converges, and runs in strict modes.

A row is named after its function; a variant has a comma and more words.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

import zojax
from zojax import directions

MU = 0.125  # large: rounding in a value counts 1 / mu times in a coefficient


class Law(NamedTuple):
    """An optimizer with the settings of its laws.

    Attributes:
      make: `make(key)` for a loss near 1, with mu `MU`.
      converging: settings that lower a quadratic a thousandfold in 300 steps.
    """

    make: Callable[[int | jax.Array], zojax.ZerothOrder]
    converging: zojax.ZerothOrder


OPTIMIZERS = {
    "zo_sgd": Law(
        lambda key: zojax.zo_sgd(0.02, zojax.estimator(mu=MU), key=key),
        zojax.zo_sgd(0.02, zojax.estimator(num_directions=2)),
    ),
    "zo_sgd, momentum": Law(
        lambda key: zojax.zo_sgd(
            0.02, zojax.estimator(mu=MU), momentum=0.9, nesterov=True, key=key
        ),
        zojax.zo_sgd(2e-3, zojax.estimator(num_directions=2), momentum=0.9),
    ),
    "mezo": Law(lambda key: zojax.mezo(0.02, mu=MU, key=key), zojax.mezo(0.02)),
    "mezo, normal and decay": Law(
        lambda key: zojax.mezo(
            optax.linear_schedule(0.02, 0.0, 10),
            mu=MU,
            num_directions=2,
            weight_decay=0.01,
            direction=directions.normal(),
            key=key,
        ),
        zojax.mezo(0.02, direction=directions.normal(), num_directions=2),
    ),
    "spsa": Law(
        lambda key: zojax.spsa(a=0.1, c=MU, A=10, key=key), zojax.spsa(a=0.2, c=1e-2, A=30)
    ),
    "open_es": Law(
        lambda key: zojax.open_es(0.02, mu=MU, population=8, key=key),
        zojax.open_es(0.05, population=16, weight_decay=0.0),
    ),
    "ars": Law(
        lambda key: zojax.ars(0.02, mu=MU, num_directions=4, key=key),
        zojax.ars(optax.linear_schedule(0.1, 0.0, 300), num_directions=4),
    ),
}
