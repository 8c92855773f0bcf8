"""`minimize`: a whole run, on the device and on the host."""

import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from zojax import stencils


def bowl(x):
    return jnp.sum((x - 3.0) ** 2)


def host_bowl(x):
    """What JAX cannot trace; it is given NumPy arrays."""
    assert isinstance(x, np.ndarray)
    return float(np.sum((x - 3.0) ** 2))


def nowhere(x):
    """NaN everywhere, on the device and on the host."""
    return np.nan * x[0]


def source(**options):
    return zojax.estimator(**{"mu": 0.1, "num_directions": 4} | options)


TX = zojax.zo_sgd(0.1, source(), key=1)
X0 = jnp.array([0.0, 1.0, 2.0])
# Runs of one chunk size share a program. Where the number of directions is beside the point, it is one.


@pytest.fixture(scope="module")
def result():
    return zojax.minimize(bowl, X0, TX, 40, chunk_size=2)


def test_result_says_what_happened(result):
    assert result.steps == 40 and result.history.shape == (40,)
    assert result.evaluations == 40 * 8 and result.skipped == 0
    assert isinstance(result.value, float) and result.value == result.history[-1]
    assert result.value == pytest.approx(float(result.state.value))
    assert result.message == "all steps taken"
    np.testing.assert_allclose(result.params, 3.0, atol=1e-2)


def test_equals_a_loop_of_updates(result):
    params, state, history = X0, TX.init(X0), []
    for _ in range(40):
        updates, state = TX.update(None, state, params, value_fn=bowl)
        params = optax.apply_updates(params, updates)
        history.append(float(state.value))
    np.testing.assert_allclose(result.history, history, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.params, params, rtol=1e-5)


@pytest.mark.parametrize("stencil", [stencils.central(), stencils.forward()])
def test_host_and_device_agree(stencil):
    estimator = source(stencil=stencil, num_directions=2)
    tx = zojax.zeroth_order(optax.sgd(0.1, momentum=0.5), estimator)
    device = zojax.minimize(bowl, X0, tx, 6, key=5)
    host = zojax.minimize(host_bowl, X0, tx, 6, key=5, jit=False)
    np.testing.assert_allclose(host.params, device.params, rtol=1e-3)
    np.testing.assert_allclose(host.history, device.history, rtol=1e-3)
    assert (host.steps, host.evaluations) == (device.steps, device.evaluations)


def test_an_executor_changes_nothing_but_the_order_of_evaluations():
    def late(x):
        time.sleep(0.01 * (x[0] > 0))  # the first points end last
        return host_bowl(x)

    tx = zojax.zeroth_order(optax.sgd(0.1), source(num_directions=3))
    alone = zojax.minimize(host_bowl, X0, tx, 4, jit=False)
    with ThreadPoolExecutor(3) as pool:
        found = zojax.minimize(late, X0, tx, 4, jit=False, executor=pool)
    np.testing.assert_array_equal(found.params, alone.params)
    np.testing.assert_array_equal(found.history, alone.history)


def test_an_exception_in_an_executor_cancels_what_has_not_begun():
    seen = []

    def fails(x):
        seen.append(x)
        raise KeyError("lr")

    tx = zojax.zeroth_order(optax.sgd(0.1), source(num_directions=50))
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyError):
            zojax.minimize(fails, X0, tx, 4, jit=False, executor=pool)
        caught = zojax.minimize(fails, X0, tx, 1, jit=False, executor=pool, catch=(KeyError,))
    assert len(seen) < 2 * 100 and "100 evaluations raised" in caught.message
    with pytest.raises(ValueError, match="executor is for functions on the host: pass jit=False"):
        zojax.minimize(bowl, X0, tx, executor=pool)
    with pytest.raises(TypeError, match="executor must be one of concurrent.futures"):
        zojax.minimize(host_bowl, X0, tx, jit=False, executor=4)


