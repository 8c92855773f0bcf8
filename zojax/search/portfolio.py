"""The default search: several algorithms that share their best point, each as often as it pays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._types import PyTree
from zojax.search._algorithm import Algorithm, Random, draw, float_dtype, make_random, reused
from zojax.search.coordinate_search import coordinate_search
from zojax.search.quasi_newton import quasi_newton
from zojax.search.snes import snes
from zojax.search.spaces import CONTINUOUS, Space
from zojax.search.spaces import space as as_space
from zojax.search.sre import sre

SMOOTH = 0.5  # of a rate that is remembered for the next turn


class PortfolioState(NamedTuple):
    random: Random
    members: tuple
    noisy_member: Any
    evaluations: jax.Array
    x: jax.Array  # the best point, and its value
    value: jax.Array
    first: jax.Array  # value of the start, which is evaluated twice
    noisy: jax.Array  # whether both differed
    active: jax.Array  # the member whose turn it is
    left: jax.Array  # evaluations left of its turn
    before: jax.Array  # the best value when its turn began
    rates: jax.Array  # (members,) improvement per evaluation in the last turn of each


@reused
def portfolio(
    *members: Algorithm, noisy: Algorithm | None = None, exploration: float = 0.1
) -> Algorithm:
    """Gives each member turns of 2 d + 8 evaluations, mostly to the one whose last turn gained most.

    At the end of a turn all members learn of the best point. The start is evaluated twice: if the values
    differ, the function is noisy, gains are luck, and the whole budget goes to the `noisy` member.

    By default `quasi_newton` (smooth functions whose coordinates depend on one another; left out without
    two continuous coordinates) and `coordinate_search` (everything else), and `snes` where there is noise.

    Args:
      members: algorithms with batch_size 1.
      noisy: the algorithm for noisy functions.
      exploration: the share of turns that go to the next member, whatever it gained.

    Raises:
      ValueError: a member with batches.

    >>> from zojax import search
    >>> def rosenbrock(x):
    ...     return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    >>> found = search.minimize(rosenbrock, search.uniform(-2, 2, (10,)), budget=4000, key=0)
    >>> bool(found.best_value < 1)
    True
    """
    for member in (*members, *([noisy] if noisy else [])):
        if member.batch_size != 1:
            raise ValueError(f"portfolio needs members with batch_size 1, got {member.batch_size}.")
    noisy = snes() if noisy is None else noisy

    def init(key, space: Space, budget: int) -> PortfolioState:
        chosen = members or _default_members(space)
        keys = jax.random.split(key, len(chosen) + 3)
        return PortfolioState(
            random=make_random(keys[0]),
            members=tuple(a.init(k, space, budget) for a, k in zip(chosen, keys[3:], strict=True)),
            noisy_member=noisy.init(keys[1], space, budget),
            evaluations=jnp.int32(0),
            x=space.sample(keys[2], 1)[0].astype(float_dtype()),
            value=jnp.asarray(jnp.inf),
            first=jnp.asarray(jnp.inf),
            noisy=jnp.bool_(False),
            active=jnp.int32(0),
            left=jnp.int32(_turn(space)),
            before=jnp.asarray(jnp.inf),
            rates=jnp.full(len(chosen), jnp.inf),
        )

    def ask(space, state: PortfolioState):
        chosen = members or _default_members(space)

        def asker(i):
            def branch(state):
                x, new = chosen[i].ask(space, state.members[i])
                return x, state._replace(members=_put(state.members, i, new))

            return branch

        def ask_noisy(state):
            x, new = noisy.ask(space, state.noisy_member)
            return x, state._replace(noisy_member=new)

        def ask_start(state):
            return state.x[None], state

        n = len(chosen)
        which = jnp.where(state.evaluations < 2, n + 1, jnp.where(state.noisy, n, state.active))
        return lax.switch(which, [*map(asker, range(n)), ask_noisy, ask_start], state)

    def tell(space, state: PortfolioState, x, values):
        chosen = members or _default_members(space)

        def teller(i):
            def branch(state):
                new = chosen[i].tell(space, state.members[i], x, values)
                state = state._replace(members=_put(state.members, i, new), left=state.left - 1)
                state = _keep(state, x[0], values[0])
                turn = lambda s: _next_turn(space, chosen, exploration, s)  # noqa: E731
                return lax.cond(state.left <= 0, turn, lambda s: s, state)

            return branch

        def tell_noisy(state):
            new = noisy.tell(space, state.noisy_member, x, values)
            return _keep(state._replace(noisy_member=new), x[0], values[0])

        def tell_start(state):
            second = state.evaluations == 1
            same = jnp.all(x[0] == state.x)
            differs = second & same & (values[0] != state.first)
            state = _keep(state, x[0], values[0])
            state = state._replace(first=values[0], noisy=differs, before=state.value)
            return lax.cond(second, lambda s: _share(space, chosen, s), lambda s: s, state)

        n = len(chosen)
        which = jnp.where(state.evaluations < 2, n + 1, jnp.where(state.noisy, n, state.active))
        branches = [*map(teller, range(n)), tell_noisy, tell_start]
        state = lax.switch(which, branches, state)
        return state._replace(evaluations=state.evaluations + 1)

    def inject(space, state: PortfolioState, x, value):
        chosen = members or _default_members(space)
        state = _keep(state, x, value)
        noisy_member = noisy.inject(space, state.noisy_member, x, value)
        return _share(space, chosen, state._replace(noisy_member=noisy_member))

    def best(state: PortfolioState):
        x, value = noisy.best(state.noisy_member)
        answer = (x, value), (state.x, state.value)
        return jax.tree.map(lambda a, b: jnp.where(state.noisy, a, b), *answer)

    return Algorithm(init, ask, tell, best, inject, runs_together=False)


def default_algorithm(space: PyTree, budget: int) -> Algorithm:
    """What `search.minimize` uses when no algorithm is named.

    `portfolio()`; but in a continuum with fewer than two evaluations a coordinate, where no coordinate can
    be looked at alone, its searches of random subspaces: `sre(portfolio(), low_dimension=10)`.
    """
    space = as_space(space)
    if space.is_continuous and space.dimension > max(10, budget / 2):
        return sre(portfolio(), low_dimension=10)
    return portfolio()


def _default_members(space: Space) -> tuple[Algorithm, ...]:
    if np.sum(space.kinds == CONTINUOUS) < 2:
        return (coordinate_search(),)
    return quasi_newton(), coordinate_search()


def _next_turn(space, chosen, exploration, state: PortfolioState) -> PortfolioState:
    n = len(chosen)
    gain = (state.before - state.value) / _turn(space)
    old = state.rates[state.active]
    rate = jnp.where(jnp.isinf(old), gain, SMOOTH * old + (1 - SMOOTH) * gain)
    rates = jnp.where(jnp.arange(n) == state.active, rate, state.rates)
    u, random = draw(state.random, 1)
    greedy = jnp.argmax(rates[::-1])  # the last of equals
    active = jnp.where(u[0] < exploration, (state.active + 1) % n, n - 1 - greedy)
    state = state._replace(
        random=random,
        active=active.astype(jnp.int32),
        left=jnp.int32(_turn(space)),
        before=state.value,
        rates=rates,
    )
    return _share(space, chosen, state)


def _share(space, chosen, state: PortfolioState) -> PortfolioState:
    """All members learn of the best point."""
    members = tuple(
        a.inject(space, m, state.x, state.value) for a, m in zip(chosen, state.members, strict=True)
    )
    return state._replace(members=members)


def _put(members: tuple, i: int, new) -> tuple:
    return members[:i] + (new,) + members[i + 1 :]


def _turn(space: Space) -> int:
    return 2 * space.dimension + 8


def _keep(state, x, value):
    better = value < state.value
    return state._replace(
        x=jnp.where(better, x, state.x), value=jnp.where(better, value, state.value)
    )
