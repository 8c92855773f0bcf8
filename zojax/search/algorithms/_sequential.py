"""Sequential RACOS: T points, how they propose the next point, and how they learn its value."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zojax._numerics import float_dtype
from zojax.search._random import Random, advance, make_random, words
from zojax.search.algorithms._arrays import entry, holds, index_of, pick, put_row
from zojax.search.algorithms._proposals import propose_from
from zojax.search.algorithms._sizes import sizes_for
from zojax.search.spaces import Space


class SracosState(NamedTuple):
    """T points, each in its place; the value of one without an evaluation is inf."""

    random: Random
    told: jax.Array  # number of evaluations
    points: jax.Array  # (T, d)
    values: jax.Array  # (T,)
    positives: jax.Array  # int32 (P,), the places of the best, best first


def start(num_positives: int | None, key, space: Space, budget: int) -> SracosState:
    """T points without values."""
    total, positives = sizes_for(budget, num_positives)
    return SracosState(
        random=make_random(key),
        told=jnp.int32(0),
        points=space.sample(key, total).astype(float_dtype()),
        values=jnp.full(total, jnp.inf, float_dtype()),
        positives=jnp.arange(positives, dtype=jnp.int32),
    )


def propose(space: Space, state: SracosState, exploration, parity: bool, taken=None, region=None):
    """(a point, the next state); see `propose_from`."""
    return propose_from(space, state, state.positives, exploration, parity, taken, region)


def tell_point(replacement: str, space: Space, state: SracosState, x, value) -> SracosState:
    """The state after one value: the point enters the positives or the negatives, or is forgotten."""
    del space
    ranks = state.positives
    best_values = jnp.stack([entry(state.values, i) for i in ranks])
    behind = value < best_values  # the positives that the new point overtakes
    enters, leaver = behind[-1], ranks[-1]
    # The rival for a place among the negatives: the positive that leaves, or the point itself.
    rival = jnp.where(enters, best_values[-1], value)
    replaced, succeeds, random = _replaced_negative(replacement, state, rival)
    # Points keep their places. The new point takes the place that becomes free.
    place = jnp.where(succeeds, replaced, leaver)
    wanted = enters | succeeds
    here = wanted & (jnp.arange(len(state.values)) == place)
    moved = jnp.concatenate([ranks[:1], ranks[:-1]])
    first = behind & ~jnp.concatenate([jnp.zeros(1, bool), behind[:-1]])
    return SracosState(
        random=random,
        told=state.told + 1,
        points=put_row(state.points, place, x, wanted),
        values=jnp.where(here, value, state.values),
        positives=jnp.where(first, place, jnp.where(behind, moved, ranks)),
    )


def tell_inner(replacement: str, space: Space, state: Any, x, value) -> Any:
    """`tell_point` for the `inner` state of another algorithm."""
    return state._replace(inner=tell_point(replacement, space, state.inner, x, value))


def _replaced_negative(replacement: str, state: SracosState, rival):
    """(place, whether the rival takes it, random): the negative that leaves, see `sracos`."""
    negative = ~is_positive(state)
    values = jnp.where(negative, state.values, -jnp.inf)
    worst_value = jnp.max(values)
    worst = index_of(_first(negative & (values == worst_value)))
    if replacement == "worst":
        return worst, rival < worst_value, state.random
    random = state.random
    if replacement == "random":
        word, random = words(random, 1)[0], advance(random)
        place = index_of(pick(negative, word))
    else:
        center = lax.dynamic_index_in_dim(state.points, state.positives[0], 0, keepdims=False)
        distance = jnp.sum((state.points - center) ** 2, axis=1)
        place = jnp.argmax(jnp.where(negative, distance, -1.0)).astype(jnp.int32)
    # Places without a value are filled first.
    return jnp.where(jnp.isinf(worst_value), worst, place), jnp.isfinite(rival), random


def best(state: SracosState) -> tuple[jax.Array, jax.Array]:
    """The best point so far and its value."""
    place = state.positives[0]
    return state.points[place], state.values[place]


def is_positive(state: SracosState) -> jax.Array:
    """bool (T,)."""
    return holds(len(state.values), state.positives)


def _first(mask: jax.Array) -> jax.Array:
    """Only the first true entry of a mask."""
    index = lax.iota(jnp.int32, mask.shape[0])
    return index == jnp.min(jnp.where(mask, index, mask.shape[0]))
