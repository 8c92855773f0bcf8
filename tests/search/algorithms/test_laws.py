"""One table of all algorithms, and the properties that they share."""

import inspect
from functools import cache, partial
from typing import get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests._laws import fast
from tests._numpy import by_numpy
from tests.search.algorithms._laws import (
    ALGORITHMS,
    BUDGET,
    CONTINUUM,
    MIXED,
    STEPS,
    SUBSETS,
    compiled_run,
    first_state,
    run,
    started,
    value_of,
)
from tests.search.engine._helpers import run as find
from zojax import search


def test_every_public_algorithm_is_in_the_table():
    functions = {n: f for n in search.__all__ if inspect.isfunction(f := getattr(search, n))}
    kinds = {n: get_type_hints(f).get("return") for n, f in functions.items()}
    public = {name for name, kind in kinds.items() if kind is search.Algorithm}
    assert public == {name.split(":")[0] for name in ALGORITHMS}


def rows(*dear, names=ALGORITHMS):
    """These rows by default, and the dear ones with -m slow: their programs compile slowly."""
    marked = [pytest.param(n, marks=[pytest.mark.slow] if n in dear else []) for n in names]
    return pytest.mark.parametrize("name", marked)


# The default is `sre` of a portfolio here. Both have a row of their own.
COMPOSED = "default_algorithm", "portfolio"


@cache
def first_run(name):
    return run(*ALGORITHMS[name][:2], started(name))


def same(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = jax.random.key_data(left), jax.random.key_data(right)
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    fast(
        ["default_algorithm", "sracos", "cma_es", "turbo", "nsga2", "poss"],
        [name for name in ALGORITHMS if "evosax" not in name],
    ),
)
def test_a_run_passes_leak_and_key_reuse_checks(name):
    algorithm, space, *_ = ALGORITHMS[name]

    def some(key):
        state = algorithm.init(key, space, BUDGET)
        for _ in range(2):
            x, state = algorithm.ask(space, state)
            state = algorithm.tell(space, state, x, jnp.zeros((len(x), *algorithm.value_shape)))
        return algorithm.best(state)

    with jax.checking_leaks(), jax.debug_key_reuse(True):
        jax.eval_shape(some, jax.random.key(0))


@rows(*COMPOSED)
def test_proposals_are_inside_the_space_and_of_the_right_type(name):
    algorithm, space, *_ = ALGORITHMS[name]
    _, (x, _, _) = first_run(name)
    assert x.shape == (STEPS, algorithm.batch_size, space.dimension)
    x = np.asarray(x).reshape(-1, space.dimension)
    assert (x >= space.low.astype(x.dtype)).all() and (x <= space.high.astype(x.dtype)).all()
    if space is SUBSETS:
        assert np.isin(x, (0, 1)).all() and x.sum(axis=1).max() < 6
        return
    np.testing.assert_allclose(x, np.asarray(space.clip(jnp.asarray(x))), rtol=1e-6)
    for row in x[:5]:
        space.encode(space.point(row))  # raises for what is outside
    point = space.point(x)
    assert (point["rate"] >= 1e-3 * (1 - 1e-6)).all() and (point["rate"] <= 1).all()
    if space is MIXED:
        assert np.issubdtype(point["width"].dtype, np.integer)
        assert set(point["kind"].tolist()) <= {1, 2, 3}
        assert set(point["own"].tolist()) <= {3, 4, 5, 6}


@rows(*COMPOSED, names=[name for name, row in ALGORITHMS.items() if row.is_monotone])
def test_the_recommendation_never_gets_worse_and_has_its_value(name):
    row = ALGORITHMS[name]
    _, (_, values, (best_x, best_values)) = first_run(name)
    best_values = np.asarray(best_values)
    assert (best_values[1:] <= best_values[:-1]).all()
    if row.has_lowest:
        lowest = np.minimum.accumulate(np.asarray(values).min(axis=1))
        np.testing.assert_allclose(best_values, lowest, rtol=1e-6)
    if np.isfinite(best_values[-1]):
        np.testing.assert_allclose(value_of(row.space, best_x[-1]), best_values[-1], rtol=1e-5)
    assert np.isfinite(best_values[-1])


@rows(*COMPOSED)
def test_a_state_of_arrays_that_was_saved_goes_on_as_the_run_would_have(name, tmp_path):
    algorithm, space, *_ = ALGORITHMS[name]
    state, _ = first_run(name)
    leaves, treedef = jax.tree.flatten(state)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    keys = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    raw = [jax.random.key_data(v) if k else v for v, k in zip(leaves, keys, strict=True)]
    np.savez(tmp_path / "state.npz", *raw)
    with np.load(tmp_path / "state.npz") as file:
        loaded = [jnp.asarray(file[f"arr_{i}"]) for i in range(len(raw))]
    loaded = [jax.random.wrap_key_data(v) if k else v for v, k in zip(loaded, keys, strict=True)]
    resumed = run(algorithm, space, treedef.unflatten(loaded))
    straight = run(algorithm, space, state)
    same(resumed, straight)
    assert not np.array_equal(straight[1][0], first_run(name)[1][0])  # it did go on


