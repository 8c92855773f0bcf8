"""PONSS: subset selection from noisy values."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count, require_option
from zojax._numerics import float_dtype
from zojax.search._random import Random, advance, make_random, words
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import index_of, pick
from zojax.search.algorithms._pareto import mutate, size_of, subset_sizes
from zojax.search.algorithms._toolkit import reused, select, sequential
from zojax.search.spaces import Space

NOISE = ("additive", "multiplicative")


class Tournament(NamedTuple):
    """Among the b + 1 sets of one size: b rounds of two fresh evaluations. The winner of a round stays."""

    size: jax.Array  # int32, or -1 without a tournament
    open: jax.Array  # bool (b + 1,), sets that have not won yet
    pair: jax.Array  # int32 (2,), the players
    value: jax.Array  # of the first player
    second: jax.Array  # bool, whether the second player is evaluated now


class PonssState(NamedTuple):
    """The archive: up to b sets of each size, and one more during a tournament."""

    random: Random
    asked: jax.Array  # whether the empty set was
    sets: jax.Array  # (2k, b + 1, n)
    values: jax.Array  # (2k, b + 1), means; inf in empty places
    numbers: jax.Array  # (2k, b + 1), evaluations in the mean
    tournament: Tournament


@reused
def ponss(theta: float = 0.4, b: int = 8, *, noise: str = "multiplicative") -> Algorithm:
    """POSS for noisy values: it keeps several sets whose values differ by less than the noise.

    s dominates s' only where |s| <= |s'| and f(s) is lower by a threshold:

        additive noise        f(s) + theta <= f(s')
        multiplicative noise  f(s) + theta (|f(s)| + |f(s')|) <= f(s')

    For f >= 0, the second is (1 + theta) f(s) <= (1 - theta) f(s'). When b + 1 sets of a size have
    gathered, a tournament of b rounds decides which of them stay. Each round evaluates two random sets
    again, and the better one is safe. The value of a set is the mean of all its evaluations. The budget
    counts every evaluation. The recommendation is the set of at most k members with the least mean +
    threshold / sqrt(evaluations).

    Args:
      theta: about two standard deviations of the noise: absolute (additive) or relative (multiplicative).
      b: sets kept of each size.
      noise: "additive" or "multiplicative".

    Raises:
      ValueError: a negative theta, or one of 1 or more with multiplicative noise; an unknown noise; b
        below 1; a space that is not one `search.subset`.

    References:
      Qian, Shi, Yu, Tang and Zhou, `Subset selection under noise
      <https://papers.nips.cc/paper_files/paper/2017/hash/d7a84628c025d30f7b2c52c958767e76-Abstract.html>`_,
      NIPS 2017.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import search
    >>> worth = jnp.arange(30.0) % 7
    >>> def noisy(mask, key):
    ...     return -(worth @ mask) * jax.random.uniform(key, minval=0.9, maxval=1.1)
    >>> found = search.minimize(noisy, search.subset(30, max_size=4), search.ponss(0.1), budget=4000,
    ...                         key=0, with_key=True)
    >>> bool(worth @ found.best >= 22)
    True
    """
    require_option("noise", noise, NOISE)
    b, upper = require_count("b", b), 1 if noise == "multiplicative" else np.inf
    if not isinstance(theta, jax.core.Tracer) and not 0 <= np.asarray(theta) < upper:
        raise ValueError(f"theta must lie in [0, {upper}) for {noise} noise, got {theta}.")

    def threshold(magnitude):
        """The significant difference of two values whose absolute values sum to `magnitude`."""
        return theta if noise == "additive" else theta * magnitude

    tell = sequential(partial(_tell, threshold))
    best, inject = partial(_best, threshold), partial(_inject, threshold)
    return Algorithm(partial(_init, b), _ask, tell, best, inject, repeats_points=True)


def _init(b: int, key, space: Space, budget: int) -> PonssState:
    del budget
    n, max_size = subset_sizes(space)
    shape = 2 * max_size, b + 1
    return PonssState(
        random=make_random(key),
        asked=jnp.bool_(False),
        sets=jnp.zeros((*shape, n), float_dtype()),
        values=jnp.full(shape, jnp.inf, float_dtype()),
        numbers=jnp.zeros(shape, float_dtype()),
        tournament=Tournament(
            size=jnp.int32(-1),
            open=jnp.zeros(b + 1, bool),
            pair=jnp.zeros(2, jnp.int32),
            value=jnp.zeros((), float_dtype()),
            second=jnp.bool_(False),
        ),
    )


def _ask(space, state: PonssState):
    del space
    limit, places = state.values.shape
    flat = state.sets.reshape(limit * places, -1)
    parents = jnp.isfinite(state.values).ravel()
    chosen = pick(parents, words(state.random, 1)[0])  # without parents, the empty set
    parent = jnp.sum(jnp.where(chosen[:, None], flat, 0), axis=0)
    mutant, random = mutate(advance(state.random), parent, limit)
    mutant = jnp.where(state.asked, mutant, 0)
    game = state.tournament
    player = flat[jnp.maximum(game.size, 0) * places + _player(game)]
    x = jnp.where(game.size >= 0, player, mutant)
    return x[None], state._replace(random=random, asked=jnp.bool_(True))


def _tell(threshold: Callable, space, state: PonssState, x, value) -> PonssState:
    new, played = _inject(threshold, space, state, x, value), _play(state, value)
    return _draw_pair(select(state.tournament.size < 0, new, played))


def _inject(threshold: Callable, space, state: PonssState, x, value) -> PonssState:
    """The archive with a new set. If it fills the places of its size, a tournament opens."""
    del space
    size = size_of(x)
    sizes = jnp.arange(len(state.values))[:, None]
    loses = _dominates(threshold, state.values, value) & (sizes <= size)
    strictly = _dominates(threshold, state.values, value, strictly=True)
    strictly = (strictly | (sizes < size)) & loses
    known = jnp.isfinite(state.values) & jnp.all(state.sets == x, axis=2)
    free = jnp.isinf(state.values) & (sizes == size)
    enters = ~jnp.any(strictly) & ~jnp.any(known) & jnp.isfinite(value) & (size < len(sizes))
    leaves = enters & _dominates(threshold, value, state.values) & (size <= sizes)
    free = free | (leaves & (sizes == size))
    here = enters & free & (jnp.cumsum(free, axis=1) == 1)
    state = _average(state, known, value)
    values = jnp.where(here, value, jnp.where(leaves, jnp.inf, state.values))
    game = state.tournament
    full = jnp.any(here) & (jnp.sum(free) == 1) & (game.size < 0)
    opened = game._replace(size=size, open=jnp.ones_like(game.open))
    return state._replace(
        sets=jnp.where(here[:, :, None], x, state.sets),
        values=values,
        numbers=jnp.where(here, 1.0, state.numbers),
        tournament=select(full, opened, game),
    )


def _best(threshold: Callable, state: PonssState):
    """The least mean plus its error, so that a lucky set is not recommended."""
    allowed = state.values[: len(state.values) // 2 + 1].ravel()
    numbers = jnp.maximum(state.numbers.ravel()[: len(allowed)], 1)
    flat = jnp.argmin(allowed + threshold(jnp.abs(allowed)) / jnp.sqrt(numbers))
    return state.sets.reshape(-1, state.sets.shape[-1])[flat], allowed[flat]


def _dominates(threshold: Callable, f, g, strictly=False):
    """Whether values f are lower than g by the threshold."""
    least = f + threshold(jnp.abs(f) + jnp.abs(g))
    below = least < g if strictly else least <= g
    return jnp.isfinite(f) & (below | jnp.isinf(g))


def _player(game: Tournament) -> jax.Array:
    """The player under evaluation."""
    return jnp.where(game.second, game.pair[1], game.pair[0])


def _play(state: PonssState, value) -> PonssState:
    """Half a round. After the second evaluation, the better set is safe."""
    game = state.tournament
    place = jnp.arange(len(game.open))
    row = (jnp.arange(len(state.values)) == game.size)[:, None]
    state = _average(state, row & (place == _player(game)), value)
    winner = jnp.where(value < game.value, game.pair[1], game.pair[0])
    open = game.open & ~(game.second & (place == winner))
    over = game.second & (jnp.sum(open) <= 1)
    # The loser of the last round leaves.
    return state._replace(
        values=jnp.where(over & row & open, jnp.inf, state.values),
        tournament=Tournament(
            size=jnp.where(over, -1, game.size),
            open=open,
            pair=game.pair,
            value=value,
            second=~game.second,
        ),
    )


def _draw_pair(state: PonssState) -> PonssState:
    """The next players, at the start of a round."""
    game = state.tournament
    w = words(state.random, 2)
    one = pick(game.open, w[0])
    two = pick(game.open & ~one, w[1])
    pair = jnp.stack([index_of(one), index_of(two)])
    begins = (game.size >= 0) & ~game.second
    game = game._replace(pair=jnp.where(begins, pair, game.pair))
    return state._replace(tournament=game, random=advance(state.random))


def _average(state: PonssState, here, value) -> PonssState:
    """Adds a value to the mean of the set at the mask `here`. Failures do not count."""
    here = here & jnp.isfinite(value)
    numbers = state.numbers + here
    step = (value - state.values) / jnp.maximum(numbers, 1)
    values = jnp.where(here, state.values + step, state.values)
    return state._replace(values=values, numbers=numbers)
