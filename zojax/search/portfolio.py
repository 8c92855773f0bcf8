"""The default search: several algorithms that share their best point, each as often as it pays."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._types import PyTree
from zojax.search._algorithm import (
    Algorithm,
    Random,
    draw,
    float_dtype,
    keep_best,
    make_random,
    reused,
    where,
)
from zojax.search.coordinate_search import coordinate_search
from zojax.search.quasi_newton import quasi_newton
from zojax.search.snes import snes
from zojax.search.spaces import CONTINUOUS, Space
from zojax.search.spaces import space as as_space
from zojax.search.sre import sre

SMOOTH = 0.5  # of a rate that is remembered for the next turn


class Team(NamedTuple):
    """The settings of a portfolio."""

    members: tuple[Algorithm, ...]  # empty: the default ones, which depend on the space
    noisy: Algorithm
    exploration: float | jax.Array

    def on(self, space: Space) -> tuple[Algorithm, ...]:
        return self.members or _default_members(space)


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

    Returns:
      An `Algorithm`.

    Raises:
      ValueError: a member with batches.

    >>> import jax.numpy as jnp
    >>> from zojax import search
    >>> def rosenbrock(x):
    ...     return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    >>> found = search.minimize(rosenbrock, search.uniform(-2, 2, (10,)), search.portfolio(),
    ...                         budget=4000, key=0)
    >>> bool(found.best_value < 1)
    True
    """
    for member in (*members, *([noisy] if noisy else [])):
        if member.batch_size != 1:
            raise ValueError(f"portfolio needs members with batch_size 1, got {member.batch_size}.")
    team = Team(members, snes() if noisy is None else noisy, exploration)
    return Algorithm(
        init=partial(_init, team),
        ask=partial(_ask, team),
        tell=partial(_tell, team),
        best=partial(_best, team),
        inject=partial(_inject, team),
        runs_together=False,
    )


def default_algorithm(space: PyTree, budget: int) -> Algorithm:
    """What `search.minimize` uses when no algorithm is named.

    `portfolio()`; but in a continuum with fewer than two evaluations a coordinate, where no coordinate can
    be looked at alone, its searches of random subspaces: `sre(portfolio(), low_dimension=10)`.

    Args:
      space: a pytree of domains or a `Space`.
      budget: evaluations of a run.

    Returns:
      An `Algorithm`.

    >>> from zojax import search
    >>> space = {"x": search.uniform(-1, 1, (3,)), "kind": search.choice(["a", "b"])}
    >>> search.default_algorithm(space, budget=300) is search.portfolio()
    True
    >>> wide = search.uniform(-1, 1, (10_000,))
    >>> search.default_algorithm(wide, budget=300) is search.sre(search.portfolio(), low_dimension=10)
    True
    """
    space = as_space(space)
    if space.is_continuous and space.dimension > max(10, budget / 2):
        return sre(portfolio(), low_dimension=10)
    return portfolio()


def _init(team: Team, key, space: Space, budget: int) -> PortfolioState:
    members = team.on(space)
    keys = jax.random.split(key, len(members) + 3)
    return PortfolioState(
        random=make_random(keys[0]),
        members=tuple(a.init(k, space, budget) for a, k in zip(members, keys[3:], strict=True)),
        noisy_member=team.noisy.init(keys[1], space, budget),
        evaluations=jnp.int32(0),
        x=space.sample(keys[2], 1)[0].astype(float_dtype()),
        value=jnp.asarray(jnp.inf),
        first=jnp.asarray(jnp.inf),
        noisy=jnp.bool_(False),
        active=jnp.int32(0),
        left=jnp.int32(_turn(space)),
        before=jnp.asarray(jnp.inf),
        rates=jnp.full(len(members), jnp.inf),
    )


