"""A transformation in float32 of narrower parameters, whose updates end on the grid of the parameters.

The inner transformation sees float32 copies. The loss casts them back, and the interpreter undoes both
casts: neither the copies nor their noise are arrays in memory.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import export

from zojax import _barriers, noise
from zojax._numerics import promoting
from zojax._transform import wrappers
from zojax._transform.state import ZerothOrder, ZerothOrderState
from zojax._transform.transform import around
from zojax._trees import PyTree, is_float, widened


class RoundedState(NamedTuple):
    """`inner_state` of a transformation that rounds by a rule of its own.

    Attributes:
      inner_state: of the transformation inside.
      residual: what the rule keeps of each narrow leaf, None for others.
    """

    inner_state: optax.OptState
    residual: PyTree


export.register_namedtuple_serialization(RoundedState, serialized_name="zojax.RoundedState")


class Rule(Protocol):
    """Rounds the float32 sum of a leaf and its update.

    It gets the sum, the residual of the leaf, the dtype of the leaf, noise with the leaf's shape, and a
    finite number for `_barriers.rounded`. It gives the rounded sum in float32, and the next residual.
    """

    def __call__(
        self, total: jax.Array, residual: Any, dtype, uniform: noise.RowNoise, finite: jax.Array, /
    ) -> tuple[jax.Array, Any]: ...


def rounding(tx: ZerothOrder, rule: Rule, residual: Callable[[Any], Any]) -> ZerothOrder:
    """`tx` in float32, with a rule that rounds narrow leaves; `residual(leaf)` is the first residual."""
    if not isinstance(tx, ZerothOrder):
        raise TypeError(
            "tx must come from zojax.zeroth_order or a ready-made optimizer, got "
            f"{type(tx).__name__}: put other transformations inside, zeroth_order(optax.adam(1e-3))."
        )

    def init(params: PyTree) -> ZerothOrderState:
        wrappers.require_no_wrapper()
        state = tx.init(_widened(params))
        first = jax.tree.map(lambda p: residual(p) if _is_narrow(p) else None, params)
        return state._replace(inner_state=RoundedState(state.inner_state, first))

    return around(tx, init, RoundedState, _widened, _narrowing, partial(_finished, rule))


@promoting
def _finished(rule: Rule, state, params, updates, after) -> tuple[PyTree, ZerothOrderState]:
    """Updates that lead to the rounded sums, and the state with the next residuals.

    The rounded sum less the parameter may take more digits than its dtype has. In float32 it is exact where
    the sum needs it, so that adding it gives the rounded sum to the bit.
    """
    treedef: Any  # mypy knows no methods of it
    leaves, treedef = jax.tree.flatten(params)
    steps, kept = treedef.flatten_up_to(updates), treedef.flatten_up_to(state.inner_state.residual)
    # A child of the step's key of no other use, also for replays.
    key = noise.fold_in(noise.fold_in(state.rng_key, state.count), np.uint32(2**32 - 4))
    seeds = noise.child_seeds(noise.make_seed(key), 0, len(leaves))
    c = after.coefficients[0]
    finite = jnp.where(jnp.isnan(c), 0, c)
    for i, (p, u, residual) in enumerate(zip(leaves, steps, kept, strict=True)):
        if not _is_narrow(p):
            continue
        start = p.astype(jnp.float32)
        uniform = noise.row_noise(noise.Uniforms(seeds[i]), p.shape)
        rounded, kept[i] = rule(start + u, residual, p.dtype, uniform, finite)
        steps[i] = _barriers.rounded(rounded - start, finite)
    inner_state = RoundedState(after.inner_state, treedef.unflatten(kept))
    return treedef.unflatten(steps), after._replace(inner_state=inner_state)


def _is_narrow(leaf) -> bool:
    return is_float(leaf) and jnp.finfo(jnp.result_type(leaf)).bits < 32


def _widened(params: PyTree) -> PyTree:
    return jax.tree.map(lambda p: widened(p, jnp.float32) if _is_narrow(p) else p, params)


def _narrowing(value_fn: Callable, params: PyTree) -> Callable:
    """The loss of float32 copies: with the signature of `value_fn`, which tells its extra arguments."""
    dtypes = jax.tree.map(lambda leaf: jnp.result_type(leaf) if _is_narrow(leaf) else None, params)

    @wraps(value_fn)
    def narrowed(wide, *args, **kwargs):
        leaves, treedef = jax.tree.flatten(wide)
        cast = [
            x if dtype is None else x.astype(dtype)
            for x, dtype in zip(leaves, treedef.flatten_up_to(dtypes), strict=True)
        ]
        return value_fn(treedef.unflatten(cast), *args, **kwargs)

    return narrowed