# Each has the code of another row, with other settings or members.
RELATED = "cma_es asracos sracos sracos:continuum sracos:region poss".split()
RELATED += ["from_evosax:distribution", "from_evosax:population"]


# The last bits of values decide what they ask for, and NumPy rounds otherwise.
SENSITIVE = "quadratic_model", "quasi_newton", "ponss"


@rows(*COMPOSED, *RELATED)
def test_vmap_over_seeds_equals_separate_runs(name):
    algorithm, space, *_ = ALGORITHMS[name]

    @jax.vmap
    def whole(seed):
        return compiled_run(algorithm, space, first_state(name, jax.random.key(seed)))[1]

    with jax.enable_x64(x64 := ALGORITHMS[name].amplifies):
        together = jax.jit(whole)(jnp.arange(2))
        run_alone = compiled_run if name in SENSITIVE else run
        alone = [run_alone(algorithm, space, started(name, seed, x64))[1] for seed in range(2)]
    for i, one in enumerate(alone):
        same(jax.tree.map(lambda leaf, i=i: leaf[i], together), one)
    assert not np.array_equal(alone[0][0], alone[1][0])


@rows(*COMPOSED)
def test_a_point_from_elsewhere_is_taken_over(name):
    algorithm, space, *_ = ALGORITHMS[name]
    x = jnp.asarray(space.clip(np.where(np.arange(space.dimension) == 1, space.high, space.low)))
    x = x.astype(jnp.zeros(()).dtype)
    inject = by_numpy(partial(algorithm.inject, space))
    lowest = jnp.full(algorithm.value_shape, -1.0)
    state = inject(started(name), x, lowest)
    best, value = algorithm.best(state)
    if algorithm.objectives > 1:  # a front of one point
        assert np.isfinite(value).all(axis=1).sum() == 1
        best, value = best[0], value[0]
    np.testing.assert_allclose(best, x, rtol=1e-6)
    assert np.all(value == -1)


BATCHES = ("random_search", "pposs")  # of three points each
SINGLE = ("sracos:continuum", "sre", "ponss")


@rows(*SINGLE, names=BATCHES + SINGLE)
def test_the_budget_is_met_exactly_and_the_host_does_as_the_device(name):
    algorithm, space, *_ = ALGORITHMS[name]

    def fun(point):
        leaves = [jnp.ravel(leaf).astype(float) for leaf in jax.tree.leaves(point)]
        return jnp.sum(jnp.abs(jnp.concatenate(leaves) - 0.3))

    budget = 17  # no multiple of a batch
    on_host = search.minimize(fun, space, algorithm, budget=budget, key=3, jit=False)
    on_device = search.minimize(fun, space, algorithm, budget=budget, key=3, jit=True)
    assert on_host.evaluations == on_device.evaluations == len(on_host.history.values) == budget
    np.testing.assert_allclose(on_host.history.values, on_device.history.values, rtol=1e-4)
    np.testing.assert_allclose(on_host.best_value, on_device.best_value, rtol=1e-4)


SETTINGS = {
    "racos": (lambda s: search.racos(exploration=s), CONTINUUM, (0.0, 0.9)),
    "ssracos": (
        lambda s: search.ssracos(times=2, idle=3, blend=s, num_positives=2),
        CONTINUUM,
        (0.1, 0.9),
    ),
    "ponss": (lambda s: search.ponss(s, 2), SUBSETS, (0.0, 0.5)),
    "evosax": (lambda s: search.from_evosax("SNES", 6, std_init=s), CONTINUUM, (0.1, 0.4)),
}


def searching(name):
    """The values of a search as a function of its setting."""
    make, space, _ = SETTINGS[name]

    def search_with(setting):
        algorithm = make(setting)
        state = algorithm.init(jax.random.key(1), space, BUDGET)

        def step(state, i):
            x, state = algorithm.ask(space, state)
            values = jax.vmap(partial(value_of, space))(x) + 0.3 * jnp.sin(7 * i)
            return algorithm.tell(space, state, x, values), values

        return jax.lax.scan(step, state, jnp.arange(40.0))[1]

    return search_with


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_are_floats_may_be_traced(name):
    settings = jnp.array(SETTINGS[name][2])
    values = jax.eval_shape(jax.vmap(searching(name)), settings)
    assert values.shape[:2] == (len(settings), 40)


