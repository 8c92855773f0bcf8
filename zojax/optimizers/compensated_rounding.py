"""Compensated rounding = any optimizer in float32, with the rounding error of each parameter kept."""

import jax
import jax.numpy as jnp

from zojax import _barriers, noise
from zojax._numerics import saturated
from zojax._transform import ZerothOrder, rounding


def compensated_rounding(tx: ZerothOrder) -> ZerothOrder:
    r"""Trains bfloat16 and float16 parameters with the sum of float32 steps.

    .. math::
        s = x + u + e, \qquad x \leftarrow \mathrm{round}(s), \qquad e \leftarrow s - x

    The residual e is float32, 4 bytes for each narrow parameter, and deterministic. x + e moves as float32
    parameters would, but the loss sees x. `stochastic_rounding` keeps no residual, and adds noise.

    Gradients, the inner transformation with its parameters, and updates are float32. Add the updates with
    `optax.apply_updates`: the sum is the rounded one, to the bit. float32 and float64 parameters are not
    rounded.

    Args:
      tx: a ready-made optimizer, or `zojax.zeroth_order(...)`.

    Returns:
      A `ZerothOrder`, see `zojax.zeroth_order`. Updates of narrow leaves are float32. The residual is
      `state.inner_state.residual`.

    Raises:
      TypeError: a `tx` that does not come from `zojax.zeroth_order`.

    References:
      Zamirai et al., `Revisiting bfloat16 training <https://arxiv.org/abs/2010.06192>`_, 2020 (Kahan
      summation).

    >>> import jax.numpy as jnp, zojax
    >>> tx = zojax.compensated_rounding(zojax.zo_sgd(1e-4))
    >>> params = jnp.ones(3, jnp.bfloat16)
    >>> loss = lambda x: jnp.sum(x.astype(jnp.float32))
    >>> updates, state = tx.update(None, tx.init(params), params, value_fn=loss)
    >>> updates + 0, bool(jnp.all(state.inner_state.residual != 0))
    (Array([0., 0., 0.], dtype=float32), True)
    """
    return rounding(tx, _rounded, lambda leaf: jnp.zeros(leaf.shape, jnp.float32))


def _rounded(total: jax.Array, residual, dtype, uniform: noise.RowNoise, finite: jax.Array):
    del uniform
    total = total + residual
    # Kept in its dtype, or the compiler would skip the rounding.
    nearest = _barriers.rounded(saturated(total, dtype), finite).astype(jnp.float32)
    return nearest, jnp.where(jnp.isfinite(total), total - nearest, 0)