def _ask(team: Team, space, state: PortfolioState):
    def ask_member(i, state):
        x, new = team.on(space)[i].ask(space, state.members[i])
        return x, state._replace(members=_put(state.members, i, new))

    def ask_noisy(state):
        x, new = team.noisy.ask(space, state.noisy_member)
        return x, state._replace(noisy_member=new)

    def ask_start(state):
        return state.x[None], state

    return _switch(state, ask_member, ask_noisy, ask_start)


def _tell(team: Team, space, state: PortfolioState, x, values) -> PortfolioState:
    def tell_member(i, state):
        new = team.on(space)[i].tell(space, state.members[i], x, values)
        state = state._replace(members=_put(state.members, i, new), left=state.left - 1)
        state = keep_best(state, x[0], values[0])
        return lax.cond(state.left <= 0, partial(_next_turn, team, space), lambda s: s, state)

    def tell_noisy(state):
        new = team.noisy.tell(space, state.noisy_member, x, values)
        return keep_best(state._replace(noisy_member=new), x[0], values[0])

    def tell_start(state):
        second = state.evaluations == 1
        same = jnp.all(x[0] == state.x)
        differs = second & same & (values[0] != state.first)
        state = keep_best(state, x[0], values[0])
        state = state._replace(first=values[0], noisy=differs, before=state.value)
        return lax.cond(second, partial(_share, team, space), lambda s: s, state)

    state = _switch(state, tell_member, tell_noisy, tell_start)
    return state._replace(evaluations=state.evaluations + 1)


def _switch(state: PortfolioState, member, noisy, start):
    """Whose turn it is: member(i, state), noisy(state), or, for the first two points, start(state)."""
    n = len(state.members)
    which = jnp.where(state.evaluations < 2, n + 1, jnp.where(state.noisy, n, state.active))
    return lax.switch(which, [*(partial(member, i) for i in range(n)), noisy, start], state)


def _inject(team: Team, space, state: PortfolioState, x, value) -> PortfolioState:
    state = keep_best(state, x, value)
    noisy_member = team.noisy.inject(space, state.noisy_member, x, value)
    return _share(team, space, state._replace(noisy_member=noisy_member))


def _best(team: Team, state: PortfolioState):
    return where(state.noisy, team.noisy.best(state.noisy_member), (state.x, state.value))


def _default_members(space: Space) -> tuple[Algorithm, ...]:
    if np.sum(space.kinds == CONTINUOUS) < 2:
        return (coordinate_search(),)
    return quasi_newton(), coordinate_search()


def _next_turn(team: Team, space, state: PortfolioState) -> PortfolioState:
    """The turn is over: its member is credited, the next one chosen."""
    n = len(state.members)
    # Where everything failed nothing was gained; inf - inf would be nan, for ever.
    gain = jnp.where(jnp.isinf(state.value), 0.0, state.before - state.value) / _turn(space)
    old = state.rates[state.active]
    rate = jnp.where(jnp.isinf(old), gain, SMOOTH * old + (1 - SMOOTH) * gain)
    rates = jnp.where(jnp.arange(n) == state.active, rate, state.rates)
    u, random = draw(state.random, 1)
    greedy = jnp.argmax(rates[::-1])  # the last of equals
    active = jnp.where(u[0] < team.exploration, (state.active + 1) % n, n - 1 - greedy)
    state = state._replace(
        random=random,
        active=active.astype(jnp.int32),
        left=jnp.int32(_turn(space)),
        before=state.value,
        rates=rates,
    )
    return _share(team, space, state)


def _share(team: Team, space, state: PortfolioState) -> PortfolioState:
    """All members learn of the best point."""
    members = tuple(
        algorithm.inject(space, member, state.x, state.value)
        for algorithm, member in zip(team.on(space), state.members, strict=True)
    )
    return state._replace(members=members)


def _put(members: tuple, i: int, new) -> tuple:
    return members[:i] + (new,) + members[i + 1 :]


def _turn(space: Space) -> int:
    return 2 * space.dimension + 8