@pytest.mark.parametrize("jit", [True, False])
def test_further_arguments_are_traced_once(jit, result):
    traces = []

    def shifted(x, shift, scaling):
        traces.append(type(x))
        return scaling["by"] * ((x - shift) ** 2).sum()

    runs = {}
    for shift in (3.0, 4.0):
        args = (np.full(3, shift, np.float32), {"by": 1.0})
        options = dict(args=args, chunk_size=2, jit=jit)
        traces.clear()
        runs[shift] = zojax.minimize(shifted, X0, TX, 5, **options)
        assert jit == (np.ndarray not in traces) and bool(traces) == (not jit or shift == 3.0)
    np.testing.assert_allclose(runs[3.0].history, result.history[:5], rtol=1e-4)
    assert runs[4.0].history[0] > runs[3.0].history[0] + 5


def test_a_loss_with_keys_has_further_arguments_too():
    def noisy(x, shift, *, key):
        return jnp.sum((x - shift) ** 2) + 0 * jax.random.normal(key)

    tx = zojax.zo_sgd(0.1, source(with_key=True), key=1)
    runs = [zojax.minimize(noisy, X0, tx, 2, args=(shift,)) for shift in (3.0, 4.0)]
    assert runs[1].value > runs[0].value


def test_a_target_that_any_value_meets_takes_one_step():
    assert zojax.minimize(bowl, X0, TX, 5, target=float("inf"), chunk_size=2).steps == 1


def test_float64_values_from_the_host_keep_their_digits():
    def far(x):  # in float32 all its values are 1e6
        return np.sum(np.square(x)) + 1e6

    with jax.enable_x64(True):
        tx = zojax.zo_sgd(0.1, source())
        result = zojax.minimize(far, jnp.ones(2, jnp.float64), tx, 20, key=0, jit=False)
    assert result.value < 1e6 + 0.1


def test_key_replaces_that_of_the_transformation(result):
    tx = zojax.zo_sgd(0.1, source(), key=9)
    same = zojax.minimize(bowl, X0, tx, 5, key=jax.random.key(1), chunk_size=2)
    other = zojax.minimize(bowl, X0, TX, 5, key=2, chunk_size=2)
    np.testing.assert_allclose(same.history, result.history[:5], rtol=1e-4)
    assert not np.allclose(other.history, result.history[:5], rtol=1e-4)


def test_a_state_of_another_run_is_refused():
    adam = zojax.zeroth_order(optax.adam(0.1), source())
    for other, x0, match in (
        (zojax.zo_sgd(0.1, source()), X0, "another structure"),
        (adam, jnp.zeros(4), r"float32\[4\] where tx.init\(x0\) has float32\[3\]"),
        (zojax.zeroth_order(optax.adam(0.1), source(num_directions=2)), X0, r"float32\[2\] where"),
    ):
        with pytest.raises(ValueError, match=match):
            zojax.minimize(bowl, X0, adam, 2, state=other.init(x0))


def test_deletes_nothing_of_the_caller():
    """The loop donates its buffers: parameters, keys and states of the caller are not among them."""
    key = jax.random.key(1)
    tx = zojax.zo_sgd(0.1, source(), key=key)
    first = zojax.minimize(bowl, X0, tx, 2, chunk_size=2)
    again = zojax.minimize(bowl, X0, tx, 2, key=key, chunk_size=2)
    zojax.minimize(bowl, first.params, tx, 2, state=first.state, chunk_size=2)
    np.testing.assert_array_equal(first.history, again.history)
    np.testing.assert_array_equal(X0, [0.0, 1.0, 2.0])
    assert jnp.array_equal(key, jax.random.key(1))
    assert int(first.state.count) == 2


def test_state_that_holds_an_array_twice():
    """As that of optax.lbfgs: a buffer can be donated only once."""
    inner = optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(5))
    tx = zojax.zeroth_order(
        inner, source(direction=zojax.directions.orthogonal(), num_directions=3)
    )
    assert zojax.minimize(bowl, X0, tx, 5).value < 0.1


