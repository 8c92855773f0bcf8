"""The region of RACE-CARS, which shrinks around the best point of `sracos`."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax.search._random import draw
from zojax.search.algorithms import _sequential
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._toolkit import bounds_of, sequential, span_of
from zojax.search.spaces import CONTINUOUS, UNORDERED, Space


class RegionState(NamedTuple):
    """The points of `sracos`, the centre of the region, and how often it shrank."""

    inner: _sequential.SracosState
    center: jax.Array  # (d,)
    shrinks: jax.Array


def in_region(
    shrinking, frequency, exploration, parity: bool, replacement: str, num_positives: int | None
) -> Algorithm:
    """`sracos` with boxes inside a region, which shrinks with probability `frequency` per step."""

    def init(key, space: Space, budget: int) -> RegionState:
        inner = _sequential.start(num_positives, key, space, budget)
        return RegionState(inner, inner.points[0], jnp.int32(0))

    def ask(space: Space, state: RegionState):
        u, random = draw(state.inner.random, 1)
        # Not before the points at the start have values.
        shrinks = (u[0] < frequency) & (state.inner.told >= len(state.inner.values))
        state = RegionState(
            inner=state.inner._replace(random=random),
            center=jnp.where(shrinks, _sequential.best(state.inner)[0], state.center),
            shrinks=state.shrinks + shrinks,
        )
        region = region_of(shrinking, space, state)
        x, inner = _sequential.propose(space, state.inner, exploration, parity, region=region)
        return x[None], state._replace(inner=inner)

    tell = partial(_sequential.tell_inner, replacement)
    return Algorithm(init, ask, sequential(tell), lambda state: _sequential.best(state.inner), tell)


def region_of(shrinking, space: Space, state: RegionState) -> jax.Array:
    """Bounds (2, d): sides shrinking^k of the ranges, cut at the space. Options are all inside."""
    low, high = bounds_of(space)
    half = 0.5 * span_of(space) * jnp.asarray(shrinking, low.dtype) ** state.shrinks
    center = state.center
    inside = jnp.stack([jnp.maximum(center - half, low), jnp.minimum(center + half, high)])
    if not space.is_continuous:
        whole = jnp.stack([jnp.ceil(inside[0]), jnp.floor(inside[1])])
        inside = jnp.where(space.kinds == CONTINUOUS, inside, whole)
    everything = (state.shrinks == 0) | (space.kinds == UNORDERED)
    return jnp.where(everything, jnp.stack([low, high]), inside)
