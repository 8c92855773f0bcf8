"""SRE: sequential random embeddings, for thousands of coordinates."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.noise import Normals, make_seed
from zojax.search._random import split
from zojax.search.algorithms._algorithm import Algorithm, require_algorithm
from zojax.search.algorithms._toolkit import keep_best, recommended, reused, select
from zojax.search.algorithms.portfolio import portfolio
from zojax.search.spaces import Space, uniform
from zojax.search.spaces import space as as_space


class SreState(NamedTuple):
    """A round searches x = alpha base + A y, where [-1, 1]^D is the space."""

    seed: jax.Array  # of the matrices: uint32 (rounds, 2)
    fresh: Any  # the inner algorithm's first states, stacked over rounds
    inner: Any
    round: jax.Array
    told: jax.Array  # evaluations of this round
    length: jax.Array  # evaluations of each round
    base: jax.Array  # (D,)
    asked: jax.Array  # (batch_size, 1 + low_dimension), the last inner points
    x: jax.Array  # (D,), the best point, encoded
    value: jax.Array


@reused
def sre(
    inner: Algorithm | None = None,
    *,
    low_dimension: int = 10,
    rounds: int = 5,
    project: bool = True,
) -> Algorithm:
    """Searches random low-dimensional subspaces in sequence, each around the best point so far.

    In units where the space is [-1, 1]^D, and from x = 0, each round draws
    A ~ N(0, 1 / low_dimension)^(D x low_dimension), searches

        (alpha, y) in [-1, 1]^(1 + low_dimension)  of  f(alpha x + A y)

    with the inner algorithm, and moves x to the best point. A function that depends on few directions,
    whichever they are, is searched as if it had few coordinates. A is regenerated from its seed, column by
    column: memory is O(D), time O(D low_dimension) per point. Later rounds are told the known value of
    (1, 0).

    Args:
      inner: the search of each subspace, `portfolio()` by default. The paper uses `sracos()`. Batches work,
        but only one ask is open at a time.
      low_dimension: the dimension of a subspace.
      rounds: how many subspaces share the budget.
      project: move each point to the nearest point of the space. Without it, points may lie outside.

    Raises:
      TypeError: inner is not an `Algorithm`; a count is not an int.
      ValueError: a count below 1; a space with coordinates that are not continuous.

    References:
      Qian, Hu and Yu, Derivative-free optimization of high-dimensional non-convex functions by sequential
      random embeddings, IJCAI 2016.

    >>> import jax.numpy as jnp
    >>> from zojax import search
    >>> found = search.minimize(lambda x: jnp.sum((x[:10] - 0.2) ** 2), search.uniform(-1, 1, (2000,)),
    ...                         search.sre(), budget=500, key=0)
    >>> bool(found.best_value < 0.3)
    True
    """
    inner = portfolio() if inner is None else inner
    require_algorithm("inner", inner)
    low_dimension = require_count("low_dimension", low_dimension)
    rounds = require_count("rounds", rounds)
    init, ask = partial(_init, inner, low_dimension, rounds), partial(_ask, inner, project)
    tell, inject = partial(_tell, inner), partial(_inject, inner)
    return Algorithm(
        *(init, ask, tell, recommended, inject),
        batch_size=inner.batch_size,
        repeats_points=inner.repeats_points,
        samples=inner.samples,
        runs_together=inner.runs_together,
    )


def _init(inner: Algorithm, low_dimension, rounds, key, space: Space, budget: int) -> SreState:
    if not space.is_continuous:
        raise ValueError(
            f"sre embeds a continuum, got a space with other coordinates:\n{space}\n"
            "Use search.sracos(), which takes any space."
        )
    seed_key, inner_key = split(key, 2)
    length = -(-budget // rounds)
    low_space = _low_space(low_dimension)
    fresh = jax.vmap(lambda key: inner.init(key, low_space, length))(split(inner_key, rounds))
    return SreState(
        seed=jax.vmap(make_seed)(split(seed_key, rounds)),
        fresh=fresh,
        inner=jax.tree.map(lambda leaf: leaf[0], fresh),
        round=jnp.int32(0),
        told=jnp.int32(0),
        length=jnp.int32(length),
        base=jnp.zeros(space.dimension, float_dtype()),
        asked=jnp.zeros((inner.batch_size, 1 + low_dimension), float_dtype()),
        x=space.clip(_middle_and_half(space)[0]),
        value=jnp.asarray(jnp.inf, float_dtype()),
    )


def _ask(inner: Algorithm, project: bool, space: Space, state: SreState):
    low, after = inner.ask(_low_space_of(state), state.inner)
    seed = state.seed[state.round]
    moved = low[:, :1] * state.base + _times_matrix(seed, low[:, 1:], space.dimension)
    middle, half = _middle_and_half(space)
    x = middle + half * moved
    return (space.clip(x) if project else x), state._replace(inner=after, asked=low)


def _tell(inner: Algorithm, space: Space, state: SreState, x, values) -> SreState:
    after = inner.tell(_low_space_of(state), state.inner, state.asked, values)
    i = jnp.argmin(values)
    state = keep_best(state._replace(inner=after), x[i], values[i])
    told = state.told + inner.batch_size
    ends = (told >= state.length) & (state.round + 1 < len(state.seed))
    state = state._replace(told=jnp.where(ends, 0, told), round=state.round + ends)
    return _begin_round(inner, space, state, ends)


def _inject(inner: Algorithm, space, state: SreState, x, value) -> SreState:
    """A point from elsewhere. Before a round's first evaluation, it becomes the round's base."""
    better = value < state.value
    state = keep_best(state, x, value)
    return _begin_round(inner, space, state, better & (state.told == 0))


def _begin_round(inner: Algorithm, space, state: SreState, begins) -> SreState:
    """The state, where a round `begins`: around the best point, whose value the inner search knows."""
    middle, half = _middle_and_half(space)
    base = (state.x - middle) / half
    first = jax.tree.map(lambda leaf: leaf[state.round], state.fresh)
    here = jnp.zeros(state.asked.shape[1], float_dtype()).at[0].set(1)
    informed = inner.inject(_low_space_of(state), first, here, state.value)
    first = select(jnp.isfinite(state.value), informed, first)
    base, after = jnp.where(begins, base, state.base), select(begins, first, state.inner)
    return state._replace(base=base, inner=after)


def _low_space(low_dimension: int) -> Space:
    """The space of (alpha, y)."""
    return as_space(uniform(-1, 1, (1 + low_dimension,)))


def _low_space_of(state: SreState) -> Space:
    return _low_space(state.asked.shape[-1] - 1)


def _times_matrix(seed, y: jax.Array, d: int) -> jax.Array:
    """y A', (batch, d), for y (batch, low_dimension), without storing A."""
    low_dimension = y.shape[1]
    source = Normals(seed)
    columns = lax.iota(jnp.uint32, d)

    def add(j, total):
        row = jnp.broadcast_to(j.astype(jnp.uint32), (d,))
        z = source.columns(row, columns, d)
        return total + y[:, j][:, None] * z

    total = lax.fori_loop(0, low_dimension, add, jnp.zeros((len(y), d), y.dtype))
    return total * np.float32(1 / np.sqrt(low_dimension))


def _middle_and_half(space: Space):
    middle = jnp.asarray((space.low + space.high) / 2, float_dtype())
    return middle, jnp.asarray((space.high - space.low) / 2, float_dtype())
