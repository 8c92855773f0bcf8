"""Grouped products (mixtures of experts): row i of x meets the matrix of its group, w[g(i)].

The thin product with one factor is made for all groups, and each row takes its own. The product with the
base is one grouped product of the rows of all directions.
"""

import math
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from zojax._barriers import in_turn
from zojax._contract import contract
from zojax._numerics import accumulator_dtype
from zojax.implicit import _compat
from zojax.implicit._batched import with_derivative
from zojax.implicit._perturbed import Perturbed
from zojax.implicit._registry import rule
from zojax.implicit._walk import Context
from zojax.implicit.rules.views import transposed

# `lax.ragged_dot`: (m, k), (g, k, n) -> (m, n); and the same with an axis before all operands.
_ROWS_BY_GROUP = (
    ((((1,), (1,)), ((), ())), (0,), (0,)),
    ((((2,), (2,)), ((0,), (0,))), (1,), (1,)),
)
# Its transpose, in derivatives: (m, n), (g, k, n) -> (m, k).
_TRANSPOSED = (
    ((((1,), (2,)), ((), ())), (0,), (0,)),
    ((((2,), (3,)), ((0,), (0,))), (1,), (1,)),
)


@rule("ragged_dot_general", batches=True)
def ragged_dot(context: Context, eqn: JaxprEqn, x, w, sizes) -> list:
    p = eqn.params
    dims = p["ragged_dot_dimension_numbers"]
    form = dims.dot_dimension_numbers, dims.lhs_ragged_dimensions, dims.rhs_group_dimensions
    if _as_tuples(form) in _TRANSPOSED:
        w = _transposed(w)
    elif _as_tuples(form) not in _ROWS_BY_GROUP or p["group_offset"] is not None:
        return context.fallback(eqn, x, w, sizes)
    x, sizes = context.plain(x, eqn), context.plain(sizes, eqn)
    groups = _group_of_rows(sizes, x.shape[-2])
    rows, groups = x.reshape(-1, x.shape[-1]), groups.reshape(-1)
    *lead, k, n = w.shape
    out = _compat.output_type(eqn)
    options = {name: p[name] for name in ("precision", "preferred_element_type")}
    serves = isinstance(w, Perturbed) and w.is_low_rank and len({*w.sides[: len(lead)]}) == 1
    if not serves:
        matrices = context.plain(w, eqn, beside=[x]).reshape(-1, k, n)
        return [_grouped_dot(rows, matrices, groups, **options).reshape(out.shape)]
    context.kept(w, eqn)
    dtype = accumulator_dtype(out.dtype)
    options["preferred_element_type"] = dtype
    base = _grouped_dot(rows, w.base.reshape(-1, k, n), groups, **options)
    noise = w.scale.astype(dtype) * _noise(rows.astype(dtype), w, groups, dtype)
    return [(base + noise).astype(out.dtype).reshape(out.shape)]


def _transposed(w):
    """The last two axes in the other order."""
    *lead, rows, columns = range(len(w.shape))
    order = (*lead, columns, rows)
    if not isinstance(w, Perturbed):
        return lax.transpose(w, order)
    base = lax.transpose(w.base, order)
    return cast(Perturbed, w.viewed(partial(transposed, order))).replace(base=base)


def _as_tuples(x):
    return tuple(map(_as_tuples, x)) if isinstance(x, tuple | list) else x


def _noise(x: jax.Array, w: Perturbed, groups: jax.Array, dtype) -> jax.Array:
    """The rows times both factors of their groups; zero for rows in none."""
    (first, names), (second, others) = sorted(
        (_named(w, side, dtype) for side in (0, 1)), key=lambda factor: "k" not in factor[1]
    )
    kept = [name for name in names if name != "k"]
    thin = contract(x, ("m", "k"), first, names, ("m", *kept))
    if "g" in names:
        own = groups[:, None] == jnp.arange(first.shape[0], dtype=groups.dtype)
        own = lax.expand_dims(own, range(2, thin.ndim))
        thin, kept = jnp.sum(jnp.where(own, thin, 0), 1), kept[1:]
    else:
        second = jnp.take(second, groups, axis=0, mode="fill", fill_value=0)
        others = ("m", *others[1:])
    return contract(thin, ("m", *kept), second, others, ("m", "n"))


