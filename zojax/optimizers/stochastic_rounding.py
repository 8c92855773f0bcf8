"""Stochastic rounding = any optimizer in float32, then updates that end on the grid of the parameters."""

import jax

from zojax import noise
from zojax._numerics import stochastically_rounded
from zojax._transform import ZerothOrder, rounding


def stochastic_rounding(tx: ZerothOrder) -> ZerothOrder:
    r"""Trains bfloat16 and float16 parameters with the mean of float32 steps.

    .. math::
        x \leftarrow \begin{cases} \lceil x + u \rceil & \text{with probability }
        (x + u - \lfloor x + u \rfloor) / (\lceil x + u \rceil - \lfloor x + u \rfloor) \\
        \lfloor x + u \rfloor & \text{otherwise} \end{cases}

    where the brackets are the neighbours in the dtype of the parameter. The mean of the result is x + u.
    Without it, a bfloat16 parameter ignores updates below 1/512 of itself, and training stops.

    Gradients, the inner transformation with its parameters, and updates are float32. Add the updates with
    `optax.apply_updates`: the sum is the rounded one, to the bit. There is no state beside that of `tx`.
    The random numbers come from a child of the step's key, so a log replays them. float32 and float64
    parameters are not rounded.

    Args:
      tx: a ready-made optimizer, or `zojax.zeroth_order(...)`.

    Returns:
      A `ZerothOrder`, see `zojax.zeroth_order`. Updates of narrow leaves are float32. The state of `tx`
      inside is `state.inner_state.inner_state`.

    Raises:
      TypeError: a `tx` that does not come from `zojax.zeroth_order`.

    References:
      Zamirai et al., `Revisiting bfloat16 training <https://arxiv.org/abs/2010.06192>`_, 2020; Gupta et
      al., `Deep learning with limited numerical precision <https://arxiv.org/abs/1502.02551>`_, 2015.

    >>> import jax.numpy as jnp, zojax
    >>> def last(tx):
    ...     x0, loss = jnp.ones(1000, jnp.bfloat16), lambda x: jnp.sum(x.astype(jnp.float32))
    ...     return zojax.minimize(loss, x0, tx, 100).params.astype(jnp.float32).mean()
    >>> still = zojax.zo_sgd(1e-5, zojax.estimator(num_directions=4))
    >>> float(last(still)), bool(last(zojax.stochastic_rounding(still)) < 1)
    (1.0, True)
    """
    return rounding(tx, _rounded, lambda leaf: ())


def _rounded(total: jax.Array, residual, dtype, uniform: noise.RowNoise, finite: jax.Array):
    del finite
    return stochastically_rounded(total, dtype, uniform.dense()), residual