@pytest.mark.parametrize("jit", [True, False])
def test_a_run_continues_from_its_state(jit, result):
    fun = bowl if jit else host_bowl
    half = zojax.minimize(fun, X0, TX, 3, jit=jit, chunk_size=2)
    rest = zojax.minimize(fun, half.params, TX, 2, jit=jit, state=half.state, chunk_size=2)
    history = np.concatenate([half.history, rest.history])
    np.testing.assert_allclose(history, result.history[:5], rtol=1e-4)


@pytest.mark.parametrize("jit", [True, False])
def test_stops_at_the_target(jit, result):
    target = float(result.history[4])
    first = int(np.argmax(result.history <= target * 1.001))
    run = zojax.minimize(
        bowl if jit else host_bowl, X0, TX, 40, chunk_size=2, target=target * 1.001, jit=jit
    )
    assert run.steps == first + 1 and run.value <= target * 1.001
    assert run.message == "target reached"


@pytest.mark.parametrize("budget", [8, 15, 24])
def test_keeps_to_the_budget(budget):
    calls = []

    def counted(x):
        calls.append(x)
        return host_bowl(x)

    host = zojax.minimize(counted, X0, TX, 1000, max_evaluations=budget, jit=False, chunk_size=2)
    device = zojax.minimize(bowl, X0, TX, 1000, max_evaluations=budget, chunk_size=2)
    assert len(calls) == host.evaluations == device.evaluations == 8 * (budget // 8)
    assert host.steps == device.steps == budget // 8
    assert host.message == device.message == "evaluation budget spent"


def test_a_budget_that_is_not_spent():
    run = zojax.minimize(bowl, X0, TX, 2, max_evaluations=100, chunk_size=2)
    assert run.steps == 2 and run.message == "all steps taken"


@pytest.mark.parametrize("keep_best", [False, True])
def test_chunks_of_any_length_take_the_same_steps(keep_best):
    """To the bit; a chunk of one step has no loop around it."""
    tx = zojax.zeroth_order(optax.adam(0.1), zojax.estimator(num_directions=2))
    runs = [
        zojax.minimize(bowl, X0, tx, 6, chunk_size=size, keep_best=keep_best) for size in (1, 3)
    ]
    found = [(run.params, run.best_params, run.history, run.state.value) for run in runs]
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_callback_sees_every_chunk_and_may_stop(result):
    seen = []

    def callback(progress):
        seen.append(progress)
        return progress.step >= 4

    run = zojax.minimize(bowl, X0, TX, 40, chunk_size=2, callback=callback)
    assert [p.step for p in seen] == [2, 4] and run.steps == 4
    assert run.message == "stopped by callback"
    np.testing.assert_allclose([p.value for p in seen], result.history[[1, 3]], rtol=1e-4)
    np.testing.assert_allclose(seen[1].values, result.history[2:4], rtol=1e-4)
    assert seen[1].coefficients.shape == (2, 4)
    np.testing.assert_array_equal(seen[1].coefficients[-1], seen[1].state.coefficients)
    # What it was given stays readable after later chunks.
    assert [int(p.state.count) for p in seen] == [2, 4]
    np.testing.assert_array_equal(seen[1].params, run.params)


def test_progress_bar(capsys):
    run = zojax.minimize(bowl, X0, TX, 6, chunk_size=2, progress=True)
    shown = capsys.readouterr().err
    assert "6/6" in shown and re.search(r"value=\d", shown)
    assert re.fullmatch(r"value \S+ after 6 steps, 48 evaluations: all steps taken", str(run))


def test_progress_bar_needs_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="progress=True.*pip install tqdm"):
        zojax.minimize(bowl, X0, TX, 6, progress=True)


