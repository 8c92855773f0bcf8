"""The table of optimizers: each obeys the laws of transformations, converges, and runs in strict modes.

A row is named after its function; a variant has a comma and more words.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax

import zojax
from zojax import directions, stencils

MU = 0.125  # large: rounding in a value counts 1 / mu times in a coefficient


class Law(NamedTuple):
    """An optimizer with the settings of its laws.

    Attributes:
      make: `make(key)` for a loss near 1, with mu `MU`.
      converging: settings that lower a quadratic a thousandfold in 300 steps; of the basic optimizers.
      at_rate: `at_rate(rate)`, with settings that train small problems from zero at some rate of a grid.
      numbers: of the state for a 64 x 32 matrix and a vector of 32, with the settings of `make`; counts of
        steps apart.
      copies: of the parameters that a step holds beside arguments and results, but for one leaf or two.
      asks: whether values may come from outside.
      replays: whether coefficients alone give a step again.
    """

    make: Callable[[int | jax.Array], zojax.ZerothOrder]
    converging: zojax.ZerothOrder | None = None
    at_rate: Callable[[jax.Array], zojax.ZerothOrder] | None = None
    numbers: int = 0
    copies: int = 0
    asks: bool = True
    replays: bool = True


D = 64 * 32 + 32  # coordinates of the parameters whose states are counted


def _source(num_directions=1, mu=MU):
    return zojax.estimator(num_directions=num_directions, mu=mu)


def _falling(rate):
    """For rules whose steps do not shrink with the gradient."""
    return optax.exponential_decay(rate, 100, 0.5)


def _rows(path, leaf):
    """Two layers, in each of which a matrix has half of its rows, and a vector is in the second."""
    del path
    return np.arange(leaf.shape[0]) % 2 if len(leaf.shape) > 1 else 1


OPTIMIZERS = {
    "zo_sgd": Law(
        lambda key: zojax.zo_sgd(0.02, zojax.estimator(mu=MU), key=key),
        zojax.zo_sgd(0.02, zojax.estimator(num_directions=2)),
        at_rate=lambda rate: zojax.zo_sgd(rate, _source(4, 1e-2)),
    ),
    "zo_sgd, momentum": Law(
        lambda key: zojax.zo_sgd(
            0.02, zojax.estimator(mu=MU), momentum=0.9, nesterov=True, key=key
        ),
        zojax.zo_sgd(2e-3, zojax.estimator(num_directions=2), momentum=0.9),
        at_rate=lambda rate: zojax.zo_sgd(rate, _source(4, 1e-2), momentum=0.9),
        numbers=D,
    ),
    "mezo": Law(
        lambda key: zojax.mezo(0.02, mu=MU, key=key),
        zojax.mezo(0.02),
        at_rate=lambda rate: zojax.mezo(rate, 1e-2, 4),
    ),
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
        at_rate=lambda rate: zojax.mezo(rate, 1e-2, 4, direction=directions.normal()),
    ),
    "spsa": Law(
        lambda key: zojax.spsa(a=0.1, c=MU, A=10, key=key),
        zojax.spsa(a=0.2, c=1e-2, A=30),
        at_rate=lambda rate: zojax.spsa(10 * rate, 1e-2, 30, num_directions=4),
    ),
    "open_es": Law(
        lambda key: zojax.open_es(0.02, mu=MU, population=8, key=key),
        zojax.open_es(0.05, population=16, weight_decay=0.0),
        at_rate=lambda rate: zojax.open_es(_falling(rate), 1e-2, 16, 0.0),
        numbers=2 * D,
    ),
    "ars": Law(
        lambda key: zojax.ars(0.02, mu=MU, num_directions=4, key=key),
        zojax.ars(optax.linear_schedule(0.1, 0.0, 300), num_directions=4),
        at_rate=lambda rate: zojax.ars(_falling(rate), 1e-2, 4),
    ),
    "zo_sign_sgd": Law(
        lambda key: zojax.zo_sign_sgd(0.02, _source(), key=key),
        at_rate=lambda rate: zojax.zo_sign_sgd(_falling(rate), _source(8, 1e-2)),
    ),
    "zo_adam": Law(
        lambda key: zojax.zo_adam(0.02, _source(), weight_decay=0.01, key=key),
        at_rate=lambda rate: zojax.zo_adam(rate, _source(4, 1e-2)),
        numbers=2 * D,
    ),
    "zo_adamm": Law(
        lambda key: zojax.zo_adamm(0.02, _source(), key=key),
        at_rate=lambda rate: zojax.zo_adamm(rate, _source(4, 1e-2)),
        numbers=3 * D,
    ),
    "zo_momentum": Law(
        lambda key: zojax.zo_momentum(0.02, _source(2), horizon=3, key=key),
        at_rate=lambda rate: zojax.zo_momentum(rate, _source(4, 1e-2), horizon=8),
        numbers=3 * (2 + 1),
        copies=1,
    ),
    "meazo": Law(
        lambda key: zojax.meazo(0.02, mu=MU, num_directions=2, key=key),
        at_rate=lambda rate: zojax.meazo(_falling(rate), 1e-2, 4),
        numbers=1,
    ),
    "fzoo": Law(
        lambda key: zojax.fzoo(0.02, mu=MU, num_directions=4, key=key),
        at_rate=lambda rate: zojax.fzoo(_falling(rate), 1e-2),
    ),
    "eggroll": Law(
        lambda key: zojax.eggroll(0.02, mu=MU, population=8, key=key),
        at_rate=lambda rate: zojax.eggroll(rate, 1e-2, 16, optimizer=optax.adam),
    ),
    "eggroll, unpaired": Law(
        lambda key: zojax.eggroll(
            0.02,
            mu=optax.linear_schedule(MU, 2 * MU, 3),
            population=6,
            rank=2,
            stencil=stencils.one_point(),
            group_size=3,
            optimizer=optax.adam,
            key=key,
        ),
        at_rate=lambda rate: zojax.eggroll(
            rate, 1e-2, 32, stencil=stencils.one_point(), optimizer=optax.adam
        ),
        numbers=2 * D,
        copies=1,
    ),
    "coordinate_descent": Law(
        lambda key: zojax.coordinate_descent(0.35, mu=MU, num_coordinates=6, key=key),
        at_rate=lambda rate: zojax.coordinate_descent(rate, 1e-2, 4),
        copies=1,
    ),
    "residual_one_point": Law(
        lambda key: zojax.residual_one_point(0.01, mu=MU, key=key),
        at_rate=lambda rate: zojax.residual_one_point(rate, 0.1, 16),
    ),
    "forward_gradient": Law(
        lambda key: zojax.forward_gradient(0.02, num_directions=2, momentum=0.9, key=key),
        at_rate=lambda rate: zojax.forward_gradient(rate, 4),
        numbers=D,
        asks=False,
        copies=2,
    ),
    "zo_sam": Law(
        lambda key: zojax.zo_sam(0.02, estimator=_source(), key=key),
        at_rate=lambda rate: zojax.zo_sam(rate, 0.01, _source(4, 1e-2)),
        asks=False,
        copies=1,
    ),
    "snes": Law(
        lambda key: zojax.snes(MU, population=8, learning_rate=0.5, key=key),
        at_rate=lambda rate: zojax.snes(rate, 16),
        numbers=D,
        copies=1,
    ),
    "conmezo": Law(
        lambda key: zojax.conmezo(0.02, mu=MU, num_directions=2, key=key),
        at_rate=lambda rate: zojax.conmezo(rate, 1e-2, 4),
        numbers=D,
        copies=2,
    ),
    "guided_es": Law(
        lambda key: zojax.guided_es(0.02, mu=MU, history=3, key=key),
        at_rate=lambda rate: zojax.guided_es(rate, 1e-2, 4, history=3),
        numbers=3 * D,
        copies=4,
    ),
    "hizoo": Law(
        lambda key: zojax.hizoo(0.02, mu=MU, smoothing=0.1, key=key),
        at_rate=lambda rate: zojax.hizoo(rate, 1e-2, 2, smoothing=0.01, floor=0.3),
        numbers=D,
        copies=2,
    ),
    "lozo": Law(
        lambda key: zojax.lozo(0.02, mu=MU, refresh=2, key=key),
        at_rate=lambda rate: zojax.lozo(rate, 1e-2, 4, refresh=5),
        numbers=2 * 32,
    ),
    "lozo_m": Law(
        lambda key: zojax.lozo_m(0.02, mu=MU, refresh=2, key=key),
        at_rate=lambda rate: zojax.lozo_m(rate, 1e-2, 4, refresh=5),
        numbers=2 * (32 + 64),
    ),
    "subzero": Law(
        lambda key: zojax.subzero(0.02, mu=MU, rank=2, refresh=2, key=key),
        at_rate=lambda rate: zojax.subzero(rate, 1e-2, 4, rank=2, refresh=5),
        numbers=2 * (32 + 64),
    ),
    "zo_muon": Law(
        lambda key: zojax.zo_muon(0.02, mu=MU, rank=2, refresh=2, key=key),
        at_rate=lambda rate: zojax.zo_muon(_falling(rate), 1e-2, 4, rank=2, refresh=5),
        numbers=2 * 64,
    ),
    "agzo": Law(
        lambda key: zojax.agzo(0.02, mu=MU, rank=2, refresh=2, key=key),
        at_rate=lambda rate: zojax.agzo(rate, 1e-2, 4, rank=2),
        numbers=2 * (32 + 64),
        asks=False,
        replays=False,
    ),
    "sparse_mezo": Law(
        lambda key: zojax.sparse_mezo(0.02, mu=MU, sparsity=0.5, key=key), numbers=2
    ),
    "lezo": Law(
        lambda key: zojax.lezo(0.02, mu=MU, sparsity=0.5, layer_of=_rows, key=key),
        at_rate=lambda rate: zojax.lezo(rate, 1e-2, 4, sparsity=0.5, layer_of=_rows),
    ),
    "block_coordinate": Law(
        lambda key: zojax.block_coordinate(0.02, mu=MU, layer_of=_rows, key=key),
        at_rate=lambda rate: zojax.block_coordinate(rate, 1e-2, 4, layer_of=_rows),
    ),
    "stochastic_rounding": Law(
        lambda key: zojax.stochastic_rounding(zojax.zo_sgd(0.02, _source(), momentum=0.9, key=key)),
        at_rate=lambda rate: zojax.stochastic_rounding(zojax.mezo(rate, 1e-2, 4)),
        numbers=D,
    ),
    "compensated_rounding": Law(
        lambda key: zojax.compensated_rounding(zojax.zo_sgd(0.02, _source(2), key=key)),
        at_rate=lambda rate: zojax.compensated_rounding(zojax.mezo(rate, 1e-2, 4)),
    ),
    "qzo": Law(
        lambda key: zojax.qzo(0.02, MU, mask=lambda path, leaf: True, key=key),
        at_rate=lambda rate: zojax.qzo(rate, 1e-2, 100.0, 4, lambda path, leaf: True),
    ),
}
# These move integers: `tests/optimizers/test_quantised.py` has their laws.
OF_INTEGERS = {"qes": lambda key: zojax.qes(1.0, 0.5, population=4, horizon=2, key=key)}
