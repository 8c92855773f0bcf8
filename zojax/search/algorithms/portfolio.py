"""The default search: several algorithms that share their best point, each as often as it pays."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._checks import require_kind
from zojax._numerics import float_dtype
from zojax.search._random import Random, draw, make_random, split
from zojax.search.algorithms._algorithm import Algorithm, keep_best, reused, where
from zojax.search.algorithms._settings import require_exploration
from zojax.search.algorithms.coordinate_search import coordinate_search
from zojax.search.algorithms.quasi_newton import quasi_newton
from zojax.search.algorithms.snes import snes
from zojax.search.spaces import CONTINUOUS, Space

SMOOTH = 0.5  # of a rate that is remembered for the next turn
LEAST = 10  # turns that must be left for the noisy member to take over
SHARE, FEW = (
    128,
    4,
)  # of a noisy budget one evaluation in so many, at least so many, compares two answers
STARTS = 10  # random points at most, of which the best is where members begin
BUDGET_OF_START = 10  # evaluations in the budget for each of them


class Team(NamedTuple):
    """The settings of a portfolio."""

    members: tuple[Algorithm, ...]  # empty: the default ones, which depend on the space
    noisy: Algorithm
    exploration: float | jax.Array

    def on(self, space: Space) -> tuple[Algorithm, ...]:
        return self.members or _default_members(space)


class PortfolioState(NamedTuple):
    random: Random
    starts: jax.Array  # (n, d), evaluated first
    members: tuple
    noisy_member: Any
    evaluations: jax.Array
    budget: jax.Array  # at the start
    x: jax.Array  # the best point, and its value
    value: jax.Array
    noise: jax.Array  # the largest difference between two values of a point
    compared: jax.Array  # whether there were two; not where the start fails
    noisy: jax.Array  # whether gains are luck: from then on the noisy member works alone
    active: jax.Array  # the member whose turn it is
    left: jax.Array  # evaluations left of its turn
    before: jax.Array  # the best value when its turn began
    rates: jax.Array  # (members + 1,) improvement per evaluation in the last turn, -inf: has none
    sums: (
        jax.Array
    )  # (2,) of values of x and of the noisy member's answer, at the end of the budget
    counts: jax.Array  # (2,) and their numbers


@reused
def portfolio(
    *members: Algorithm, noisy: Algorithm | None = None, exploration: float = 0.1
) -> Algorithm:
    """Gives each member turns of 2 d + 8 evaluations, mostly to the one whose last turn gained most.

    A tenth of the budget, 10 evaluations at most, goes to random points first; members, of which some
    are local, begin at the best of them. At the end of a turn all members learn of the best point. The
    start is evaluated twice (where it fails, the best point of a turn): if the values differ the function
    is noisy, and every turn ends with another look at the best point. While turns gain more than two values
    of a point differ by, noise does not matter; once the last turn of no member does, gains are luck, and
    what is left of the budget goes to the `noisy` member, from the best point. The last evaluations (1 in
    128 of the budget, at least 4) go to its answer and to that best point, by turns: the lower mean is the
    answer. Where a budget has fewer than ten turns the noisy member begins, and shares them with the last
    member alone.

    By default `quasi_newton` (smooth functions whose coordinates depend on one another; left out without
    two continuous coordinates) and `coordinate_search` (everything else), and `snes` where there is noise.

    Args:
      members: algorithms with batch_size 1; the one that noise disturbs least is the last.
      noisy: the algorithm for noise that is larger than what there is to gain, `snes()` by default;
        `sracos()` makes more of few turns.
      exploration: the share of turns that go to the next member, whatever it gained.

    Returns:
      An `Algorithm`.

    Raises:
      ValueError: a member with batches; an exploration outside [0, 1].
      TypeError: a member that is no algorithm.

    >>> import jax.numpy as jnp
    >>> from zojax import search
    >>> def rosenbrock(x):
    ...     return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    >>> found = search.minimize(rosenbrock, search.uniform(-2, 2, (10,)), search.portfolio(),
    ...                         budget=4000, key=4)
    >>> bool(found.best_value < 1)
    True
    """
    require_exploration(exploration)
    for member in (*members, *([noisy] if noisy else [])):
        require_kind("member", member, Algorithm)
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


def _init(team: Team, key, space: Space, budget: int) -> PortfolioState:
    members = team.on(space)
    keys = split(key, len(members) + 3)
    starts = space.sample(keys[2], max(1, min(STARTS, budget // BUDGET_OF_START))).astype(
        float_dtype()
    )
    return PortfolioState(
        random=make_random(keys[0]),
        starts=starts,
        members=tuple(a.init(k, space, budget) for a, k in zip(members, keys[3:], strict=True)),
        noisy_member=team.noisy.init(keys[1], space, budget),
        evaluations=jnp.int32(0),
        budget=jnp.int32(budget),
        x=starts[0],
        value=jnp.asarray(np.inf, float_dtype()),
        noise=jnp.asarray(0, float_dtype()),
        compared=jnp.bool_(False),
        noisy=jnp.bool_(False),
        active=jnp.int32(0),
        left=jnp.int32(_turn(space)),
        before=jnp.asarray(np.inf, float_dtype()),
        rates=jnp.asarray([np.inf] * len(members) + [-np.inf], float_dtype()),
        sums=jnp.zeros(2, float_dtype()),
        counts=jnp.zeros(2, jnp.int32),
    )


def _ask(team: Team, space, state: PortfolioState):
    def ask_member(i, state):
        x, new = team.on(space)[i].ask(space, state.members[i])
        return x, state._replace(members=_put(state.members, i, new))

    def ask_noisy(state):
        x, new = team.noisy.ask(space, state.noisy_member)
        return x, state._replace(noisy_member=new)

    def ask_again(state):
        start = state.starts[jnp.minimum(state.evaluations, len(state.starts) - 1)]
        answer, _ = team.noisy.best(state.noisy_member)
        best = jnp.where(_closes(state) & (_place(state) == 1), answer, state.x)
        return jnp.where(_begins(state), start, best)[None], state

    return _switch(state, ask_member, ask_noisy, ask_again)


def _tell(team: Team, space, state: PortfolioState, x, values) -> PortfolioState:
    def tell_member(i, state):
        new = team.on(space)[i].tell(space, state.members[i], x, values)
        state = state._replace(members=_put(state.members, i, new), left=state.left - 1)
        return keep_best(state, x[0], values[0])

    def tell_noisy(state):
        new = team.noisy.tell(space, state.noisy_member, x, values)
        state = state._replace(noisy_member=new, left=state.left - 1)
        # Once it works alone it knows better than the least of all values.
        return where(state.noisy, state, keep_best(state, x[0], values[0]))

    def tell_again(state):
        difference = jnp.abs(values[0] - state.value)
        known = ~_begins(state) & jnp.isfinite(difference)
        seen = state._replace(
            noise=jnp.maximum(state.noise, jnp.where(known, difference, 0)),
            compared=state.compared | known,
            value=jnp.where(jnp.isfinite(values[0]), values[0], state.value),
        )
        other = state._replace(compared=state.compared | ~_begins(state))
        # Not the same at the start, nor in a small space, where no point is evaluated twice.
        same = ~_begins(state) & jnp.all(x[0] == state.x)
        here = jnp.arange(2) == _place(state)
        compared = state._replace(
            sums=state.sums + jnp.where(here, values[0], 0),
            counts=state.counts + jnp.where(here, 1, 0),
        )
        earlier = where(same, seen, keep_best(other, x[0], values[0]))
        return where(_closes(state), compared, earlier)

    again, earlier = _looks_again(state), state.evaluations
    state = _switch(state, tell_member, tell_noisy, tell_again)
    n = len(state.starts)
    over = jnp.where(again, earlier >= n, (state.left <= 0) & ~_looks_again(state))
    turn = partial(_next_turn, team, space, earlier > n)
    state = state._replace(evaluations=earlier + 1)
    return lax.cond(over & ~state.noisy, turn, lambda s: s, state)


def _begins(state: PortfolioState) -> jax.Array:
    """Whether random points are evaluated still."""
    return state.evaluations < len(state.starts)


def _closes(state: PortfolioState) -> jax.Array:
    """Whether the noisy member has ended, and its answer is compared with the best point."""
    share = jnp.maximum(state.budget // SHARE, FEW)
    return state.noisy & (state.evaluations >= state.budget - share)


def _place(state: PortfolioState) -> jax.Array:
    """Which of the two answers is evaluated: 0 the best point, 1 that of the noisy member."""
    return state.evaluations % 2


def _looks_again(state: PortfolioState) -> jax.Array:
    """Whether no member is asked: at the start, of which the best is evaluated twice, and, with noise, for
    another look at the best point at the end of every turn."""
    worth = (state.noise > 0) | ~state.compared
    return (state.evaluations <= len(state.starts)) | (worth & (state.left <= 0))


def _switch(state: PortfolioState, member, noisy, again):
    """Whose turn it is: member(i, state), noisy(state), or again(state), for another look."""
    n = len(state.members)
    repeats = _closes(state) | (~state.noisy & _looks_again(state))
    which = jnp.where(repeats, n + 1, jnp.where(state.noisy, n, state.active))
    return lax.switch(which, [*(partial(member, i) for i in range(n)), noisy, again], state)


def _inject(team: Team, space, state: PortfolioState, x, value) -> PortfolioState:
    return _share(team, space, keep_best(state, x, value))


def _best(team: Team, state: PortfolioState):
    """The noisy member's answer, once it works, if it is better than where it began.

    Values of the two are comparable where both were evaluated at the end; before, it must not be clearly
    worse.
    """
    x, value = team.noisy.best(state.noisy_member)
    better = state.noisy & (value < state.value + state.noise)
    early = where(better, (x, value), (state.x, state.value))
    mean = state.sums / jnp.maximum(state.counts, 1).astype(state.sums.dtype)
    late = where(mean[1] < mean[0], (x, mean[1]), (state.x, mean[0]))
    return where(jnp.all(state.counts > 0), late, early)


def _default_members(space: Space) -> tuple[Algorithm, ...]:
    if np.sum(space.kinds == CONTINUOUS) < 2:
        return (coordinate_search(),)
    return quasi_newton(), coordinate_search()


def _next_turn(team: Team, space, credit, state: PortfolioState) -> PortfolioState:
    """The turn is over: its member is credited (not for the start), the next one chosen."""
    n, turn = len(state.members), _turn(space)
    # Where everything failed nothing was gained; inf - inf would be nan, for ever.
    gain = jnp.where(jnp.isinf(state.value), 0.0, state.before - state.value) / turn
    old = state.rates[state.active]
    usual = SMOOTH * old + (1 - SMOOTH) * gain
    with_noise = jnp.maximum(gain, old / 4)  # one turn may fail
    rate = jnp.where(jnp.isinf(old), gain, jnp.where(state.noise > 0, with_noise, usual))
    rates = jnp.where(credit & (jnp.arange(n + 1) == state.active), rate, state.rates)
    # Noise upsets differences most: the last member, which takes none, begins, or the noisy one, with which
    # it shares few turns.
    few = (state.noise > 0) & has_few_turns(space, state.budget)
    rates = jnp.where(few, _of_two(rates), rates)
    first = jnp.where(state.noise > 0, n - 1 + few, state.active)
    u, random = draw(state.random, 1)
    greedy = jnp.argmax(rates[::-1])  # the last of equals
    of_two = jnp.where(state.active == n, n - 1, n)
    other = jnp.where(few, of_two, (state.active + 1) % n)
    active = jnp.where(u[0] < team.exploration, other, n - greedy)
    luck = jnp.max(rates) * turn < state.noise
    noisy = luck & ~has_few_turns(space, state.budget - state.evaluations)
    informed = team.noisy.inject(space, state.noisy_member, state.x, state.value)
    state = state._replace(
        random=where(credit, random, state.random),
        noisy=noisy,
        noisy_member=where(noisy | few, informed, state.noisy_member),
        active=jnp.where(credit, active, first).astype(jnp.int32),
        left=jnp.int32(turn),
        before=state.value,
        rates=rates,
    )
    return _share(team, space, state)


def _of_two(rates: jax.Array) -> jax.Array:
    """Rates of the last member and of the noisy one, which may be new; none of the others."""
    member = jnp.arange(len(rates))
    new = (member == len(rates) - 1) & jnp.isneginf(rates)
    return jnp.where(member < len(rates) - 2, -jnp.inf, jnp.where(new, jnp.inf, rates))


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


def has_few_turns(space: Space, budget):
    """Whether a noisy member would have no time to take over."""
    return budget < LEAST * _turn(space)
