"""evosax's strategies through our ask and tell."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.search.algorithms._laws import strong
from tests.search.engine._helpers import run
from zojax import search

reason = "needs the search extra: pip install 'zojax[search]'"
strategies = pytest.importorskip("evosax.algorithms", reason=reason)


@pytest.mark.slow  # how well it does; tests of smaller strategies have the laws
def test_cma_es_finds_the_optimum_of_an_ellipsoid_and_its_state_is_plain_arrays(tmp_path):
    weights = 10.0 ** jnp.arange(4)
    space, algorithm = search.uniform(-2, 3, (4,)), search.from_evosax("CMA_ES", 10)
    found = run(lambda x: weights @ (x - 0.7) ** 2, space, algorithm, budget=3000)
    assert found.best_value < 1e-4 and found.evaluations == 3000
    np.savez(tmp_path / "state.npz", *jax.tree.leaves(found.state))


def test_a_class_will_do_and_settings_arrive():
    from evosax.algorithms import SNES

    algorithm = search.from_evosax(SNES, 8, std_init=0.01)
    space = search.space(search.uniform(-2, 2, (3,)))
    state = algorithm.init(jax.random.key(0), space, 10)
    x, _ = algorithm.ask(space, state)
    assert x.shape == (8, 3) and 0 < np.abs(x).max() < 0.3  # around the middle, .04 wide


def test_a_start_is_where_the_distribution_begins():
    algorithm = search.from_evosax("SNES", 8, std_init=1e-6)
    space = search.space(search.uniform(-2, 2, (3,)))
    start = jnp.array([1.0, -1.0, 0.5])
    state = algorithm.init(jax.random.key(0), space, 10)
    x, _ = algorithm.ask(space, algorithm.inject(space, state, start, jnp.float32(1)))
    np.testing.assert_allclose(x, np.tile(start, (8, 1)), atol=1e-4)


def test_failures_do_not_reach_the_distribution():
    algorithm = search.from_evosax("CMA_ES", 6)
    space = search.space(search.uniform(0, 1, (3,)))
    state = jax.jit(lambda key: strong(algorithm.init(key, space, 10)))(jax.random.key(0))

    @jax.jit
    def told(state, values):
        x, state = algorithm.ask(space, state)
        return strong(algorithm.tell(space, state, x, values))

    for values in ([1, jnp.inf, 2, 3, jnp.inf, 0], [jnp.inf] * 6):
        state = told(state, jnp.array(values, jnp.float32))
        leaves = jax.tree.leaves(state.strategy)
        leaves = [v for v in leaves if jnp.issubdtype(v.dtype, jnp.floating)]
        assert not any(np.isnan(leaf).any() for leaf in leaves)
    assert algorithm.best(state)[1] == 0


def uniform(key):
    return jax.random.uniform(key, (5,))


ARGUMENTS = {  # of the strategies that need some
    "RandomSearch": {"sampling_fn": uniform},
    "SV_CMA_ES": {"num_populations": 2},
    "SV_Open_ES": {"num_populations": 2},
}
CUBE = search.space(search.uniform(-2, 3, (5,)))


def population_of(algorithm, steps=1):
    """The proposals of some steps on a bowl, (steps, batch_size, d), and their values."""

    def step(state, _):
        x, state = algorithm.ask(CUBE, state)
        values = jnp.sum((x - 0.7) ** 2, axis=1)
        return algorithm.tell(CUBE, state, x, values), (x, values)

    def run(key):
        return jax.lax.scan(step, algorithm.init(key, CUBE, 100), None, steps)[1]

    return run


@pytest.mark.parametrize("name", ["LM_MA_ES", "CMAAnchoredLES", *ARGUMENTS])
def test_strategies_are_built_outside_of_the_trace(name):
    algorithm = search.from_evosax(name, 8, **ARGUMENTS.get(name, {}))
    x, values = jax.eval_shape(population_of(algorithm), jax.random.key(0))
    assert x.shape == (1, algorithm.batch_size, 5) and values.shape == x.shape[:2]
    assert algorithm.batch_size == 8 * ARGUMENTS.get(name, {}).get("num_populations", 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", strategies.algorithms)
def test_every_strategy_searches(name):
    algorithm = search.from_evosax(name, 8, **ARGUMENTS.get(name, {}))
    x, values = map(np.asarray, jax.jit(population_of(algorithm, 50))(jax.random.key(0)))
    assert (x >= CUBE.low).all() and (x <= CUBE.high).all()
    assert len(np.unique(x.reshape(-1, 5), axis=0)) > len(x)
    assert values.min() < np.median(values[0])


def test_arguments_of_the_constructor_arrive():
    from evosax.algorithms import Open_ES

    def widths(algorithm):
        state = algorithm.init(jax.random.key(0), CUBE, 100)
        return np.std((algorithm.ask(CUBE, state)[0] - CUBE.low) / (CUBE.high - CUBE.low))

    def narrowly(generation):
        return 0.01

    def factory(population_size, solution):
        return Open_ES(population_size, solution, std_schedule=narrowly)

    narrow = search.from_evosax("Open_ES", 32, std_schedule=narrowly)
    assert 0.005 < widths(narrow) < 0.02
    for make in (factory, functools.partial(Open_ES, std_schedule=narrowly)):
        assert widths(search.from_evosax(make, 32)) < 0.02
    assert 0.15 < widths(search.from_evosax("Open_ES", 32)) < 0.3  # 1/4, at the bounds less


def test_errors_say_what_there_is(monkeypatch):
    with pytest.raises(ValueError, match="evosax has no strategy 'CMAES'; it has .*CMA_ES"):
        search.from_evosax("CMAES")
    space = search.space(search.uniform(0, 1))
    with pytest.raises(ValueError, match="SNES has no setting 'sigma'; it has .*std_init"):
        search.from_evosax("SNES", sigma=1.0).init(jax.random.key(0), space, 10)
    with pytest.raises(ValueError, match="Open_ES has no setting 'sigma'; it has .*std_schedule"):
        search.from_evosax("Open_ES", sigma=1.0).init(jax.random.key(0), space, 10)
    with pytest.raises(TypeError, match="SV_CMA_ES needs num_populations: pass from_evosax"):
        search.from_evosax("SV_CMA_ES")
    several = functools.partial(strategies.SV_CMA_ES, num_populations=2)
    with pytest.raises(ValueError, match="makes 32 points .* not 16: pass its num_populations"):
        search.from_evosax(several).init(jax.random.key(0), space, 10)
    with pytest.raises(ValueError, match="num_populations must be"):
        search.from_evosax("SV_CMA_ES", num_populations=0)
    strategy = strategies.SNES(8, jnp.zeros(5))
    message = "must be a class of evosax.*pass the class and its settings"
    with pytest.raises(TypeError, match=message):
        search.from_evosax(strategy)
    with pytest.raises(ValueError, match="evosax searches continuous spaces"):
        search.from_evosax("SNES").init(jax.random.key(0), search.space(search.integers(0, 5)), 10)
    monkeypatch.setitem(sys.modules, "evosax", None)
    with pytest.raises(ImportError, match=r"pip install \"zojax\[search\]\""):
        search.from_evosax("SNES", 5)  # settings of no earlier call, which would be reused


@pytest.mark.parametrize(("strategy", "size"), [("CMA_ES", 1), ("DifferentialEvolution", 3)])
def test_populations_that_are_too_small_are_refused(strategy, size):
    with pytest.raises(ValueError, match="population_size"):
        run(abs, search.uniform(-1, 1), search.from_evosax(strategy, size), budget=8)
