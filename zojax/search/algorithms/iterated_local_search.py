"""Iterated local search for discrete spaces: descents from mixtures and mutants of earlier optima."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._numerics import float_dtype
from zojax.search._later import changed_if
from zojax.search._random import Random, advance, index_from, make_random, to_unit, words
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import insert_sorted, set_row
from zojax.search.algorithms._toolkit import bounds_of, moved_if, reused, select, sequential
from zojax.search.spaces import UNORDERED, Space

OPTIMA = 4  # remembered
RANDOM = 4  # descents from random points, before the others
MIXED = 0.4  # share of later descents that begin at a mixture
LEAST, MOST = 2, 5  # mutated coordinates; up to d / 8 if that is more


class LocalSearchState(NamedTuple):
    """The current descent, and the best optima of earlier ones."""

    random: Random
    x: jax.Array  # of the descent
    value: jax.Array  # inf if x was not evaluated
    order: jax.Array  # (moves,) of the moves, new for each descent
    visits: jax.Array
    idle: jax.Array  # moves without success since the last one
    optima: jax.Array  # (OPTIMA, d), best first
    values: jax.Array  # (OPTIMA,), inf in empty places


@reused
def iterated_local_search() -> Algorithm:
    """Descents to local optima, from random points, mixtures of two optima, and mutants of one.

    - **Descent.** Its moves change one coordinate: to any other option, or to a neighbouring integer. They
      come in random order, again and again. A move that is not worse is kept. The descent ends when all
      moves in a row fail to improve.
    - **Next point.** The first four descents begin at random points. Later, 4 in 10 begin at a mixture of
      two optima, which takes each coordinate from either. The others begin at an optimum with 2 to 5
      coordinates changed, or up to d / 8 in large spaces. The four best optima are remembered.

    Use it for binary and categorical spaces: selection, partition, networks of switches. Integers with many
    values are better searched by `coordinate_search`, which learns step sizes.

    Raises:
      ValueError: a space with a continuous coordinate.

    References:
      Lourenço, Martin and Stützle, `Iterated local search <https://doi.org/10.1007/0-306-48056-5_11>`_,
      2003. Merz and Freisleben, `Greedy and local search heuristics for unconstrained binary quadratic
      programming <https://doi.org/10.1023/A:1017912624016>`_, 2002.

    >>> import numpy as np
    >>> from zojax import search
    >>> edges = np.triu(np.random.default_rng(0).random((30, 30)) < 0.5, 1)
    >>> def cut(side):
    ...     return float(np.sum(edges & (side[:, None] != side)))
    >>> found = search.minimize(cut, search.choice([0, 1], (30,)), search.iterated_local_search(),
    ...                         budget=2000, key=0, maximize=True)
    >>> found.best_value
    131.0
    """
    return Algorithm(_init, _ask, sequential(_tell), _best, _inject)


def _init(key, space: Space, budget: int) -> LocalSearchState:
    del budget
    if not space.is_discrete:
        raise ValueError(f"iterated_local_search needs a discrete space, got\n{space}")
    dtype, random = float_dtype(), make_random(key)
    x = space.sample(key, 1)[0].astype(dtype)
    return LocalSearchState(
        random=advance(random),
        x=x,
        value=jnp.asarray(np.inf, dtype),
        order=_shuffled(random, len(_moves(space)[0])),
        visits=jnp.uint32(0),
        idle=jnp.uint32(0),
        optima=jnp.broadcast_to(x, (OPTIMA, space.dimension)),
        values=jnp.full(OPTIMA, jnp.inf, dtype),
    )


def _moves(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """(coordinate, shift) of each move: to every other option, or to both neighbours of an integer."""
    shifts = [
        np.arange(1, n) if kind == UNORDERED else np.array([-1, 1])
        for n, kind in zip(space.options, space.kinds, strict=True)
    ]
    coordinates = np.repeat(np.arange(space.dimension), [len(s) for s in shifts])
    return coordinates.astype(np.uint32), np.concatenate(shifts)


def _shuffled(random: Random, n: int) -> jax.Array:
    return jnp.argsort(words(random, n)).astype(jnp.uint32)


def _ask(space: Space, state: LocalSearchState):
    coordinates, shifts = _moves(space)
    move = state.order[lax.rem(state.visits, np.uint32(len(coordinates)))]
    k = jnp.asarray(coordinates)[move]
    to = _shifted(space, k, state.x[k], jnp.asarray(shifts, state.x.dtype)[move])
    x = jnp.where(jnp.isinf(state.value), state.x, set_row(state.x, k, to))
    return space.clip(x)[None], state


def _shifted(space: Space, k, entry, shift):
    low, high = (bound[k] for bound in bounds_of(space))
    option = low + jnp.mod(entry - low + shift, high - low + 1)
    inside = (entry + shift >= low) & (entry + shift <= high)
    neighbour = jnp.where(inside, entry + shift, entry - shift)
    return jnp.where(jnp.asarray(space.kinds == UNORDERED)[k], option, neighbour)


def _tell(space: Space, state: LocalSearchState, x, value) -> LocalSearchState:
    begins = jnp.isinf(state.value)
    better = value < state.value
    accepted = better | (value == state.value)  # plateaus are crossed
    state = moved_if(accepted, state, x, value)._replace(
        visits=state.visits + ~begins,
        idle=jnp.where(better, 0, state.idle + 1).astype(jnp.uint32),
    )
    over = (state.idle >= len(state.order)) | jnp.isinf(state.value)
    return changed_if(over, partial(_next_descent, space), state)


def _next_descent(space: Space, state: LocalSearchState) -> LocalSearchState:
    """The optimum is remembered, unless it is known, and a descent begins elsewhere."""
    known = jnp.any(jnp.all(state.optima == state.x, axis=1) & (state.values == state.value))
    value = jnp.where(known, jnp.inf, state.value)
    optima, values = insert_sorted(state.optima, state.values, state.x, value)
    next_random = advance(state.random)
    return LocalSearchState(
        random=advance(next_random),
        x=_first_point(space, state.random, optima, jnp.sum(jnp.isfinite(values))),
        value=jnp.full_like(state.value, jnp.inf),
        order=_shuffled(next_random, len(state.order)),
        visits=jnp.uint32(0),
        idle=jnp.uint32(0),
        optima=optima,
        values=values,
    )


def _first_point(space: Space, random: Random, optima, n) -> jax.Array:
    """Of a descent: a random point, a mixture of two of n optima, or a mutant of one."""
    d = space.dimension
    u = to_unit(words(random, 3 * d + 4))
    anywhere, ranks, halves, (one, other, share, number) = jnp.split(u, [d, 2 * d, 3 * d])
    i = index_from(one, jnp.maximum(n, 1))
    j = lax.rem(i + 1 + index_from(other, jnp.maximum(n - 1, 1)), jnp.maximum(n, 1).astype(i.dtype))
    a, b = optima[i], optima[j]
    mixes = share < MIXED
    x = jnp.where(mixes & (halves < 0.5), b, a)
    most = min(max(MOST, d // 8), d)
    least = min(LEAST, d)
    chosen = ranks <= jnp.sort(ranks)[least - 1 + index_from(number, most - least + 1)]
    mutates = ~mixes | (jnp.sum(a != b) <= most)
    x = jnp.where(chosen & mutates, _elsewhere(space, x, anywhere), x)
    return space.clip(jnp.where(n < RANDOM, space.from_unit(anywhere), x))


def _elsewhere(space: Space, x, u) -> jax.Array:
    """Another option in each coordinate without order; any value in the others."""
    low, high = bounds_of(space)
    other = low + jnp.mod(x - low + 1 + jnp.floor(u * (high - low)), high - low + 1)
    return jnp.where(space.kinds == UNORDERED, other, space.from_unit(u))


def _best(state: LocalSearchState):
    current = state.value < state.values[0]
    return select(current, (state.x, state.value), (state.optima[0], state.values[0]))


def _inject(space: Space, state: LocalSearchState, x, value) -> LocalSearchState:
    """The descent goes on at a better point."""
    del space
    better = value < _best(state)[1]
    idle = jnp.where(better, 0, state.idle).astype(jnp.uint32)
    return moved_if(better, state, x, value)._replace(idle=idle)
