"""SRACOS: classification-based search, one sample at a time (Hu, Qian & Yu, AAAI 2017)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zojax._types import require_count
from zojax.search import _box
from zojax.search._algorithm import (
    Algorithm,
    Random,
    draw,
    float_dtype,
    index_from,
    make_random,
    sequential,
)
from zojax.search._arrays import insert_sorted, set_row
from zojax.search.spaces import Space

REPLACEMENTS = ("worst", "random", "margin")


class SracosState(NamedTuple):
    """Positives are sorted, the best first; what was not evaluated yet has the value inf."""

    random: Random
    count: jax.Array
    positives: jax.Array
    positive_values: jax.Array
    negatives: jax.Array
    negative_values: jax.Array


def sracos(
    *,
    replacement: str = "worst",
    exploration: float = 0.01,
    num_positives: int | None = None,
    parity: bool = False,
) -> Algorithm:
    """Sequential RACOS, the algorithm ZOOpt runs by default.

    T uniform points; the best P are positive, the rest negative. Then each step draws a random positive,
    learns a box around it that holds no negative, redraws a few of its coordinates in the box (with
    probability `exploration` the whole point, in the space) and evaluates. The new point enters the
    sorted positives, and the one that leaves them may replace a negative.

    Args:
      replacement: which negative leaves. "worst" (WR): the worst, for a better point; "random" (RR): any;
        "margin" (LM): the one farthest from the best point.
      exploration: the share of uniform samples.
      num_positives: P, from ZOOpt's table by default (T and the redrawn coordinates are, too).
      parity: draw the coordinate of a cut as ZOOpt does, among all; by default among those in which
        the bad point differs from the good one.

    Raises:
      ValueError: an unknown replacement; an exploration outside [0, 1].

    >>> from zojax import search
    >>> found = search.minimize(lambda x: abs(x - 1).sum(), search.uniform(-4, 4, (5,)),
    ...                         search.sracos(), budget=1000, key=0)
    >>> bool(found.best_value < 0.5)
    True
    """
    if replacement not in REPLACEMENTS:
        raise ValueError(f"replacement must be one of {REPLACEMENTS}, got {replacement!r}.")
    if not isinstance(exploration, jax.core.Tracer) and not 0 <= exploration <= 1:
        raise ValueError(f"exploration must lie in [0, 1], got {exploration}.")
    if num_positives is not None:
        num_positives = require_count("num_positives", num_positives)

    def init(key, space: Space, budget: int) -> SracosState:
        shape = _box.default_shape(space, budget)
        positives = num_positives or shape.positives
        total = max(shape.positives + shape.negatives, positives + 2)
        x = space.sample(key, total).astype(float_dtype())
        values = jnp.full(total, jnp.inf)
        return SracosState(
            make_random(key),
            jnp.int32(0),
            x[:positives],
            values[:positives],
            x[positives:],
            values[positives:],
        )

    def ask(space: Space, state: SracosState):
        redrawn = _box.default_shape(space, 1).redrawn
        u, random = draw(state.random, 2)
        total = len(state.positives) + len(state.negatives)
        uniform = (state.count < total) | (u[0] < exploration)

        def explore(random):
            u, random = draw(random, space.dimension)
            return space.from_unit(u), random

        def exploit(random):
            good = state.positives[index_from(u[1], len(state.positives))]
            x, random = _box.sample(space, random, good, state.negatives, redrawn, parity)
            return space.clip(x), random

        def propose(random):
            return lax.cond(uniform, explore, exploit, random)

        x, random = distinct(space, propose, random, state.positives, state.negatives)
        return x[None], state._replace(random=random)

    def tell(space, state: SracosState, x, value) -> SracosState:
        del space
        positives, values, evicted = insert_sorted(state.positives, state.positive_values, x, value)
        u, random = draw(state.random, 1)
        state = state._replace(
            random=random,
            count=state.count + 1,
            positives=positives,
            positive_values=values,
        )
        return _replace_negative(state, *evicted, u[0])

    def _replace_negative(state, x, value, u):
        worst = jnp.argmax(state.negative_values)
        if replacement == "random":
            worst = jnp.where(
                jnp.isinf(state.negative_values[worst]), worst, index_from(u, len(state.negatives))
            )
        elif replacement == "margin":
            distance = jnp.sum((state.negatives - state.positives[0]) ** 2, axis=1)
            far = jnp.argmax(distance)
            worst = jnp.where(jnp.isinf(state.negative_values[worst]), worst, far)
        enters = jnp.isfinite(value)
        if replacement == "worst":
            enters = value < state.negative_values[worst]
        return state._replace(
            negatives=set_row(state.negatives, worst, jnp.where(enters, x, state.negatives[worst])),
            negative_values=set_row(
                state.negative_values,
                worst,
                jnp.where(enters, value, state.negative_values[worst]),
            ),
        )

    def best(state):
        return state.positives[0], state.positive_values[0]

    return Algorithm(init, ask, sequential(tell), best, inject=tell)


def distinct(space: Space, propose, random: Random, *points: jax.Array, tries: int = 100):
    """A proposal that equals none of `points`, if one comes within so many tries.

    In a continuum the first always is.
    """
    x, random = propose(random)
    if not space.is_discrete:
        return x, random

    def is_known(x):
        return jnp.any(jnp.stack([jnp.any(jnp.all(x == p, axis=1)) for p in points]))

    def again(carry):
        x, _, i = carry
        return is_known(x) & (i < tries)

    def retry(carry):
        _, random, i = carry
        return *propose(random), i + 1

    x, random, _ = lax.while_loop(again, retry, (x, random, jnp.int32(1)))
    return x, random