def test_the_same_run_again_is_not_traced_again():
    traces, tx = [], zojax.zo_sgd(0.1, source())

    def loss(x):
        traces.append(1)
        return bowl(x)

    def run(x0, **options):
        before = len(traces)
        result = zojax.minimize(loss, x0, tx, 10, chunk_size=2, **options)
        return result, len(traces) - before

    first, count = run(jnp.zeros(2))
    assert count
    for options in ({"key": 5}, {"state": first.state}, {"callback": lambda p: False}):
        again, count = run(first.params, **options)
        assert not count and not np.array_equal(again.history, first.history)
    stopped, count = run(jnp.zeros(2), target=float(first.history[3]))
    assert not count and stopped.steps <= 4
    np.testing.assert_array_equal(stopped.history, first.history[: stopped.steps])
    _, count = run(jnp.zeros(3))  # another shape
    assert count


def test_an_object_that_changes_is_traced_again():
    class Loss:
        scale = 1.0

        def __call__(self, x):
            return self.scale * bowl(x)

        def method(self, x):
            return self(x)

    loss, tx = Loss(), zojax.zo_sgd(0.1, source(num_directions=1))
    for fun in (loss, loss.method):
        loss.scale = 1.0
        once = zojax.minimize(fun, jnp.zeros(2), tx, 1)
        loss.scale = 2.0
        twice = zojax.minimize(fun, jnp.zeros(2), tx, 1)
        assert twice.value == pytest.approx(2 * once.value)


def test_a_chain_around_the_source(result):
    tx = optax.chain(zojax.zeroth_order(estimator=source(), key=1), optax.sgd(0.1))
    run = zojax.minimize(bowl, X0, tx, 5)
    np.testing.assert_allclose(run.history, result.history[:5], rtol=1e-4)
    assert run.evaluations is None


@pytest.mark.parametrize("jit", [True, False])
def test_parameters_of_any_structure(jit):
    """Empty leaves, integers, keys and None are left alone, also in the best parameters."""
    params = {"w": jnp.zeros((2, 2)), "n": jnp.int32(3), "rng": jax.random.key(0), "none": None}
    params |= {"e": jnp.zeros((0, 2)), "m": jnp.zeros(0, int)}

    def fun(p):
        return ((p["w"] - p["n"]) ** 2).sum()

    run = zojax.minimize(fun, params, TX, 40, jit=jit, keep_best=True)
    np.testing.assert_allclose(run.params["w"], 3.0, atol=0.1)
    for found in (run.params, run.best_params):
        assert found["w"].shape == (2, 2) and found["e"].shape == (0, 2) and found["m"].size == 0
        assert found["rng"] == params["rng"] and int(found["n"]) == 3


@pytest.mark.parametrize("jit", [True, False])
def test_values_that_are_not_finite(jit, result):
    """No step where nothing is finite; where something is, the rest is left out and counted."""

    run = zojax.minimize(nowhere, X0, TX, 3, jit=jit)
    np.testing.assert_array_equal(run.params, X0)
    assert np.isnan(run.history).all() and np.isnan(run.value) and run.skipped == 12

    def sometimes(x):  # not finite where the first two coordinates go down from the start
        xp = jnp if jit else np
        return xp.where(xp.sum(x[:2]) < 0.9, xp.nan, xp.sum((x - 3.0) ** 2))

    run = zojax.minimize(sometimes, X0, TX, 10, jit=jit)
    assert 0 < run.skipped < 40 and np.nanmin(run.history) < result.history[0]


def test_a_target_is_not_met_by_nan():
    run = zojax.minimize(nowhere, X0, TX, 3, target=1.0)
    assert run.steps == 3
    assert run.message == (
        "all steps taken; every evaluation was NaN or infinite (12 directions in 3 steps): "
        "evaluate the loss at the first parameters, then lower mu"
    )


