"""The default search: several algorithms share their best point and take turns by their gains."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._checks import require_count
from zojax._numerics import float_dtype
from zojax.search._later import changed_if
from zojax.search._random import Random, draw, make_random, split
from zojax.search.algorithms._algorithm import Algorithm, require_algorithm
from zojax.search.algorithms._side_by_side import side_by_side
from zojax.search.algorithms._toolkit import keep_best, require_share, reused, select
from zojax.search.algorithms.cma_es import cma_es, default_population
from zojax.search.algorithms.coordinate_search import coordinate_search
from zojax.search.algorithms.quadratic_model import quadratic_model
from zojax.search.algorithms.quasi_newton import quasi_newton
from zojax.search.spaces import CONTINUOUS, ORDERED, Space

LEAST = 10  # turns left, below which the noisy member does not take over
SHARE, FEW = 128, 4  # 1 in SHARE of a noisy budget, at least FEW evaluations, compares two answers
STARTS = 10  # most random points at the start; members begin at the best of them
BUDGET_OF_START = 10  # evaluations in the budget per random point
NARROW = 40  # most coordinates of `quadratic_model`
LATE = 100  # evaluations per coordinate, after which `cma_es` has a least share
LARGE = 2  # population of `cma_es`, by its default
GROUPS = 15  # of values of an answer; the median of their means resists outliers
FLOOR, NOISY_FLOOR = 0.6, 0.75  # this share; the noisy member's, of the first half of a budget


class Team(NamedTuple):
    """The settings of a portfolio."""

    members: tuple[Algorithm, ...]  # empty for the space's default members
    noisy: Algorithm
    exploration: float | jax.Array
    batch_size: int

    def on(self, space: Space) -> tuple[Algorithm, ...]:
        return self.members or _default_members(space, self.batch_size)

    def is_late(self, space: Space) -> np.ndarray:
        """Which members pay off late: `cma_es` among the default members."""
        late = np.zeros(len(self.on(space)), bool)
        late[0] = not self.members and len(late) > 1
        return late


class PortfolioState(NamedTuple):
    """The members' states, the current turn, and estimates of gains and noise."""

    random: Random
    starts: jax.Array  # (n, d), evaluated first
    members: tuple
    noisy_member: Any
    evaluations: jax.Array
    budget: jax.Array  # at the start
    x: jax.Array  # the best point, and its value
    value: jax.Array
    noise: jax.Array  # the largest difference between two values of a point
    looked: jax.Array  # evaluations when a point last had two values; 0 while the start fails
    noisy: jax.Array  # whether gains are luck: then the noisy member works alone
    active: jax.Array  # the member whose turn it is
    used: jax.Array  # (members + 1,) evaluations of each member
    left: jax.Array  # evaluations left in this turn
    before: jax.Array  # the best value when the turn began
    rates: jax.Array  # (members + 1,) improvement per evaluation in the last turn; -inf without one
    sums: jax.Array  # (2, groups) of last values of x and of the noisy member's answer
    counts: jax.Array  # (2, groups) of these values


@reused
def portfolio(
    *members: Algorithm,
    noisy: Algorithm | None = None,
    exploration: float = 0.05,
    batch_size: int = 1,
) -> Algorithm:
    """Gives the members turns of 2 d + 8 evaluations, mostly to the one whose last turn gained most.

    - **Start.** A tenth of the budget, at most 10 evaluations, goes to random points. The members, some of
      which are local, begin at the best of these.
    - **Turns.** At the end of a turn, all members learn the best point. If no last turn gained anything,
      the member with the fewest evaluations is next.
    - **Noise.** The start is evaluated twice, and the best point whenever the number of evaluations has
      doubled. Once two values differ, the function is noisy: only a turn that finds a better point ends
      with a new evaluation of it.
    - **Luck.** The `noisy` member gets the rest of the budget in two cases: no other member's last turn
      gains more than the difference between two values of one point; or after ten turns, its own last turn
      gains most. The last evaluations (1 in 128 of the budget, at least 4 and a whole batch) alternate
      between its answer and the best point. The lower median is the answer, that of the means of 15 groups
      of values. So outliers do not count.
    - **Few turns.** With less than ten turns, the noisy member begins, and alternates with the last member.

    The default members are `cma_es`, `quasi_newton` (smooth functions whose coordinates interact) and
    `coordinate_search` (all others). The first two need two or more continuous coordinates. In batches of
    up to 40 coordinates, `quadratic_model` takes the place of `quasi_newton`. `cma_es` has at least 6 in
    10 evaluations after the first 100 d. Its population is twice its default: the other members descend
    faster in one basin, and a larger population finds better basins (Hansen and Kern). If most coordinates
    are integers, its share begins at once, with its default population. With noise, `cma_es(noisy=True)`
    takes its turns. If the budget is 100 d or more, these are at least 3 in 4 evaluations of the first
    half.

    Args:
      members: algorithms with this batch_size. Put the most robust against noise last.
      noisy: the algorithm for noise that exceeds the gains, `cma_es(noisy=True)` by default. `sracos()`
        makes better use of few turns.
      exploration: the share of turns that go to the member with the fewest evaluations, whatever its gains.
      batch_size: points of one ask, for parallel evaluations.

    Raises:
      ValueError: a member with another batch_size; an exploration outside [0, 1].
      TypeError: a member that is not an `Algorithm`.

    References:
      Hansen and Kern, `Evaluating the CMA evolution strategy on multimodal test functions
      <https://doi.org/10.1007/978-3-540-30217-9_29>`_, 2004.

    >>> import numpy as np
    >>> from zojax import search
    >>> def rosenbrock(x):
    ...     return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))
    >>> found = search.minimize(rosenbrock, search.uniform(-2, 2, (10,)), search.portfolio(),
    ...                         budget=4000, key=0)
    >>> bool(found.best_value < 1)
    True
    """
    require_share("exploration", exploration)
    batch_size = require_count("batch_size", batch_size)
    noisy = cma_es(noisy=True, batch_size=batch_size) if noisy is None else noisy
    for member in (*members, noisy):
        require_algorithm("member", member)
        if member.batch_size != batch_size:
            raise ValueError(
                f"portfolio needs members with batch_size {batch_size}, got {member.batch_size}."
            )
    team = Team(members, noisy, exploration, batch_size)
    return Algorithm(
        init=partial(_init, team),
        ask=partial(_ask, team),
        tell=partial(_tell, team),
        best=partial(_best, team),
        inject=partial(_inject, team),
        batch_size=batch_size,
        runs_together=False,
    )


