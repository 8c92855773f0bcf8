"""What functions a search takes, and where it runs them."""

import dataclasses
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.search.engine._helpers import compiled
from zojax import search

LINE = search.uniform(-1, 1)
BOX = search.uniform(-1, 1, (2,))


def run(fun, space=LINE, budget=60, key=0, **options):
    algorithm = options.pop("algorithm", search.coordinate_reset())
    return search.minimize(fun, space, algorithm, budget=budget, key=key, **options)


def test_arguments_that_are_no_arrays_are_for_the_host():
    def fun(x, norm):
        return x**2 if norm == "l2" else abs(x)

    assert run(fun, args=("l2",)).best_value < 0.01
    with pytest.raises(TypeError, match="must be arrays, got 'l2': pass jit=False"):
        run(fun, args=("l2",), jit=True)


def test_arguments_that_decide_in_python_are_for_the_host():
    assert run(lambda x, n: x**2 if n > 1 else abs(x), args=(2,)).best_value < 0.01


@dataclasses.dataclass
class Model:
    shift: float

    def __call__(self, x):
        return (x - self.shift) ** 2

    def loss(self, x):
        return self(x)


@pytest.mark.parametrize("fun_of", [lambda model: model, lambda model: model.loss])
def test_objects_are_traced_anew(fun_of):
    model = Model(0.5)
    first = run(fun_of(model), jit=True)
    model.shift = -0.5
    second = run(fun_of(model), jit=True)
    assert abs(first.best - 0.5) < 0.1 and abs(second.best + 0.5) < 0.1


def test_a_function_is_traced_in_its_first_search_alone():
    traces = []

    def fun(x):
        traces.append(1)
        return x**2

    first = run(fun)
    once = len(traces)
    assert first.best == run(fun).best and len(traces) == once
    assert run(fun, args=()).best == first.best and len(traces) == once
    run(fun, space=search.uniform(0, 1))
    assert len(traces) > once


@pytest.mark.parametrize("draw", [random.random, np.random.random])
def test_global_randomness_is_not_frozen(draw):
    values = run(lambda x: 0 * x + draw()).history.values
    assert len(set(values.tolist())) == 60


def test_randomness_of_a_generator_is_not_frozen():
    draw = np.random.default_rng(0).normal
    algorithm = search.resample(search.sracos(), 5)
    result = run(lambda x: jnp.sum(x**2) + draw(), algorithm=algorithm, budget=10)
    assert len(np.unique(result.history.values)) == 10


def test_programs_that_differ_by_addresses_alone_are_the_same():
    key = jax.random.key(0)

    def network(x):  # its derivatives are functions made anew in every trace
        hidden = jax.nn.relu(x + jax.random.normal(key, x.shape))
        return jnp.sum(jax.grad(lambda h: jnp.sum(jax.nn.gelu(h)))(hidden))

    calls = []
    run(lambda x: (calls.append(1), network(x))[1], budget=50)
    assert len(calls) < 10


@pytest.mark.parametrize(
    ("returned", "message"), [(None, "got None"), ([1.0, 2.0], "shape"), (1j, "complex")]
)
def test_what_a_compiled_function_must_return(returned, message):
    def fun(x):
        return None if returned is None else jnp.sum(x) + jnp.asarray(returned)

    with pytest.raises(TypeError, match=f"fun must return.*{message}"):
        run(fun, budget=10, jit=True)


def test_arrays_of_one_number_are_scalars_on_the_host():
    result = run(lambda x: np.array([float(x) ** 2]))
    assert result.failures == 0 and result.best_value < 0.01
    with pytest.warns(UserWarning, match="must return a scalar, got shape .* pass objectives=n"):
        result = run(lambda x: np.zeros(2), jit=False, catch=(TypeError,))
        assert result.failures == 60


def test_host_functions_get_float64_within_the_bounds():
    seen = []
    space = {"x": search.uniform(0.7, 1), "y": search.uniform(0, 1, step=0.1), "z": BOX}
    result = run(lambda p: seen.append(p) or -p["y"] - p["x"], space, jit=False, budget=200)
    assert all(0.7 <= p["x"] <= 1 and p["z"].dtype == np.float64 for p in seen)
    assert {p["y"] for p in seen} <= {i / 10 for i in range(11)}
    assert result.best["x"] <= 1 and result.best["y"] == 1


