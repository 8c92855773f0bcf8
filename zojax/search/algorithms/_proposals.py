"""Proposals of the RACOS family: points from boxes around a good point, and uniform points."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from zojax.search._random import Random, advance, index_from, unit
from zojax.search.algorithms import _box
from zojax.search.algorithms._arrays import entry, holds
from zojax.search.spaces import Space


def propose_from(
    space: Space, state: Any, positives: jax.Array, exploration, parity, taken=None, region=None
) -> tuple[jax.Array, Any]:
    """(a point, the next state): from a box around one of the positives, without the other points.

    The state has `random`, `told`, `points` and `values`. The point is uniform until every point has a
    value, and later with probability `exploration`. If possible, it is new: not one of `points`, nor of
    `taken` (n, d). The box lies in a `region` (2, d), if given.
    """
    points, told = state.points, state.told
    explores = (told < len(points)) | (shared_coin(told) < exploration)
    if not parity:  # a box around a point without a value says nothing
        explores |= jnp.isinf(entry(state.values, positives[0]))
    bad = ~holds(len(points), positives)

    def attempt(random: Random):
        later, last = advance(random), advance(advance(random))
        u = unit(random, 1)
        good = entry(positives, index_from(u[0], len(positives)))
        x = _box.sample(space, later, points, good, bad, parity, region)
        x = x if space.is_continuum else space.clip(x)
        return uniform_if(space, explores, last, x), advance(last)

    known = [] if space.is_continuum else [points]
    known += [] if taken is None else [taken]
    x, random = distinct(attempt, state.random, known)
    return x, state._replace(random=random)


def shared_coin(told: jax.Array) -> jax.Array:
    """A uniform number that all runs share, so that runs side by side explore at the same steps."""
    seed = jnp.uint32(0x243F6A88), jnp.uint32(0x85A308D3)
    return unit(Random(jnp.stack(seed), told.astype(jnp.uint32)), 1)[0]


def uniform_if(space: Space, wanted: jax.Array, random: Random, x: jax.Array) -> jax.Array:
    """A uniform point where `wanted`, else x. It draws nothing when no run wants one."""

    # The bounds are operands of the switch: JAX cannot batch the constants of `choose`.
    uniform = jax.make_jaxpr(lambda r: space.from_unit(unit(r, space.dimension)))(random)

    def replace(bounds, wanted, random, x):
        return jnp.where(wanted, jax.core.eval_jaxpr(uniform.jaxpr, bounds, *random)[0], x)

    def keep(bounds, wanted, random, x):
        return x

    @jax.custom_batching.custom_vmap
    def choose(*operands):
        return lax.cond(operands[1], replace, keep, *operands)

    @choose.def_vmap
    def _(size, batched, *operands):
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched))
        branches = (jax.vmap(f, axes, axis_size=size) for f in (replace, keep))
        return lax.cond(jnp.any(operands[1]), *branches, *operands), True

    return choose(uniform.consts, wanted, random, x)


def distinct(
    attempt: Callable, random: Random, known: list[jax.Array], tries: int = 100
) -> tuple[jax.Array, Random]:
    """(x, random) of the first attempt outside the `known` points (each (n, d)), or of the last one."""
    x, random = attempt(random)
    if not known:
        return x, random

    def is_known(x):
        return jnp.any(jnp.stack([jnp.any(jnp.all(x == points, axis=1)) for points in known]))

    def again(carry):
        x, _, i = carry
        return is_known(x) & (i < tries)

    def retry(carry):
        _, random, i = carry
        return *attempt(random), i + 1

    x, random, _ = lax.while_loop(again, retry, (x, random, jnp.int32(1)))
    return x, random