ERRORS = {
    "swapped": (
        {"fun": X0, "x0": bowl},
        TypeError,
        r"fun must be callable, got .*minimize\(fun, x0",
    ),
    "a factory": ({"tx": zojax.mezo}, TypeError, r"tx.update must be callable, got None"),
    "no callback": ({"callback": 3}, TypeError, "callback must be a function of a Progress, got 3"),
    "no steps": ({"num_steps": 0}, ValueError, "num_steps must be at least 1, got 0"),
    "float steps": ({"num_steps": 1e3}, TypeError, "num_steps must be an int, got 1000.0"),
    "no chunk": ({"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
    "small budget": ({"max_evaluations": 7}, ValueError, "max_evaluations.*one step of 8, got 7"),
    "budget of a chain": (
        {"tx": optax.chain(TX), "max_evaluations": 8},
        TypeError,
        "max_evaluations needs the estimator of tx.*num_steps",
    ),
    "host chain": (
        {"tx": optax.chain(TX), "jit": False},
        TypeError,
        "jit=False.*pass what zojax.zeroth_order",
    ),
    "no source": ({"tx": optax.sgd(0.1)}, TypeError, "exactly one zojax.zeroth_order, found 0"),
    "two sources": ({"tx": optax.chain(TX, TX)}, TypeError, "exactly one.*found 2"),
    "key": ({"key": "seed"}, TypeError, "key must be an int or a jax.random key, got 'seed'"),
    "an optax optimizer": ({"tx": optax.sgd(0.1)}, TypeError, "wrap an optax optimizer"),
    "a leaf that is no array": (
        {"x0": {"activation": "tanh"}},
        TypeError,
        r"x0\['activation'\] must be an array",
    ),
    "no number": (
        {"fun": lambda x: (1, 2), "jit": False},
        TypeError,
        r"a scalar, got shape \(2,\)",
    ),
    "a line search on the host": (
        {
            "tx": zojax.zeroth_order(
                optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(3))
            ),
            "jit": False,
        },
        ValueError,
        "line search",
    ),
    "catch on the device": ({"catch": (ValueError,)}, ValueError, "catch is for.*jit=False"),
    "catch no tuple": ({"catch": ValueError, "jit": False}, TypeError, "catch must be a tuple"),
    "args no tuple": (
        {"args": 5.0},
        TypeError,
        r"args must be a tuple .* got 5.0: args=\(batch,\)",
    ),
    "args no array": ({"args": ("a",)}, TypeError, r"args\[0\] must be an array or a number"),
    "vector": ({"fun": lambda x: x}, ValueError, r"scalar, got shape \(3,\)"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    given, kind, message = ERRORS[case]
    arguments = {"fun": bowl, "x0": X0, "tx": TX, "num_steps": 10} | given
    with pytest.raises(kind, match=message):
        zojax.minimize(**arguments)


def test_a_host_function_on_the_device_says_what_to_do():
    with pytest.raises(jax.errors.TracerArrayConversionError) as error:
        zojax.minimize(lambda x: np.sum(np.asarray(x)), X0, TX, 2)
    assert any("jit=False" in note for note in error.value.__notes__)


TRACED = {
    "jit": lambda jit: jax.jit(lambda: zojax.minimize(bowl, X0, TX, 2, jit=jit).params)(),
    "vmap": lambda jit: jax.vmap(lambda x: zojax.minimize(bowl, x, TX, 2, jit=jit).params)(
        X0[None]
    ),
    "keys": lambda jit: jax.vmap(lambda key: zojax.minimize(bowl, X0, TX, 2, key, jit=jit).params)(
        jax.random.split(jax.random.key(0), 2)
    ),
}


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("case", TRACED)
def test_inside_a_transformation_the_remedy_is_named(case, jit, recwarn):
    with pytest.raises(TypeError, match="loop of the host.* jax.lax.scan over tx.update"):
        TRACED[case](jit)
    assert not recwarn.list


@pytest.mark.filterwarnings("ignore:Some donated buffers")
def test_a_loss_that_reads_what_is_traced_is_refused():
    def run(c):
        return zojax.minimize(lambda x: bowl(x) + c, X0, zojax.mezo(0.1), 2).params

    with pytest.raises(TypeError, match="loop of the host"):
        jax.vmap(run)(jnp.ones(2))


def test_host_functions_see_keys_beside_their_parameters():
    x0 = {"w": jnp.ones(2), "rng": jax.random.key(0)}
    seen = []

    def fun(p):
        seen.append(p["rng"])
        return float(np.sum(p["w"] ** 2))

    result = zojax.minimize(fun, x0, zojax.mezo(0.1), num_steps=2, jit=False)
    assert len(seen) == 4 and all(key == x0["rng"] for key in seen)
    assert np.sum(np.asarray(result.params["w"]) ** 2) < 2


def test_a_large_constant_in_host_values_is_warned_of():
    with pytest.warns(UserWarning, match=r"values near 1e\+08.*subtract a constant"):
        zojax.minimize(lambda x: 1e8 + host_bowl(x), X0, TX, 2, jit=False)


def test_values_have_the_precision_of_x64():
    with jax.enable_x64(True):
        tx = zojax.zo_sgd(0.1, source(mu=1e-4, num_directions=1))
        found = zojax.minimize(lambda x: 1.0 + 1e-9 * jnp.sum(x**2), jnp.ones(3), tx, 3)
    assert 0 < found.value - 1 < 1e-8


@pytest.mark.parametrize(
    "target, kind", [("x", TypeError), (jnp.ones(2), TypeError), (np.nan, ValueError)]
)
def test_targets_that_are_no_numbers_are_refused(target, kind):
    with pytest.raises(kind, match="target must be"):
        zojax.minimize(bowl, X0, TX, 2, target=target)


# --- the best step ---------------------------------------------------------------------------------


def rough(x):
    """Steps of TX overshoot in it: the last value is not the least."""
    return 8.0 * bowl(x)


def host_rough(x):
    return 8.0 * host_bowl(x)


@pytest.mark.parametrize("jit", [True, False])
def test_the_best_parameters_are_those_before_the_step_of_the_least_value(jit):
    tx = zojax.zo_sgd(0.1, source(stencil=stencils.forward()), key=1)
    fun = rough if jit else host_rough
    run = zojax.minimize(fun, X0, tx, 12, chunk_size=5, jit=jit, keep_best=True)
    least = int(np.argmin(run.history))
    assert 0 < least < 11 and run.best_value == run.history[least]
    # A forward stencil visits x: the value is that of the parameters, to rounding.
    assert host_rough(np.asarray(run.best_params)) == pytest.approx(run.best_value, rel=1e-5)
    before = zojax.minimize(fun, X0, tx, least, chunk_size=5, jit=jit, keep_best=True)
    np.testing.assert_allclose(run.best_params, before.params, rtol=1e-5)


def test_compiled_runs_keep_the_best_parameters_where_asked(result):
    assert result.best_params is None and result.best_value == result.history.min()
    host = zojax.minimize(host_bowl, X0, TX, 2, jit=False)
    assert host.best_params.shape == X0.shape
    kept = zojax.minimize(bowl, X0, TX, 40, chunk_size=2, keep_best=True)
    np.testing.assert_array_equal(kept.params, result.params)
    np.testing.assert_array_equal(kept.history, result.history)


@pytest.mark.parametrize("jit", [True, False])
def test_without_a_finite_value_there_is_no_best(jit):
    run = zojax.minimize(nowhere, X0, TX, 2, jit=jit, keep_best=True)
    assert run.best_params is None and np.isnan(run.best_value)


def test_plot_draws_values_and_the_least_so_far(result):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    ax = result.plot()
    values, least = ax.get_lines()
    np.testing.assert_array_equal(values.get_ydata(), result.history)
    np.testing.assert_array_equal(least.get_ydata(), np.minimum.accumulate(result.history))
    assert ax.get_yscale() == "log" and result.plot(ax) is ax
    plt.close(ax.figure)


# --- what went wrong -------------------------------------------------------------------------------


def test_a_run_that_diverges_says_so():
    run = zojax.minimize(lambda x: jnp.sum(x**4), jnp.ones(50), zojax.mezo(1.0), 40)
    assert re.fullmatch(
        r"all steps taken; diverged: the value rose from 50 to \S+ \(least 50\): lower the learning rate",
        run.message,
    )
    assert f"{run.value:.4g}" in run.message and run.value > 1e3


def test_a_run_that_ends_in_nan_says_so():
    run = zojax.minimize(bowl, X0, zojax.mezo(1e30), 3)
    assert "diverged: the last step has no finite value" in run.message
    assert np.isnan(run.value) and np.isfinite(run.best_value)


UNRESOLVED = {
    "mu too small for x": (
        1e-8,
        bowl,
        jnp.float32,
        r"x \+ mu z equals x in float32: raise mu from 1e-08",
    ),
    "mu too small for bfloat16": (
        1e-4,
        bowl,
        jnp.bfloat16,
        "equals x in bfloat16: raise mu from 0.0001",
    ),
    "mu too large": (1e18, bowl, jnp.float32, "equals mu z in float32: lower mu from 1e.18"),
    "a constant added": (
        1e-4,
        lambda x: 1e6 + bowl(x),
        jnp.float32,
        r"values near 1e\+06 are too close in float32: raise mu from 0.0001, .*subtract a constant",
    ),
    "a constant": (
        0.1,
        lambda x: 3.0 + 0 * x[0],
        jnp.float32,
        "check that it depends on the param",
    ),
}


@pytest.mark.parametrize("case", UNRESOLVED)
def test_differences_that_are_zero_are_warned_of(case):
    mu, fun, dtype, remedy = UNRESOLVED[case]
    tx = zojax.zo_sgd(1e-3, source(mu=mu, num_directions=1))
    with pytest.warns(UserWarning, match="100 % of differences are zero: .*" + remedy):
        run = zojax.minimize(fun, jnp.array([1.0, 2.0, 5.0], dtype), tx, 5)
    assert re.search("all steps taken; 100 % of differences are zero: .*" + remedy, run.message)
    assert int(run.state.estimator_state.flat) == 5


def test_directions_that_move_nothing_are_named():
    direction = zojax.directions.sparse(1e-9)
    tx = zojax.zo_sgd(1e-3, source(direction=direction, num_directions=1))
    with pytest.warns(
        UserWarning, match="last direction moves no parameter: take a higher density"
    ):
        zojax.minimize(bowl, X0, tx, 3)


def test_differences_below_the_resolution_are_warned_of():
    tx = zojax.zo_sgd(1e-9, source(mu=1e-6, num_directions=1))
    with pytest.warns(
        UserWarning, match="below the resolution of the values: .*raise mu from 1e-06"
    ):
        zojax.minimize(lambda x: jnp.sum(x**2), jnp.arange(1.0, 6.0), tx, 20)


def test_a_converged_run_is_not_warned_of(recwarn):
    def far(x):
        return 1e4 + bowl(x)

    run = zojax.minimize(far, X0, zojax.zo_sgd(0.1, source(mu=1.0)), 100, chunk_size=5)
    assert re.fullmatch(
        r"all steps taken; \d\d % of differences are zero: the values resolve no further progress; "
        "stop earlier, raise mu, or subtract a constant",
        run.message,
    )
    assert not recwarn.list


def test_the_verdict_is_of_this_call_alone():
    with pytest.warns(UserWarning):
        first = zojax.minimize(lambda x: 3.0 + 0 * x[0], X0, TX, 20)
    again = zojax.minimize(bowl, X0, TX, 4, state=first.state, chunk_size=2)
    assert again.message == "all steps taken"


def test_the_verdict_of_a_chain(recwarn):
    estimator = source(mu=1e-8, num_directions=1)
    tx = optax.chain(zojax.zeroth_order(estimator=estimator), optax.sgd(0.1))
    with pytest.warns(UserWarning, match="100 % of differences are zero: raise mu, "):
        run = zojax.minimize(bowl, 1 + X0, tx, 5)
    assert run.message.endswith(zojax.verdict(run.state))


# --- what ends a run on the host early ---------------------------------------------------------------


class Broken(Exception):
    pass


def failing_at(call, error, fun=host_bowl):
    calls = []

    def failing(x):
        calls.append(1)
        if len(calls) == call:
            raise error
        return fun(x)

    return failing


def test_an_interrupt_returns_what_was_found():
    expected = zojax.minimize(host_bowl, X0, TX, 3, jit=False)
    seen = []
    run = zojax.minimize(
        failing_at(3 * 8 + 5, KeyboardInterrupt()),
        X0,
        TX,
        40,
        jit=False,
        chunk_size=2,
        callback=lambda progress: seen.extend(progress.values),
    )
    assert run.message == "interrupted" and run.steps == 3 and run.evaluations == 24
    np.testing.assert_array_equal(run.params, expected.params)
    np.testing.assert_array_equal(run.history, expected.history)
    np.testing.assert_array_equal(seen, run.history)  # the begun chunk too
    rest = zojax.minimize(host_bowl, run.params, TX, 2, jit=False, state=run.state)
    whole = zojax.minimize(host_bowl, X0, TX, 5, jit=False)
    np.testing.assert_array_equal(rest.params, whole.params)


def test_an_interrupt_before_the_first_step_is_raised():
    with pytest.raises(KeyboardInterrupt):
        zojax.minimize(failing_at(2, KeyboardInterrupt()), X0, TX, 4, jit=False)


@pytest.mark.parametrize("jit", [True, False])
def test_an_interrupt_in_the_callback_returns_what_was_found(jit):
    def callback(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    fun = bowl if jit else host_bowl
    run = zojax.minimize(fun, X0, TX, 40, jit=jit, chunk_size=2, callback=callback)
    assert run.message == "interrupted" and run.steps == 4
    expected = zojax.minimize(fun, X0, TX, 4, jit=jit, chunk_size=2)
    np.testing.assert_array_equal(run.params, expected.params)


@pytest.mark.parametrize("jit", [True, False])
def test_an_exception_of_the_callback_carries_what_was_found(jit):
    calls = []

    def callback(progress):
        calls.append(progress.step)
        if progress.step == 4:
            raise Broken("plotting")

    with pytest.raises(Broken, match="plotting") as caught:
        zojax.minimize(
            bowl if jit else host_bowl, X0, TX, 40, jit=jit, chunk_size=2, callback=callback
        )
    result = caught.value.partial_result
    assert result.steps == 4 and result.message == "ended by Broken" and calls == [2, 4]
    assert int(result.state.count) == 4 and result.history.shape == (4,)


def test_an_exception_of_a_host_function_is_raised_at_once_with_what_was_found():
    for call, steps in ((1, 0), (8 * 3 + 1, 3)):
        error = Broken("no licence")
        with pytest.raises(Broken, match="no licence") as caught:
            zojax.minimize(failing_at(call, error), X0, TX, 10, jit=False)
        assert caught.value is error and caught.traceback[-1].name == "failing"
        result = error.partial_result
        assert result.steps == steps == len(result.history)
        assert np.isnan(result.value) == (steps == 0)


def test_a_function_without_a_number_ends_the_run_at_the_first_evaluation():
    calls = []
    with pytest.raises(TypeError, match="fun must return a real number, got None"):
        zojax.minimize(lambda x: calls.append(1), X0, TX, 10, jit=False, catch=(TypeError,))
    assert len(calls) == 1


def test_caught_exceptions_leave_their_direction_out():
    fun = failing_at(11, Broken("once"))
    run = zojax.minimize(fun, X0, TX, 3, jit=False, catch=(Broken,))
    assert run.steps == 3 and run.skipped == 1
    assert run.message == "all steps taken; 1 evaluations raised, the last Broken('once')"

    def always(x):
        raise Broken("always")

    run = zojax.minimize(always, X0, TX, 2, jit=False, catch=(LookupError, Broken))
    assert run.skipped == 8 and "every evaluation was NaN" in run.message
    assert run.message.endswith("16 evaluations raised, the last Broken('always')")
