"""ZO-SAM = any estimator, at the point that a first estimate finds steepest, then sgd."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from zojax import noise
from zojax._checks import require_positive, require_rate
from zojax._estimator import Estimate, Estimator
from zojax._estimator import estimator as make_estimator
from zojax._keys import as_key
from zojax._transform import ZerothOrder, zeroth_order
from zojax._trees import PyTree, apply_updates, is_float
from zojax.optimizers._shared import Scheduled, documented, without_points


@documented
def zo_sam(
    learning_rate: Scheduled,
    rho: float = 0.05,
    estimator: Estimator | None = None,
    momentum: float | None = None,
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Sharpness-aware minimisation with two estimates a step.

    .. math::
        x \leftarrow x - \eta\, \hat g'\left(x + \rho\, \hat g(x) / \|\hat g(x)\|\right)

    The second estimate has directions of its own. `state.value` and the counts are those of the second. A
    step is twice the evaluations of the estimator, and holds one shifted copy of the parameters. The state
    is that of sgd. Values cannot come from outside, as with `values=`: the second points need the first
    values.

    Independent evidence: none for estimated gradients. With one direction the first estimate is a random
    step of length rho, not the steepest one. In `python -m benchmarks methods` it is behind `mezo` on three
    works of five.

    Args:
      rho: length of the first step.
      estimator: of both estimates; `zojax.estimator()` by default.

    References:
      Foret et al., `Sharpness-aware minimization for efficiently improving generalization
      <https://arxiv.org/abs/2010.01412>`_, 2021.

    >>> tx = zojax.zo_sam(0.1, estimator=zojax.estimator(num_directions=4))
    """
    require_rate("learning_rate", learning_rate)
    require_positive("rho", rho)
    source = make_estimator() if estimator is None else estimator
    twice = without_points(
        source,
        "zo_sam evaluates its second points at a place that its first values decide",
        estimate=partial(_estimate, source, rho),
        evaluations=2 * source.evaluations,
    )
    return zeroth_order(optax.sgd(learning_rate, momentum), twice, key)


def _estimate(source: Estimator, rho: float, key, fun, params: PyTree, *args, **more) -> Estimate:
    """`Estimator.estimate` at the shifted point."""
    key = as_key(key)
    own = noise.fold_in(jax.random.clone(key), 2**32 - 3)  # a child of no other use
    first = source.estimate(own, fun, params, *args, **{**more, "dtype": jnp.float32})
    floats = [g for g in jax.tree.leaves(first.grads) if is_float(g)]
    norm = optax.tree.norm(floats)
    scale = jnp.where(norm > 0, rho / jnp.where(norm > 0, norm, 1), 0)

    def shift(g):
        return (scale * g).astype(g.dtype) if is_float(g) else g

    shifted = apply_updates(params, jax.tree.map(shift, first.grads))
    return source.estimate(key, fun, shifted, *args, **more)
