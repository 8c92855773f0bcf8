"""LeZO = signs in a random part of the layers x central, then sgd."""

from typing import Unpack

from zojax import directions
from zojax._checks import require_fraction
from zojax._transform import ZerothOrder
from zojax.directions.layers import LayerOf
from zojax.optimizers._shared import Sampling, Scheduled, descend, documented


@documented
def lezo(
    learning_rate: Scheduled = 1e-6,
    mu: Scheduled = 1e-3,
    num_directions: int = 1,
    sparsity: float = 0.75,
    layer_of: LayerOf | None = None,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""MeZO in a random part of the layers, another one in each step.

    .. math::
        z = m \otimes s / \sqrt p, \qquad x \leftarrow x - \eta\, c z

    m is 1 for a share p of the layers, 1 less `sparsity`, and 0 for the others; s are signs, the paper's
    are normal. The paper does not divide by the root: its eta is ours over p, its mu ours over
    :math:`\sqrt p`. In the mean a step is MeZO's. A step is 2 N evaluations and keeps no state.

    Independent evidence: none. Its speedup is from noise that is not made, which is little here. In
    `python -m benchmarks methods` it is behind `mezo` on one work of five.

    Args:
      sparsity: share of layers that do not move, in [0, 1).
      layer_of: numbers the layers, see `directions.layers`; by default each leaf is one.

    References:
      Wang et al., `Simultaneous computation and memory efficient zeroth-order optimizer for fine-tuning
      large language models <https://arxiv.org/abs/2410.09823>`_, 2024.

    >>> import jax.numpy as jnp, optax, zojax
    >>> tx = zojax.lezo(learning_rate=0.1, sparsity=0.5)
    >>> params = [jnp.ones(2), jnp.ones(2)]
    >>> loss = lambda p: jnp.sum(p[0] ** 2 + p[1] ** 2)
    >>> updates, state = tx.update(None, tx.init(params), params, value_fn=loss)
    >>> sorted(bool(jnp.any(u != 0)) for u in updates)
    [False, True]
    """
    layers = directions.layers(require_fraction("1 - sparsity", 1 - sparsity), layer_of)
    return descend(learning_rate, layers, mu=mu, num_directions=num_directions, **sampling)
