"""POSS: subset selection by Pareto optimization, and its parallel form PPOSS."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search._random import Random, advance, make_random, words
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.algorithms._arrays import pick, put_row
from zojax.search.algorithms._pareto import mutate, size_of, subset_sizes
from zojax.search.algorithms._toolkit import reused
from zojax.search.spaces import Space


class PossState(NamedTuple):
    """The archive: at most one set of each size, in the place of its size."""

    random: Random
    asked: jax.Array  # whether the empty set was
    sets: jax.Array  # (2k, n), zeros and ones
    values: jax.Array  # (2k,), inf in empty places


@reused
def poss(batch_size: int = 1) -> Algorithm:
    """Selects at most k of n things: minimizes f(s) and |s| together, and keeps the Pareto front.

        best = minimize(f, search.subset(n, max_size=k), search.poss(), budget=..., key=...)

    It starts from the empty set. Each step mutates a random member of the front: it flips each bit with
    probability 1/n (one bit if none was drawn), up to 2k - 1 members. Unless the front dominates the
    mutant, it enters the front, and every set that it weakly dominates leaves. The recommendation is the
    best set of at most k members.

    For monotone submodular f, 2 e k^2 n evaluations guarantee the factor of the greedy algorithm in
    expectation. For nearly submodular f, the factor has the submodularity ratio. In practice, POSS finds
    better sets than the greedy algorithm.

    f is called with masks of up to 2k - 1 members. A space of at most 4,096 subsets is enumerated instead.

    Args:
      batch_size: mutants of one ask, as in `pposs`.

    Raises:
      ValueError: batch_size below 1; a space that is not one `search.subset`.

    References:
      Qian, Yu and Zhou, `Subset selection by Pareto optimization
      <https://papers.nips.cc/paper_files/paper/2015/hash/b4d168b48157c623fbd095b4a565b5bb-Abstract.html>`_,
      NIPS 2015.

    >>> import jax.numpy as jnp
    >>> from zojax import search
    >>> worth = jnp.arange(30.0) % 7
    >>> found = search.minimize(lambda mask: -worth @ mask, search.subset(30, max_size=4),
    ...                         search.poss(), budget=2000, key=0)
    >>> found.best_value, int(found.best.sum())
    (-24.0, 4)
    """
    batch_size = require_count("batch_size", batch_size)
    ask = partial(_ask, batch_size)
    return Algorithm(_init, ask, _tell, _best, _inject, batch_size=batch_size, stays_inside=False)


def _init(key, space: Space, budget: int) -> PossState:
    del budget
    n, max_size = subset_sizes(space)
    return PossState(
        random=make_random(key),
        asked=jnp.bool_(False),
        sets=jnp.zeros((2 * max_size, n), float_dtype()),
        values=jnp.full(2 * max_size, jnp.inf, float_dtype()),
    )


def _ask(batch_size: int, space: Space, state: PossState):
    del space
    # The empty set is a parent even without a finite value.
    parents = jnp.isfinite(state.values) | (jnp.arange(len(state.values)) == 0)

    def mutant(random, _):
        chosen = pick(parents, words(random, 1)[0])
        parent = jnp.sum(jnp.where(chosen[:, None], state.sets, 0), axis=0)
        x, random = mutate(advance(random), parent, len(state.values))
        return random, x

    random, x = lax.scan(mutant, state.random, length=batch_size)
    first = ~state.asked & (jnp.arange(batch_size) == 0)
    x = jnp.where(first[:, None], 0, x)
    return x, state._replace(random=random, asked=jnp.bool_(True))


def _tell(space: Space, state: PossState, x, values) -> PossState:
    def step(state, pair):
        return _inject(space, state, *pair), None

    return lax.scan(step, state, (x, values))[0]


def _inject(space: Space, state: PossState, x, value) -> PossState:
    del space
    size = size_of(x)
    sizes = jnp.arange(len(state.values))
    dominated = (state.values < value) | ((state.values == value) & (sizes < size))
    enters = ~jnp.any(dominated & (sizes <= size)) & (size < len(sizes)) & jnp.isfinite(value)
    leaves = enters & (sizes >= size) & (state.values >= value)
    values = jnp.where(enters & (sizes == size), value, jnp.where(leaves, jnp.inf, state.values))
    return state._replace(sets=put_row(state.sets, size, x, enters), values=values)


def _best(state: PossState):
    # Values of the front fall with the size, so the largest allowed set is the best.
    allowed = state.values[: len(state.values) // 2 + 1]
    size = jnp.argmin(allowed)
    return state.sets[size], allowed[size]


@reused
def pposs(batch_size: int = 16) -> Algorithm:
    """Parallel POSS: `poss` with `batch_size` mutants at once, in an executor or in one compiled batch.

    The speed-up is nearly linear while the batch is smaller than the number of things. Each mutant draws
    its own parent, while the paper's mutants share one. A batch is then at least as likely to improve.

    Args:
      batch_size: mutants of one ask.

    Raises:
      ValueError: batch_size below 1; a space that is not one `search.subset`.

    References:
      Qian, Shi, Yu, Tang and Zhou, Parallel Pareto optimization for subset selection, IJCAI 2016.

    >>> import jax.numpy as jnp
    >>> from zojax import search
    >>> worth = jnp.arange(30.0) % 7
    >>> found = search.minimize(lambda mask: -worth @ mask, search.subset(30, max_size=4),
    ...                         search.pposs(8), budget=4000, key=0)
    >>> found.best_value
    -24.0
    """
    return poss(batch_size)
