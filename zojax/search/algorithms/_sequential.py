"""Sequential RACOS: T points, how they propose the next one, and how they learn its value."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zojax._numerics import float_dtype
from zojax.search._random import Random, advance, make_random, words
from zojax.search.algorithms import _box
from zojax.search.algorithms._arrays import entry, holds, put_row
from zojax.search.algorithms._proposals import propose_from
from zojax.search.spaces import Space


class SracosState(NamedTuple):
    """T points, each in its place; `positives` says where the best P are, the best first.

    What was not evaluated yet has the value inf.
    """

    random: Random
    count: jax.Array  # points told
    points: jax.Array  # (T, d)
    values: jax.Array  # (T,)
    positives: jax.Array  # int32 (P,)


def start(num_positives: int | None, key, space: Space, budget: int) -> SracosState:
    """T points that have no values yet."""
    shape = _box.default_shape(space, budget)
    positives = num_positives or shape.positives
    total = max(shape.positives + shape.negatives, positives + 2)
    return SracosState(
        random=make_random(key),
        count=jnp.int32(0),
        points=space.sample(key, total).astype(float_dtype()),
        values=jnp.full(total, jnp.inf, float_dtype()),
        positives=jnp.arange(positives, dtype=jnp.int32),
    )


def propose(space: Space, state: SracosState, exploration, parity, taken=None):
    """(a point, the next state); if possible not one of the T points, nor one of `taken` (n, d)."""
    x, random = propose_from(
        space,
        state.random,
        state.points,
        state.values,
        state.positives,
        count=state.count,
        exploration=exploration,
        parity=parity,
        taken=taken,
    )
    return x, state._replace(random=random)


def tell_point(replacement: str, space: Space, state: SracosState, x, value) -> SracosState:
    """The new point enters the positives if it is good, else the negatives if it is not too bad."""
    del space
    total, ranks = len(state.values), state.positives
    negative = ~is_positive(state)
    best_values = jnp.stack([entry(state.values, i) for i in ranks])
    behind = value < best_values  # which positives the new point overtakes
    enters = behind[-1]
    leaver = ranks[-1]
    # Who competes for a place among the negatives: the positive that had to leave, or the point itself.
    rival = jnp.where(enters, best_values[-1], value)
    negative_values = jnp.where(negative, state.values, -jnp.inf)
    worst = _box.index_of(_first(negative & (negative_values == jnp.max(negative_values))))
    random = state.random
    replaced = worst
    if replacement == "random":
        word, random = words(random, 1)[0], advance(random)
        replaced = _box.index_of(_box.pick(negative, word))
    elif replacement == "margin":
        center = lax.dynamic_index_in_dim(state.points, ranks[0], 0, keepdims=False)
        distance = jnp.sum((state.points - center) ** 2, axis=1)
        replaced = jnp.argmax(jnp.where(negative, distance, -1.0)).astype(jnp.int32)
    worst_value = jnp.max(negative_values)
    if replacement == "worst":
        succeeds = rival < worst_value
    else:
        # Places without a value are filled first.
        replaced = jnp.where(jnp.isinf(worst_value), worst, replaced)
        succeeds = jnp.isfinite(rival)
    # Points stay where they are: the new one takes the place that becomes free, if any does.
    place = jnp.where(succeeds, replaced, leaver)
    wanted = enters | succeeds
    here = wanted & (jnp.arange(total) == place)
    moved = jnp.concatenate([ranks[:1], ranks[:-1]])
    first = behind & ~jnp.concatenate([jnp.zeros(1, bool), behind[:-1]])
    return SracosState(
        random=random,
        count=state.count + 1,
        points=put_row(state.points, place, x, wanted),
        values=jnp.where(here, value, state.values),
        positives=jnp.where(first, place, jnp.where(behind, moved, ranks)),
    )


def best(state: SracosState):
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