@rows("ssracos", "evosax", names=SETTINGS)  # two programs each
def test_settings_that_are_floats_can_be_vmapped_over(name):
    settings, search_with = SETTINGS[name][2], searching(name)
    together = jax.jit(jax.vmap(search_with))(jnp.array(settings))
    alone_with = jax.jit(search_with)
    alone = jnp.stack([alone_with(s) for s in settings])
    # Not to the bit: sums under vmap have another order, which forty steps of a distribution amplify.
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(alone[0], alone[1])


# The engine finds repetitions. It asks `racos` and `sracos` as it asks `asracos`.
@rows("racos", "sracos", names=["random_search", "racos", "sracos", "asracos"])
def test_a_small_space_is_exhausted(name):
    space = {"kind": search.choice([1, 2, 3]), "number": search.integers(0, 3)}
    algorithm = ALGORITHMS[name].algorithm
    found = find(lambda p: (p["number"] - 2) ** 2 + p["kind"], space, algorithm, budget=50)
    assert found.evaluations == 12 and "exhausted" in found.message
    assert found.best == {"kind": 1, "number": 2}
    points = zip(found.history.points["kind"], found.history.points["number"], strict=True)
    assert len(set(points)) == 12


@pytest.mark.parametrize("name", ["pposs"])
def test_few_subsets_are_listed(name):
    worth = jnp.array([3.0, -1.0, 2.0, 2.5, 0.0])
    space, algorithm = search.subset(5, max_size=2), ALGORITHMS[name].algorithm
    found = find(lambda s: -worth @ s, space, algorithm, budget=99)
    assert found.evaluations == 16 and "exhausted" in found.message
    assert found.best.tolist() == [True, False, False, True, False]


LINE, WHOLE = search.uniform(-1, 1), search.integers(0, 9)


def on_a_line(algorithm, space=LINE, **options):
    return lambda: find(abs, space, algorithm, budget=9, jit=False, **options)


MEANS = search.resample(search.sracos(), 10)
WRONG = {
    "in_flight must be at least 1": lambda: search.asracos(in_flight=0),
    "batch_size 4, got 1": lambda: search.portfolio(search.random_search(1), batch_size=4),
    "batch_size 1, got 4": lambda: search.portfolio(search.random_search(4)),
    "needs a discrete space": on_a_line(search.iterated_local_search()),
    r"theta must lie in .*-1": lambda: search.ponss(-1),
    r"theta must lie in .*1\.0": lambda: search.ponss(1.0),
    "noise must be one of": lambda: search.ponss(noise="gaussian"),
    "b must be at least 1": lambda: search.ponss(b=0),
    "exactly one search.subset": on_a_line(search.poss()),
    "exploration must lie in .*-0.1": lambda: search.racos(exploration=-0.1),
    "exploration must lie in .*1.5": lambda: search.sracos(exploration=1.5),
    "times must be at least 1": lambda: search.resample(search.sracos(), 0),
    "budget must cover the 10 evaluations of a point, got 9": on_a_line(MEANS),
    "the 1 init_points, 10 times each, got 9": on_a_line(MEANS, init_points=[0.0]),
    "replacement must be one of": lambda: search.sracos(replacement="best"),
    "shrinking must lie in": lambda: search.sracos(shrinking=2),
    "frequency must lie in": lambda: search.sracos(shrinking=0.9, frequency=-0.1),
    "num_positives must be at least 1": lambda: search.sracos(num_positives=0),
    "low_dimension must be at least 1": lambda: search.sre(low_dimension=0),
    "sre embeds a continuum": on_a_line(search.sre(), WHOLE),
    "quasi_newton needs a continuous coordinate": on_a_line(search.quasi_newton(), WHOLE),
    "quadratic_model needs a continuous coordinate": on_a_line(search.quadratic_model(), WHOLE),
    "population must be even": lambda: search.snes(5),
    "blend must lie in": lambda: search.ssracos(blend=2),
    "idle must be at least 1": lambda: search.ssracos(idle=0),
    "num_starts must be at least 1": lambda: search.turbo(0),
    "objectives must be at least 2, got 1": lambda: search.nsga2(1),
    "population_size must be at least 1": lambda: search.nsga2(2, population_size=0),
    "batch_size must be at least 1": lambda: search.nsga2(2, batch_size=0),
}


@pytest.mark.parametrize("message", WRONG)
def test_errors_name_the_argument(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()


def test_algorithms_inside_others_must_be_algorithms():
    with pytest.raises(TypeError, match="algorithm must be one of zojax.search"):
        search.resample("sracos", 3)
    with pytest.raises(TypeError, match="inner must be one of zojax.search"):
        search.sre(inner="sracos")