def test_the_best_value_is_what_a_host_function_returned():
    result = run(lambda x: float(np.sum((x - 0.3) ** 2)) + 1 / 3, BOX, jit=False)
    assert result.best_value == result.history.values.min() == result.history.best_values[-1]


def test_integers_beyond_int32_are_for_the_host():
    low = 10**10
    space = search.integers(low, low + 100)
    result = run(lambda n: float((n - low - 40) ** 2), space, budget=101)
    assert result.best == low + 40 and isinstance(result.best, int)
    with pytest.raises(TypeError, match="beyond int32.*jit=False"):
        run(lambda n: n * 1.0, space, jit=True)


@pytest.mark.parametrize(
    "fun, space",
    [
        (lambda n: (n - 50_000) ** 2, search.integers(0, 100_000)),
        (lambda n: jnp.sum((n - 50_000) ** 2), search.integers(0, 100_000, (2,))),
        (lambda n: 100 // n, search.integers(0, 9)),
    ],
)
def test_integers_that_overflow_are_reported(fun, space):
    with pytest.warns(UserWarning, match=r"compiled fun returned -.*1\.0 \* n.*jit=False.*x64"):
        run(fun, space, algorithm=search.random_search())


def test_integers_that_fit_are_not_reported(recwarn):
    line = search.integers(0, 100_000)
    run(lambda n: abs(n - 50_000), line)
    run(lambda n: (1.0 * n - 50_000) ** 2, line)
    run(lambda n: n.astype(int) ** 3, line, init_points=[1], init_values=[-5])  # for tracers alone
    with jax.enable_x64(True):
        anywhere = search.random_search()
        assert run(lambda n: (n - 50_000) ** 2, line, algorithm=anywhere).best_value >= 0
    assert not recwarn.list


def test_values_that_float32_cannot_resolve_are_reported():
    wide = search.uniform(-1, 1, (1000,))  # XLA runs its search, in float32
    with pytest.warns(UserWarning, match="differ by less than float32 resolves.*x64"):
        run(lambda x: 1e6 + 1e-2 * float(x.sum()), wide, jit=False)
    with pytest.warns(UserWarning, match="beyond float32: scale it down"):
        assert run(lambda x: 1e39 * (2 + float(x[0])), wide, jit=False).failures == 60


def test_values_of_the_host_have_float64(recwarn):
    result = run(lambda x: 1e6 + 1e-2 * float(x) ** 2, jit=False)
    assert result.best_value - 1e6 < 1e-5
    assert run(lambda x: 1e39 * (2 + float(x)), jit=False).failures == 0
    assert not recwarn.list
    with pytest.warns(UserWarning, match="differ by less than float64 resolves: .* in fun.$"):
        run(lambda x: 1e15 + float(x), jit=False)


def test_points_are_not_kept_beyond_a_limit(monkeypatch):
    monkeypatch.setattr("zojax.search.engine.task.POINTS_KEPT", 100)
    assert run(lambda x: float(x) ** 2, budget=101, jit=False).history.points is None
    assert len(run(lambda x: float(x) ** 2, budget=100, jit=False).history.points) == 100


def test_points_may_come_as_an_array():
    points = np.array([[0.1, 0.2], [0.3, 0.4]])
    found = run(lambda x: x @ x, BOX, init_points=points)
    np.testing.assert_allclose(found.history.points[:2], points)
    options = search.choice([np.zeros(2), np.ones(2)])
    assert run(lambda x: x.sum(), options, init_points=[np.ones(2)]).best.sum() == 0


def test_known_values_that_failed_do_not_win():
    for jit in (True, False):
        result = run(lambda x: x**2, init_points=[0.5, 1], init_values=[np.nan, 0.9], jit=jit)
        assert 0 <= result.best_value < 0.01


@pytest.mark.optimized
@pytest.mark.parametrize("algorithm", [search.random_search(), search.quasi_newton(), None])
def test_every_part_is_the_same_program(algorithm, caplog):
    def loss(x):
        return jnp.sum(x**2)

    options = {"algorithm": algorithm, "callback": lambda p: False, "budget": 200}
    log = compiled(caplog, lambda: run(loss, BOX, **options))
    assert sum("advance" in line for line in log) == 1, log


def test_another_function_compiles_the_part_that_has_it_alone(caplog):
    def search_once():
        run(lambda x: jnp.sum(x**2), BOX, budget=20)

    search_once()
    log = compiled(caplog, search_once)
    assert log and all("advance" in line for line in log), log


def test_a_search_on_the_host_compiles_once(caplog):
    def search_once():
        run(lambda x: float(np.sum(x**2)), BOX, jit=False, budget=20)

    search_once()
    assert not compiled(caplog, search_once)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_keys_are_those_of_the_host(batch_size):
    def noisy(x, key):
        return jnp.sum(x**2) + jax.random.normal(key)

    points = list(np.linspace(-1, 1, 4).reshape(2, 2))
    options = {"algorithm": search.random_search(batch_size), "init_points": points}
    device, host = (run(noisy, BOX, with_key=True, jit=jit, **options) for jit in (True, False))
    np.testing.assert_allclose(device.history.values, host.history.values, rtol=1e-5)


def test_keys_differ_between_runs():
    result = run(lambda x, key: 0 * x + jax.random.normal(key), with_key=True, repeats=3, budget=1)
    assert len(set(result.run_values.tolist())) == 3


def fine(x):
    return jnp.sum(x**2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fun": None}, "fun must be a function of a point, got None"),
        ({"args": 0.3}, "args must be a tuple .* got 0.3"),
        ({"target": "a"}, "target must be a number, got 'a'"),
        ({"init_values": 0.05}, "init_values must be a list, .* got 0.05"),
        ({"init_points": 0.05}, "init_points must be a list, .* got 0.05"),
        ({"init_points": [np.zeros(2)], "init_values": ["a"]}, "init_values must be numbers"),
        ({"executor": 4}, "executor must be .* got 4"),
        ({"callback": 3}, "callback must be .* got 3"),
        ({"maximize": "yes"}, "maximize must be True or False, got 'yes'"),
        ({"jit": "no"}, "jit must be True or False, got 'no'"),
    ],
)
def test_options_of_a_wrong_type_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        run(**{"fun": fine, "space": BOX, **options})


