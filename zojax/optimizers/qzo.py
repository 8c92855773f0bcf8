"""QZO = signs on the scales of a quantised model x central x clipped coefficients, then sgd."""

from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

import jax

from zojax import directions, shaping
from zojax._direction import Direction
from zojax._transform import ZerothOrder
from zojax.optimizers._shared import Sampling, Scheduled, descend, documented, is_named


@documented
def qzo(
    learning_rate: Scheduled = 1e-6,
    mu: Scheduled = 1e-3,
    clip: float = 100.0,
    num_directions: int = 1,
    mask: Any | Callable[[tuple, jax.ShapeDtypeStruct], bool] | None = None,
    direction: Direction | None = None,
    **sampling: Unpack[Sampling],
) -> ZerothOrder:
    r"""Fine-tunes the scales of quantised weights; their integers stay as they are.

    .. math::
        c = \frac{L(s + \mu z) - L(s - \mu z)}{2\mu}, \qquad
        s \leftarrow s - \eta\; \mathrm{mean}_i(\min(\max(c_i, -C), C)\, z_i)

    over the scales s of weights :math:`w = s\,q`. One scale moves a block of weights together, so c is
    larger than for single weights: the clip bounds the step of one direction. A step is 2 N evaluations.
    There is no state, and no array of the size of the weights.

    The radius and the rate are in units of the scales, about 1e-2 for a 4-bit layer. float16 scales lose
    updates below 1/2048 of themselves: use `zojax.stochastic_rounding(zojax.qzo(...))`.

    Independent evidence: none beyond its paper.

    Args:
      clip: C, in units of the directional derivative.
      mask: which leaves are scales, as in `directions.masked`; by default those with the name `scales`, as
        in `zojax.lm.Quantized`. All other parameters stay as they are.
      direction: `directions.rademacher()` by default, cheaper than the paper's `directions.normal()`.

    References:
      Shang et al., `Fine-tuning quantized neural networks with zeroth-order optimization
      <https://arxiv.org/abs/2505.13430>`_, 2026.

    >>> import jax.numpy as jnp, zojax
    >>> params = {"q": jnp.array([3, -2], jnp.int8), "scales": jnp.full(2, 0.5)}
    >>> tx = zojax.qzo(learning_rate=1e-2)
    >>> loss = lambda p: jnp.sum((p["q"] * p["scales"] - 1) ** 2)
    >>> updates, state = tx.update(None, tx.init(params), params, value_fn=loss)
    >>> updates["q"], bool(jnp.all(updates["scales"] != 0))
    (Array([0, 0], dtype=int8), True)
    """
    base = directions.rademacher() if direction is None else direction
    scales = directions.masked(base, partial(is_named, "scales") if mask is None else mask)
    choices = scales, None, shaping.clip(clip)
    return descend(learning_rate, *choices, mu=mu, num_directions=num_directions, **sampling)