def _named(w: Perturbed, side: int, dtype) -> tuple[jax.Array, tuple[str, ...]]:
    """A factor, and the names of its axes: groups, in and out, the rank."""
    names = {"g": w.shape[:-2], "k": w.shape[-2:-1], "n": w.shape[-1:]}
    first_axis = {"g": 0, "k": w.base.ndim - 2, "n": w.base.ndim - 1}
    own = tuple(name for name, axis in first_axis.items() if w.sides[axis] == side)
    shape = [math.prod(names[name]) for name in own]
    return w.factors[side].astype(dtype).reshape(*shape, -1), (*own, "rank")


def _group_of_rows(sizes: jax.Array, rows: int) -> jax.Array:
    """The group of each row, counted through all batches; the number of groups for rows in none."""
    ends = jnp.cumsum(sizes, -1)
    own = jnp.sum(jnp.arange(rows, dtype=ends.dtype)[:, None] >= ends[..., None, :], -1)
    if sizes.ndim == 1:
        return own
    batches, count = sizes.shape
    first = count * jnp.arange(batches, dtype=own.dtype)[:, None]
    return jnp.where(own < count, first + own, sizes.size).reshape(-1)


def _grouped_dot(x: jax.Array, w: jax.Array, groups: jax.Array, **options) -> jax.Array:
    """x[i] @ w[groups[i]], zero outside the groups, with any operands batched by `vmap`."""

    @jax.custom_batching.custom_vmap
    def run(x, w, groups):
        by_blocks = partial(_by_blocks, **options)
        return lax.platform_dependent(
            x, w, groups, cpu=by_blocks, default=partial(_sorted, **options)
        )

    @run.def_vmap
    def _(size, batched, x, w, groups):
        x, groups = (
            a if is_batched else jnp.broadcast_to(a, (size, *a.shape))
            for a, is_batched in ((x, batched[0]), (groups, batched[2]))
        )
        if batched[1]:
            return lax.map(lambda args: run(*args), (x, w, groups)), True
        merged = run(lax.collapse(x, 0, 2), w, lax.collapse(groups, 0, 2))
        return merged.reshape(size, -1, w.shape[2]), True

    return with_derivative(run, partial(_by_blocks, **options))(x, w, groups)


def _sorted(x: jax.Array, w: jax.Array, groups: jax.Array, **options) -> jax.Array:
    """One `lax.ragged_dot`, of the rows sorted by group."""
    order = jnp.argsort(groups)
    result = lax.ragged_dot(x[order], w, jnp.bincount(groups, length=len(w)), **options)
    return jnp.zeros_like(result).at[order].set(result, unique_indices=True)


def _by_blocks(x: jax.Array, w: jax.Array, groups: jax.Array, **options) -> jax.Array:
    """The rows of a group in blocks, one product for each.

    JAX's `ragged_dot` on a CPU multiplies every row with the matrices of all groups.
    """
    rows, count = len(x), len(w)
    block = 2 ** min(max(rows // count, 8).bit_length() - 1, 7)
    order = jnp.argsort(groups)
    sizes = jnp.bincount(groups, length=count)
    padded = -(-sizes // block) * block
    ends = jnp.cumsum(padded)
    shift = (ends - padded) - (jnp.cumsum(sizes) - sizes)
    blocks = -(-rows // block) + count
    place = jnp.arange(rows) + shift.at[groups[order]].get(mode="fill", fill_value=blocks * block)
    row_at = jnp.full(blocks * block, rows).at[place].set(order, mode="drop", unique_indices=True)
    first = block * jnp.arange(blocks)
    of_block = jnp.sum(first[:, None] >= ends, 1)

    def product(i, result):
        own = lax.dynamic_slice_in_dim(row_at, i * block, block)
        found = lax.dot(x.at[own].get(mode="fill", fill_value=0), w[of_block[i]], **options)
        return result.at[own].set(found.astype(result.dtype), mode="drop")

    kind = jax.eval_shape(partial(lax.dot, **options), x, w[0])
    return lax.fori_loop(0, blocks, product, in_turn(jnp.zeros(kind.shape, kind.dtype), x))