def test_the_best_point_is_the_one_that_was_evaluated():
    def fun(x):
        return 0.0 if x == 0.3 else 1.0

    for known in (None, [0.0]):
        found = run(fun, search.uniform(0, 1), 10, init_points=[0.3], init_values=known, jit=False)
        assert fun(found.best) == found.best_value == 0


def test_snes_knows_its_best_point_before_its_first_generation():
    found = run(lambda x: (x - 0.3) ** 2, budget=10, algorithm=search.snes(population=16))
    assert found.best_value == found.history.values.min()


@pytest.mark.parametrize("returned", [1j, np.complex64(1), "3", None])
def test_what_is_no_real_number_is_a_failure(returned):
    with pytest.warns(UserWarning, match="an evaluation failed.*must return a real number, got"):
        assert run(lambda x: returned, jit=False, catch=(TypeError,)).failures == 60


def test_transformations_of_a_search_are_refused_with_a_remedy():
    def best(key):
        return run(fine, BOX, key=key).best

    for mapped in (jax.vmap(best), jax.jit(best)):
        with pytest.raises(TypeError, match="repeats= .* ask and tell"):
            mapped(jax.random.split(jax.random.key(0), 3))


@pytest.mark.parametrize(
    "options",
    [{"algorithm": search.random_search(3)}, {"repeats": 2}, {"init_points": list(np.eye(2))}],
)
def test_callbacks_that_cannot_be_batched_are_told_of_the_host(options):
    def fun(x):
        scalar = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(lambda x: np.float32(np.sum(x**2)), scalar, x)

    with pytest.raises(NotImplementedError, match="vmap") as error:
        run(fun, BOX, budget=6, **options)
    assert any("pass jit=False" in note for note in error.value.__notes__)
    assert run(fun, BOX, budget=6, jit=False, **options).failures == 0
