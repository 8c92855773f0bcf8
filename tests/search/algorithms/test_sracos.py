"""SRACOS: the two sets against a plain reference, and the laws of the box."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.search.engine._helpers import run
from zojax import search
from zojax.search._random import make_random
from zojax.search.algorithms import _box
from zojax.search.algorithms._region import region_of
from zojax.search.algorithms._sequential import is_positive, start, tell_point

SPACE = search.space(search.uniform(0, 1, (3,)))


class Reference:
    """The sets as lists of (value, number), as the paper words it."""

    def __init__(self, positives, negatives):
        self.sizes, self.positives, self.negatives = (positives, negatives), [], []

    def tell(self, value, number):
        if not np.isfinite(value):
            return
        self.positives = sorted([*self.positives, (value, number)])
        if len(self.positives) <= self.sizes[0]:
            return
        rival = self.positives.pop()
        if len(self.negatives) == self.sizes[1]:
            worst = max(self.negatives)
            if rival[0] >= worst[0]:
                return
            self.negatives.remove(worst)
        self.negatives.append(rival)


def test_worst_replacement_keeps_the_sets_of_the_paper():
    state = start(2, jax.random.key(0), SPACE, 50)
    reference = Reference(2, len(state.values) - 2)
    tell = jax.jit(partial(tell_point, "worst", SPACE))
    values = np.random.default_rng(0).permutation(60) / 60.0
    values[[3, 17]] = np.inf
    for number, value in enumerate(values):
        state = tell(state, jnp.full(3, number / 60.0), jnp.float32(value))
        reference.tell(np.float32(value), number)
        numbers = np.round(np.asarray(state.points)[:, 0] * 60).astype(int)
        known = np.isfinite(state.values)
        ranked = [numbers[i] for i in state.positives if known[i]]
        assert ranked == [number for _, number in reference.positives]
        others = known & ~np.asarray(is_positive(state))
        assert set(numbers[others]) == {number for _, number in reference.negatives}


@pytest.mark.parametrize("replacement", ["random", "margin"])
def test_other_replacements_keep_the_best_as_positives(replacement):
    state = start(3, jax.random.key(0), SPACE, 200)
    tell = jax.jit(partial(tell_point, replacement, SPACE))
    rng = np.random.default_rng(1)
    seen = []
    for _ in range(40):
        x, value = rng.random(3, np.float32), np.float32(rng.random())
        before = state
        state = tell(state, x, value)
        seen.append(value)
        np.testing.assert_array_equal(state.values[state.positives][: len(seen)], sorted(seen)[:3])
    negatives = ~np.asarray(is_positive(before))
    if replacement == "margin":
        distance = np.linalg.norm(before.points - before.points[before.positives[0]], axis=1)
        far = np.argmax(np.where(negatives, distance, -1))
        assert before.points[far].tolist() not in np.asarray(state.points).tolist()


@pytest.mark.parametrize("parity", [False, True])
def test_samples_move_few_coordinates_and_stay_on_the_good_side_of_bad_points(parity):
    d = 150
    space = search.space(search.uniform(0, 1, (d,)))
    points = space.sample(jax.random.key(1), 8)
    bad = jnp.arange(8) > 0

    def one(key):
        return _box.sample(space, make_random(key), points, jnp.int32(0), bad, parity)

    x = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 500)))
    moved = x != np.asarray(points[0])
    assert 1 <= moved.sum(axis=1).min() and moved.sum(axis=1).max() == 2  # d > 100: two
    assert stats.chisquare(moved.sum(axis=0)).pvalue > 1e-4  # no coordinate is preferred
    assert (x >= 0).all() and (x <= 1).all()
    if not parity:
        good, others = np.asarray(points[0]), np.asarray(points[1:])
        above, below = x[:, None] > others, x[:, None] < others
        beyond = ((others > good) & above) | ((others < good) & below)
        assert not (beyond & moved[:, None]).any()


def test_integers_are_cut_between_the_good_and_the_bad_point():
    space = search.space(search.integers(0, 99))
    points = jnp.array([[50.0], [60.0], [41.0]])

    def one(key):
        bad = jnp.array([False, True, True])
        return _box.sample(space, make_random(key), points, jnp.int32(0), bad, False)

    x = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 400)))
    assert x.min() > 41 and x.max() < 60 and (x == np.round(x)).all()
    assert len(np.unique(x)) > 10


def test_one_true_entry_is_picked_uniformly():
    mask = jnp.array([False, True, True, False, True, True, False, True])
    words = jax.random.bits(jax.random.key(0), (20_000,))
    chosen = np.asarray(jax.vmap(partial(_box.pick, mask))(words))
    assert (chosen.sum(axis=1) == 1).all()
    assert stats.chisquare(chosen.sum(axis=0)[np.asarray(mask)]).pvalue > 1e-4
    assert not np.asarray(_box.pick(jnp.zeros(4, bool), words[0])).any()


def test_exploration_is_as_frequent_as_asked_and_shared_by_runs():
    algorithm = search.sracos(exploration=0.2)
    space = search.space(search.uniform(0, 1, (20,)))

    def moved(key):
        def step(state, _):
            x, state = algorithm.ask(space, state)
            uniform = jnp.all(jnp.all(state.points != x, axis=1))  # no coordinate is kept
            several = jnp.min(jnp.sum(state.points != x, axis=1)) > 2
            return algorithm.tell(space, state, x, jnp.sum(x, axis=1)), uniform | several

        return jax.lax.scan(step, algorithm.init(key, space, 20), None, 1500)[1]

    explored = np.asarray(jax.jit(jax.vmap(moved))(jax.random.split(jax.random.key(0), 2)))
    np.testing.assert_array_equal(explored[0], explored[1])
    rate = explored[0, 4:].mean()
    assert abs(rate - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 1496)


def test_the_region_shrinks_by_its_factor_around_the_best_point():
    domains = search.uniform(-1, 1, (3,)), search.integers(0, 99), search.choice([1, 2])
    space = search.space(list(domains))
    algorithm = search.sracos(shrinking=0.8, frequency=0.2)
    first = algorithm.init(jax.random.key(0), space, 400)
    low, high = region_of(0.8, space, first)
    np.testing.assert_array_equal((low, high), (space.low, space.high))
    center = jnp.array([0.1, 0.0, -0.1, 40, 0])
    for k in (3, 9):
        low, high = region_of(0.8, space, first._replace(center=center, shrinks=jnp.int32(k)))
        volume = np.prod((high - low)[:3])
        np.testing.assert_allclose(volume, 2.0**3 * 0.8 ** (3 * k), rtol=1e-5)
        np.testing.assert_allclose((low + high)[:3] / 2, center[:3], atol=1e-6)
        reach = np.floor(0.5 * 99 * 0.8**k)
        assert (low[3], high[3]) == (40 - reach, 40 + reach)
        assert (low[4], high[4]) == (0, 1)


def test_redrawn_coordinates_lie_in_the_region():
    space = search.space(search.uniform(-1, 1, (4,)))
    algorithm = search.sracos(shrinking=0.7, frequency=0.1, exploration=0.0)

    def step(state, _):
        x, asked = algorithm.ask(space, state)
        low, high = region_of(0.7, space, asked)
        moved = jnp.all(x != state.inner.points, axis=0)
        inside = jnp.where(moved, (x[0] >= low) & (x[0] <= high), True)
        next_state = algorithm.tell(space, asked, x, jnp.sum((x - 0.3) ** 2, axis=1))
        shrank = asked.shrinks > state.shrinks
        centered = ~shrank | jnp.all(asked.center == algorithm.best(state)[0])
        return next_state, (jnp.all(inside) & centered, asked.shrinks, jnp.sum(moved))

    start_state = algorithm.init(jax.random.key(0), space, 50)
    end, (sound, shrinks, moved) = jax.jit(lambda s: jax.lax.scan(step, s, None, 1000))(start_state)
    assert sound.all() and moved[4:].max() == 1
    assert shrinks[3] == 0  # four points at the start
    assert abs(shrinks[-1] - 0.1 * 996) < 5 * np.sqrt(996 * 0.1 * 0.9)
    assert algorithm.best(end)[1] < 0.05


ANY = [search.sracos, search.racos, search.asracos, partial(search.ssracos, parity=False)]


def corner(x, low):
    return jnp.where(jnp.all(x > low), jnp.sum(x), jnp.inf)


@pytest.mark.parametrize("make", ANY)
def test_while_nothing_is_finite_points_are_uniform(make):
    space, options = search.uniform(0, 1, (3,)), {"budget": 600, "key": 0, "repeats": 8}
    nothing, found = (
        search.minimize(corner, space, make(), args=(low,), **options) for low in (1.0, 0.75)
    )
    assert np.isinf(nothing.run_values).all() and np.isfinite(found.run_values).all()
    assert stats.kstest(nothing.history.points[:200].ravel(), "uniform").pvalue > 1e-4


def test_parity_proposes_around_points_without_a_value_as_zoopt_does():
    found = run(lambda x: jnp.inf * x[0], SPACE, search.sracos(parity=True), budget=60)
    assert len(np.unique(found.history.points[:, 0])) < 40
