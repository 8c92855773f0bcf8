"""LeZO = signs in a random part of the layers x central, then sgd."""

from functools import partial

import jax
import optax

from zojax import directions
from zojax._checks import require_fraction, require_rate
from zojax._estimator import UpdateKind, estimator
from zojax._transform import ZerothOrder, zeroth_order
from zojax.directions.layers import LayerOf


def lezo(
    learning_rate: float | optax.Schedule = 1e-6,
    mu: float | optax.Schedule = 1e-3,
    num_directions: int = 1,
    sparsity: float = 0.75,
    layer_of: LayerOf | None = None,
    batch_size: int | None = None,
    axis_name: str | None = None,
    update: UpdateKind = "scalars",
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""MeZO in a random part of the layers, another one in each step.

    .. math::
        z = m \otimes s / \sqrt p, \qquad x \leftarrow x - \eta\, c z

    m is 1 for a share p of the layers, 1 less `sparsity`, and 0 for the others; s are signs, the paper's
    are normal. The paper does not divide by the root: its eta is ours over p, its mu ours over
    :math:`\sqrt p`. In the mean a step is MeZO's. A step is 2 N evaluations and keeps no state.

    Independent evidence: none. Its speedup is from noise that is not made, which is little here.

    Args:
      learning_rate: eta, a float or a schedule.
      mu: smoothing radius, a float or a schedule.
      num_directions: N.
      sparsity: share of layers that do not move, in [0, 1).
      layer_of: numbers the layers, see `directions.layers`; by default each leaf is one.
      batch_size, axis_name, update: how directions are spread, see `zojax.estimator`.
      key: of the run.

    Returns:
      A `ZerothOrder`, see `zojax.zeroth_order`.

    References:
      Wang et al., `Simultaneous computation and memory efficient zeroth-order optimizer for fine-tuning
      large language models <https://arxiv.org/abs/2410.09823>`_, 2024.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.lezo(learning_rate=0.1, sparsity=0.5)
    >>> params = [jnp.ones(2), jnp.ones(2)]
    >>> state = tx.init(params)
    >>> loss = lambda p: jnp.sum(p[0] ** 2 + p[1] ** 2)
    >>> updates, state = tx.update(None, state, params, value_fn=loss)
    >>> sorted(bool(jnp.any(u != 0)) for u in updates)
    [False, True]
    """
    require_rate("learning_rate", learning_rate)
    sampled = partial(estimator, batch_size=batch_size, axis_name=axis_name, update=update)
    layers = directions.layers(require_fraction("1 - sparsity", 1 - sparsity), layer_of)
    source = sampled(layers, mu=mu, num_directions=num_directions)
    return zeroth_order(optax.sgd(learning_rate), source, key)
