"""Grouped products (mixtures of experts): row i of x meets the matrix of its group, w[g(i)].

The thin products with the factors take the row of each group by a lookup. The product with the base is
one grouped product under `vmap`, where JAX has no rule: the rows of all directions, sorted by group.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from zojax._contract import contract
from zojax._numerics import accumulator_dtype
from zojax.implicit import _compat
from zojax.implicit._perturbed import Perturbed
from zojax.implicit._registry import rule
from zojax.implicit._walk import Context

_ROWS_BY_GROUP = (
    (((1,), (1,)), ((), ())),
    (0,),
    (0,),
)  # `lax.ragged_dot`: (m, k), (g, k, n) -> (m, n)


@rule("ragged_dot_general")
def ragged_dot(context: Context, eqn: JaxprEqn, x, w, sizes) -> list:
    p = eqn.params
    dims = p["ragged_dot_dimension_numbers"]
    form = dims.dot_dimension_numbers, dims.lhs_ragged_dimensions, dims.rhs_group_dimensions
    if _as_tuples(form) != _ROWS_BY_GROUP or p["group_offset"] is not None:
        return context.fallback(eqn, x, w, sizes)
    x, sizes = context.plain(x, eqn), context.plain(sizes, eqn)
    options = {k: p[k] for k in ("precision", "preferred_element_type")}
    serves = isinstance(w, Perturbed) and w.is_low_rank and w.sides[1] != w.sides[2]
    if not serves:
        return [_ragged_dot(x, context.plain(w, eqn, beside=[x]), sizes, **options)]
    context.kept(w, eqn)
    out = _compat.output_type(eqn).dtype
    dtype = accumulator_dtype(out)
    options["preferred_element_type"] = dtype
    base = _ragged_dot(x, w.base, sizes, **options)
    groups = _group_of_rows(sizes, len(x))
    first, names = _rows(w, w.sides[1], groups, dtype)
    thin = contract(x.astype(dtype), ("m", "k"), first, names, ("m", "rank"))
    second, names = _rows(w, w.sides[2], groups, dtype)
    noise = contract(w.scale.astype(dtype) * thin, ("m", "rank"), second, names, ("m", "n"))
    in_a_group = (groups < w.shape[0])[:, None]
    return [(base + jnp.where(in_a_group, noise, 0)).astype(out)]


def _as_tuples(x):
    return tuple(map(_as_tuples, x)) if isinstance(x, tuple | list) else x


def _rows(w: Perturbed, side: int, groups: jax.Array, dtype) -> tuple[jax.Array, tuple]:
    """The factor of one side, looked up for each row if it has the axis of the groups."""
    factor, names = w.factors[side].astype(dtype), ["mkn"[a] for a in w.axes(side)]
    if w.sides[0] == side:
        factor = jnp.take(factor, groups, axis=0, mode="clip")
    return factor, (*names, "rank")


def _group_of_rows(sizes: jax.Array, rows: int) -> jax.Array:
    """The group of each row; the number of groups for rows in none."""
    ends = jnp.cumsum(sizes)
    return jnp.sum(jnp.arange(rows, dtype=ends.dtype)[:, None] >= ends, axis=1)


def _ragged_dot(x: jax.Array, w: jax.Array, sizes: jax.Array, **options) -> jax.Array:
    """`lax.ragged_dot`, with any operands batched by `vmap`."""

    @jax.custom_batching.custom_vmap
    def run(x, w, sizes):
        return lax.ragged_dot(x, w, sizes, **options)

    @run.def_vmap
    def _(size, batched, x, w, sizes):
        x, w, sizes = (
            a if is_batched or i == 1 else jnp.broadcast_to(a, (size, *a.shape))
            for i, (a, is_batched) in enumerate(zip((x, w, sizes), batched, strict=True))
        )
        if batched[1]:
            return lax.map(lambda args: run(*args), (x, w, sizes)), True
        rows = x.shape[1]
        groups = jax.vmap(lambda s: _group_of_rows(s, rows))(sizes).reshape(-1)
        order = jnp.argsort(groups)
        merged = run(lax.collapse(x, 0, 2)[order], w, jnp.sum(sizes, 0))
        result = jnp.zeros_like(merged).at[order].set(merged, unique_indices=True)
        return result.reshape(size, rows, -1), True

    return run(x, w, sizes)
