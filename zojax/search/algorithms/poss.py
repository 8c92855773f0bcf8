"""POSS: subset selection by Pareto optimization, and its parallel form PPOSS."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search._random import Random, advance, make_random, words
from zojax.search.algorithms import _box
from zojax.search.algorithms._algorithm import Algorithm, reused
from zojax.search.algorithms._arrays import put_row
from zojax.search.algorithms._pareto import mutate, size_of, subset_of
from zojax.search.spaces import Space


class PossState(NamedTuple):
    """The archive holds at most one set of each size, at the index of its size."""

    random: Random
    asked: jax.Array  # whether the empty set was
    sets: jax.Array  # (2k, n), zeros and ones
    values: jax.Array  # (2k,), inf where there is no set


@reused
def poss(batch_size: int = 1) -> Algorithm:
    """Selects at most k of n things: minimises f(s) and |s| together, and keeps the Pareto front.

        best = minimize(f, search.subset(n, max_size=k), search.poss(), budget=..., key=...)

    Starts from the empty set. Each step mutates a random member of the front, flipping each bit with
    probability 1/n (one bit if that is none), to a set of fewer than 2k; what it dominates weakly leaves
    the front, which it enters unless dominated itself. Recommends the best set of at most k. For
    monotone submodular f (and nearly so, with the submodularity ratio) 2 e k^2 n evaluations guarantee
    the factor of the greedy algorithm in expectation, and they find better sets in practice.

    f is called with masks of up to 2k - 1 members; a space of at most 4,096 subsets is listed instead.

    Args:
      batch_size: mutants of one ask, as in `pposs`.

    Returns:
      An `Algorithm`.

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

    def init(key, space: Space, budget: int) -> PossState:
        del budget
        domain = subset_of(space)
        limit = 2 * domain.max_size
        return PossState(
            random=make_random(key),
            asked=jnp.bool_(False),
            sets=jnp.zeros((limit, domain.n), float_dtype()),
            values=jnp.full(limit, jnp.inf, float_dtype()),
        )

    def ask(space, state: PossState):
        del space
        # The empty set is a parent even where it has no finite value.
        parents = jnp.isfinite(state.values) | (jnp.arange(len(state.values)) == 0)

        def mutant(random, _):
            chosen = _box.pick(parents, words(random, 1)[0])
            parent = jnp.sum(jnp.where(chosen[:, None], state.sets, 0), axis=0)
            x, random = mutate(advance(random), parent, len(state.values))
            return random, x

        random, x = lax.scan(mutant, state.random, length=batch_size)
        first = ~state.asked & (jnp.arange(batch_size) == 0)
        x = jnp.where(first[:, None], 0, x)
        return x, state._replace(random=random, asked=jnp.bool_(True))

    def tell(space, state: PossState, x, values):
        def step(state, pair):
            return inject(space, state, *pair), None

        return lax.scan(step, state, (x, values))[0]

    def inject(space, state: PossState, x, value):
        del space
        size = size_of(x)
        sizes = jnp.arange(len(state.values))
        dominated = (state.values < value) | ((state.values == value) & (sizes < size))
        enters = ~jnp.any(dominated & (sizes <= size)) & (size < len(sizes)) & jnp.isfinite(value)
        leaves = enters & (sizes >= size) & (state.values >= value)
        values = jnp.where(
            enters & (sizes == size), value, jnp.where(leaves, jnp.inf, state.values)
        )
        return state._replace(sets=put_row(state.sets, size, x, enters), values=values)

    def best(state: PossState):
        # The front falls with the size: the largest set that is allowed is the best.
        allowed = state.values[: len(state.values) // 2 + 1]
        size = jnp.argmin(allowed)
        return state.sets[size], allowed[size]

    return Algorithm(init, ask, tell, best, inject, batch_size=batch_size, stays_inside=False)


@reused
def pposs(batch_size: int = 16) -> Algorithm:
    """`poss` with `batch_size` mutants evaluated at once: with an executor, or side by side compiled.

    The speed-up in evaluations is nearly linear while the batch is smaller than the number of things. Each
    mutant draws its own parent (the paper's mutants share one): the chance of an improvement in a batch
    is then never smaller.

    Args:
      batch_size: mutants of one ask.

    Returns:
      An `Algorithm`.

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