def _init(team: Team, key, space: Space, budget: int) -> PortfolioState:
    members, late = team.on(space), team.is_late(space)
    keys = split(key, len(members) + 3)
    num = max(1, min(STARTS, budget // BUDGET_OF_START))
    starts = space.sample(keys[2], -(-num // team.batch_size) * team.batch_size)
    starts = starts.astype(float_dtype())
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
        looked=jnp.int32(0),
        noisy=jnp.bool_(False),
        active=jnp.int32(np.argmin(late)),
        used=jnp.zeros(len(members) + 1, jnp.int32),
        left=jnp.int32(_turn(space.dimension)),
        before=jnp.asarray(np.inf, float_dtype()),
        rates=jnp.asarray(np.append(np.where(late, -np.inf, np.inf), -np.inf), float_dtype()),
        sums=jnp.zeros((2, GROUPS), float_dtype()),
        counts=jnp.zeros((2, GROUPS), jnp.int32),
    )


def _ask(team: Team, space, state: PortfolioState):
    def ask_member(i, state):
        x, new = team.on(space)[i].ask(space, state.members[i])
        return x, state._replace(members=_put(state.members, i, new))

    def ask_noisy(state):
        x, new = team.noisy.ask(space, state.noisy_member)
        return x, state._replace(noisy_member=new)

    def ask_again(state):
        first = jnp.minimum(state.evaluations, len(state.starts) - team.batch_size)
        starts = lax.dynamic_slice_in_dim(state.starts, first, team.batch_size)
        answer, _ = team.noisy.best(state.noisy_member)
        answers = _closes(team, state) & (_places(team, state) == 1)
        best = jnp.where(answers[:, None], answer, state.x)
        return jnp.where(_begins(state), starts, best), state

    return _switch(team, state, ask_member, ask_noisy, ask_again)


def _tell(team: Team, space, state: PortfolioState, x, values) -> PortfolioState:
    def keep_all(state):
        for i in range(team.batch_size):
            state = keep_best(state, x[i], values[i])
        return state._replace(left=state.left - team.batch_size)

    def tell_member(i, state):
        new = team.on(space)[i].tell(space, state.members[i], x, values)
        return keep_all(state._replace(members=_put(state.members, i, new)))

    def tell_noisy(state):
        new = team.noisy.tell(space, state.noisy_member, x, values)
        state = state._replace(noisy_member=new)
        # Once it works alone, the least of all values says less than its answer.
        return select(state.noisy, state, keep_all(state))

    def tell_again(state):
        for i in range(team.batch_size):
            state = _told_again(team, state, _places(team, state)[i], x[i], values[i])
        return state

    again, earlier, closes = _looks_again(state), state.evaluations, _closes(team, state)
    working = jnp.where(state.noisy, len(state.members), state.active)
    here = jnp.arange(len(state.used)) == working
    state = _switch(team, state, tell_member, tell_noisy, tell_again)
    n = len(state.starts)
    over = jnp.where(again, earlier >= n, (state.left <= 0) & ~_looks_again(state))
    state = state._replace(
        evaluations=earlier + team.batch_size,
        used=state.used + jnp.where(here & ~again, team.batch_size, 0),
    )
    ends = over & ~state.noisy & ~closes
    return changed_if(ends, partial(_next_turn, team, space), state, earlier > n)


def _told_again(team: Team, state: PortfolioState, place, x, value) -> PortfolioState:
    """A start, another value of the best point, or, at the end, of one of the two answers."""
    difference = jnp.abs(value - state.value)
    known = ~_begins(state) & jnp.isfinite(difference)
    looked = state.evaluations + 1
    seen = state._replace(
        noise=jnp.maximum(state.noise, jnp.where(known, difference, 0)),
        looked=jnp.where(known, looked, state.looked),
        value=jnp.where(jnp.isfinite(value), value, state.value),
    )
    other = state._replace(looked=jnp.where(_begins(state), 0, looked))
    # Another point at the start, and in a small space, where no point is evaluated twice.
    same = ~_begins(state) & jnp.all(x == state.x)
    # The last batch may have fewer values than points. The others are inf.
    group = jnp.argmin(state.counts[place])
    here = (jnp.arange(2)[:, None] == place) & (jnp.arange(GROUPS) == group) & jnp.isfinite(value)
    compared = state._replace(
        sums=state.sums + jnp.where(here, value, 0),
        counts=state.counts + jnp.where(here, 1, 0),
    )
    earlier = select(same, seen, keep_best(other, x, value))
    return select(_closes(team, state), compared, earlier)


def _begins(state: PortfolioState) -> jax.Array:
    """Whether the random points at the start are evaluated."""
    return state.evaluations < len(state.starts)


def _closes(team: Team, state: PortfolioState) -> jax.Array:
    """Whether the last evaluations compare the noisy member's answer with the best point."""
    least = max(FEW, 2 * team.batch_size - 1)  # so that one batch is whole
    share = jnp.maximum(lax.div(state.budget, np.int32(SHARE)), least)
    return _has_two_answers(state) & (state.evaluations >= state.budget - share)


def _has_two_answers(state: PortfolioState) -> jax.Array:
    """Whether the noisy member has worked with enough turns for an answer of its own."""
    few = has_few_turns(len(state.x), state.budget)
    return state.noisy | ((state.used[-1] > 0) & ~few)


def _places(team: Team, state: PortfolioState) -> jax.Array:
    """Which answers are evaluated: 0 for the best point, 1 for the noisy member's."""
    return (state.evaluations + jnp.arange(team.batch_size)) & 1


def _looks_again(state: PortfolioState) -> jax.Array:
    """Whether no member is asked: at the start, and for a new evaluation of the best point.

    The best start is evaluated twice. Without noise, the best point is when the evaluations have doubled;
    with noise, at the end of a turn that gained.
    """
    doubled = state.evaluations >= 2 * state.looked
    worth = jnp.where(state.noise > 0, state.value < state.before, doubled)
    return (state.evaluations <= len(state.starts)) | (worth & (state.left <= 0))


def _switch(team: Team, state: PortfolioState, member, noisy, again):
    """Calls member(i, state), noisy(state) or, for a new evaluation, again(state)."""
    n = len(state.members)
    repeats = _closes(team, state) | (~state.noisy & _looks_again(state))
    which = jnp.where(repeats, n + 1, jnp.where(state.noisy, n, state.active))
    return lax.switch(which, [*(partial(member, i) for i in range(n)), noisy, again], state)


def _inject(team: Team, space, state: PortfolioState, x, value) -> PortfolioState:
    return _share(team, space, keep_best(state, x, value))


def _best(team: Team, state: PortfolioState):
    """The best point, or the noisy member's answer, once it works alone.

    At the end of the budget, both have medians of fresh values, and the lower one wins. Before that, the
    noisy member's answer must not be worse by more than the noise.
    """
    x, value = team.noisy.best(state.noisy_member)
    better = _has_two_answers(state) & (value < state.value + state.noise)
    early = select(better, (x, value), (state.x, state.value))
    middle = _middles(state)
    late = select(middle[1] < middle[0], (x, middle[1]), (state.x, middle[0]))
    return select(jnp.all(jnp.isfinite(middle)), late, early)


def _middles(state: PortfolioState) -> jax.Array:
    """(2,) medians of the groups' means; inf without values."""
    known = state.counts > 0
    means = state.sums / jnp.maximum(state.counts, 1).astype(state.sums.dtype)
    means = jnp.sort(jnp.where(known, means, np.inf), axis=1)
    last = jnp.maximum(jnp.sum(known, axis=1) - 1, 0)
    ends = jnp.stack([last // 2, (last + 1) // 2], axis=1)
    return jnp.mean(jnp.take_along_axis(means, ends, axis=1), axis=1)


def _default_members(space: Space, batch_size: int) -> tuple[Algorithm, ...]:
    by_coordinate = side_by_side(coordinate_search(), batch_size)
    if np.sum(space.kinds == CONTINUOUS) < 2:
        return (by_coordinate,)
    smooth = quadratic_model if batch_size > 1 and space.dimension <= NARROW else quasi_newton
    n = default_population(space.dimension) * (LARGE if _late(space) else 1)
    basins = cma_es(n, batch_size=batch_size)
    return basins, smooth(batch_size=batch_size), by_coordinate


def _late(space: Space) -> int:
    """Evaluations before `cma_es` has its share. Differences do not move integers: with most, none."""
    return 0 if np.mean(space.kinds == ORDERED) > 0.5 else LATE * space.dimension


def _next_turn(team: Team, space, state: PortfolioState, credit) -> PortfolioState:
    """The end of a turn: its member is credited, except for the start, and the next one is chosen."""
    n, turn = len(state.members), _turn(space.dimension)
    # Without a finite value there is no gain: inf - inf is nan, and would stay.
    gain = jnp.where(jnp.isinf(state.value), 0.0, state.before - state.value) / turn
    old = state.rates[state.active]
    with_noise = jnp.maximum(gain, old / 4)  # one turn may fail
    rate = jnp.where(jnp.isinf(old) | (state.noise == 0), gain, with_noise)
    rates = jnp.where(credit & (jnp.arange(n + 1) == state.active), rate, state.rates)
    # Noise spoils differences most. So the last member begins, which takes none, or, with few turns, the
    # noisy member.
    few = (state.noise > 0) & has_few_turns(space.dimension, state.budget)
    rates = jnp.where(few, _of_two(rates), rates)
    first = jnp.where(state.noise > 0, n - 1 + few, state.active)
    u, random = draw(state.random, 1)
    active = _next_member(team, space, state, rates, few, u[0])
    luck = jnp.max(rates[:n]) * turn < state.noise
    leads = (state.used[n] >= LEAST * turn) & (rates[n] > jnp.max(rates[:n]))
    noisy = leads | (luck & ~has_few_turns(space.dimension, state.budget - state.evaluations))
    informed = team.noisy.inject(space, state.noisy_member, state.x, state.value)
    state = state._replace(
        random=select(credit, random, state.random),
        noisy=noisy,
        noisy_member=select(state.noise > 0, informed, state.noisy_member),
        active=jnp.where(credit, active, first).astype(jnp.int32),
        left=jnp.int32(turn),
        before=state.value,
        rates=rates,
    )
    return _share(team, space, state)


def _next_member(team: Team, space, state: PortfolioState, rates, few, u) -> jax.Array:
    """A member that is due, else the one that gained most, or with the fewest evaluations."""
    n, is_late = len(state.members), np.append(team.is_late(space), False)
    # With noise, the noisy member has the turns of the late one.
    competes = is_late & (state.noise > 0) & ~few
    used = jnp.where(competes, state.used[n], state.used)
    after = state.evaluations - _late(space)
    worth = state.budget >= LATE * space.dimension
    half = worth & (state.evaluations < lax.div(state.budget, np.int32(2)))
    least = jnp.where(competes, NOISY_FLOOR * state.evaluations * half, FLOOR * after * is_late)
    due = (used < least) & ~few
    explores = u < team.exploration
    waits = is_late & ~competes & (after < 0) & explores
    rarest = jnp.argmin(jnp.where(waits, np.iinfo(np.int32).max, used)[:n])
    greedy = jnp.where((jnp.max(rates) > 0) | few, jnp.argmax(rates), rarest)
    greedy = jnp.where(jnp.any(due), jnp.argmax(due), greedy)
    of_two = jnp.where(state.active == n, n - 1, n)
    active = jnp.where(explores, jnp.where(few, of_two, rarest), greedy)
    return jnp.where(competes[active], n, active)


def _of_two(rates: jax.Array) -> jax.Array:
    """The rates of the last member and of the noisy one, with -inf for all others."""
    member = jnp.arange(len(rates))
    new = (member == len(rates) - 1) & jnp.isneginf(rates)
    return jnp.where(member < len(rates) - 2, -jnp.inf, jnp.where(new, jnp.inf, rates))


def _share(team: Team, space, state: PortfolioState) -> PortfolioState:
    """All members learn the best point."""
    members = tuple(
        algorithm.inject(space, member, state.x, state.value)
        for algorithm, member in zip(team.on(space), state.members, strict=True)
    )
    return state._replace(members=members)


def _put(members: tuple, i: int, new) -> tuple:
    return members[:i] + (new,) + members[i + 1 :]


def _turn(d: int) -> int:
    return 2 * d + 8


def has_few_turns(d: int, budget):
    """Whether the noisy member would have too few turns to take over, with d coordinates."""
    return budget < LEAST * _turn(d)
