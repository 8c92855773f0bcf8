"""Estimates: ask and tell, aux, per-direction data, keys, dtypes, non-finite values, errors."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from tests import _laws
from tests._trees import assert_same_bits
from zojax import directions, shaping, stencils

A = jnp.array([[2.0, 0.3], [0.3, 1.0]])
STENCILS = {
    **_laws.STENCILS,
    "fourth order": stencils.Stencil((1.0, -1.0, 2.0, -2.0), (2 / 3, -2 / 3, -1 / 12, 1 / 12)),
    "base first": stencils.Stencil((0.0, 1.0), (-1.0, 1.0)),
}


def quadratic(x):
    return x @ A @ x / 2


def squares(x):
    return jnp.sum(x**2)


def _tree_loss(p):
    return jnp.sum(p["w"] ** 2) + 3 * p["b"]


# --- ask and tell --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "direction, stencil",
    [
        ("rademacher", "central"),
        ("normal", "forward"),
        ("coordinate", "one_point"),
        ("low_rank", "one_point_residual"),
        pytest.param("rademacher", "fourth order", marks=pytest.mark.slow),
        pytest.param("normal", "base first", marks=pytest.mark.slow),
    ],
)
def test_ask_and_tell_equal_estimate(stencil, direction):
    estimator = zojax.estimator(
        getattr(directions, direction)(), STENCILS[stencil], num_directions=3, mu=0.1
    )
    # Noise of each leaf costs time to compile: one stencil has two.
    b = jnp.float32(0.5) if stencil == "central" else jnp.int32(1)
    params = {"w": jnp.arange(6.0).reshape(2, 3) / 5, "b": b}
    points, asked = estimator.ask(4, params)
    assert points["w"].shape == (estimator.evaluations, 2, 3)
    state = estimator.init() if estimator.stencil.memory else None
    told = estimator.tell(asked, jax.vmap(_tree_loss)(points), state=state)
    direct = estimator.estimate(4, _tree_loss, params, state=state).grads
    chex.assert_trees_all_close(told, direct, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["estimate", "evaluate"])
def test_signatures_name_the_arguments(name):
    names = list(inspect.signature(getattr(zojax.estimator(), name)).parameters)
    assert names[:5] == ["key", "fun", "params", "args", "kwargs"]


def test_functions_of_an_estimator_say_where_they_are_described():
    assert "help(zojax.Estimator)" in zojax.estimator().ask.__doc__


def test_tell_takes_numpy_and_lists():
    estimator = zojax.estimator(num_directions=2)
    _, asked = estimator.ask(0, jnp.ones(3))
    values = [1.0, 2.0, 3.0, 4.0]
    assert jnp.array_equal(estimator.tell(asked, values), estimator.tell(asked, np.array(values)))


@pytest.mark.parametrize("shape", [(3,), (2, 2), ()])
def test_tell_refuses_a_wrong_number_of_values(shape):
    estimator = zojax.estimator(num_directions=2)
    _, asked = estimator.ask(0, jnp.ones(3))
    with pytest.raises(ValueError, match=r"values must have shape \(4,\)"):
        estimator.tell(asked, jnp.zeros(shape))


def test_asked_is_a_pytree_that_survives_a_jit_boundary():
    estimator = zojax.estimator(num_directions=2)
    points, asked = jax.jit(estimator.ask)(0, jnp.ones(3))
    eager_points, eager = estimator.ask(0, jnp.ones(3))
    assert jnp.array_equal(points, eager_points)
    values = jax.vmap(jnp.sum)(points)
    assert jnp.array_equal(jax.jit(estimator.tell)(asked, values), estimator.tell(eager, values))


# --- stencils ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, order", [("central", 2), ("forward", 1), ("fourth order", 4)])
def test_order_of_accuracy(name, order):
    """Halving mu divides the bias by 2^order."""
    with jax.enable_x64(True):
        loss, x = (lambda x: jnp.sum(jnp.exp(x))), jnp.array([0.3, -0.2])
        estimator = zojax.estimator(
            directions.coordinate(),
            STENCILS[name],
            mu=lambda halvings: 0.1 / 2**halvings,
            num_directions=2,
        )

        def bias(halvings):
            estimate = estimator.estimate(0, loss, x, step=jnp.int32(halvings))
            return np.linalg.norm(estimate.grads - jnp.exp(x))

        assert abs(np.log2(bias(0) / bias(1)) - order) < 0.2


def test_value_is_the_loss_at_x_where_the_stencil_visits_it():
    value, _ = zojax.value_and_grad(quadratic, zojax.estimator(stencil=stencils.forward(), mu=0.5))(
        0, jnp.array([1.0, 2.0])
    )
    np.testing.assert_allclose(value, quadratic(jnp.array([1.0, 2.0])), rtol=1e-6)


def test_one_point_residual_differs_from_the_last_value():
    stencil, mu = stencils.one_point_residual(), 0.25
    estimator = zojax.estimator(stencil=stencil, mu=mu)
    x, state, previous = jnp.array([1.0, 2.0]), estimator.init(), None
    for step in range(3):
        points, asked = estimator.ask(step, x)
        (value,) = jax.vmap(quadratic)(points)
        out = estimator.estimate(step, quadratic, x, state=state)
        z = (points[0] - x) / mu
        expected = 0 * z if previous is None else (value - previous) / mu * z
        np.testing.assert_allclose(out.grads, expected, rtol=1e-4, atol=1e-5)
        state, previous = out.state, value


def test_one_point_residual_without_a_state_is_refused():
    estimator = zojax.estimator(stencil=stencils.one_point_residual())
    with pytest.raises(ValueError, match="state"):
        zojax.grad(quadratic, estimator)(0, jnp.ones(2))


@pytest.mark.parametrize(
    "offsets, weights", [((), ()), ((1.0,), (1.0, 2.0)), ((0.0,), (1.0,)), ((1.0, 1.0), (1.0, 0.0))]
)
def test_ill_formed_stencils_are_refused(offsets, weights):
    with pytest.raises(ValueError, match="stencil"):
        zojax.estimator(stencil=stencils.Stencil(offsets, weights))


def test_stencils_may_hold_numpy_numbers():
    ends = np.linspace(1, -1, 2, dtype=np.float32)
    stencil = stencils.Stencil(tuple(np.int8([1, -1])), tuple(ends / 2), np.float64(0))
    both = [zojax.estimator(stencil=s, num_directions=2) for s in (stencil, stencils.central())]
    given, expected = (zojax.grad(quadratic, e)(0, jnp.ones(2)) for e in both)
    np.testing.assert_array_equal(given, expected)
    with pytest.raises(ValueError, match="finite numbers, got np.float32"):
        zojax.estimator(stencil=stencils.Stencil((np.float32("nan"),), (1.0,)))


def test_stencils_may_hold_scalars_of_jax():
    stencil = stencils.Stencil((jnp.float32(1), jnp.int32(-1)), (jnp.float32(0.5), -0.5))
    assert zojax.estimator(stencil=stencil).stencil == stencils.central()
    with pytest.raises(ValueError, match="finite numbers, got Array"):
        zojax.estimator(stencil=stencils.Stencil((jnp.ones(2),), (1.0,)))


# --- value_and_grad as in jax --------------------------------------------------------------------


def test_argnums_and_kwargs():
    def loss(scale, x, y, *, shift):
        return scale * jnp.sum(x**2) + jnp.sum(y) + shift

    estimator = zojax.estimator(directions.coordinate(), num_directions=3, mu=0.1)
    args = (2.0, jnp.array([1.0, 2.0]), jnp.array([5.0]))
    value, (gx, gy) = zojax.value_and_grad(loss, estimator, argnums=(1, 2))(0, *args, shift=1.0)
    expected = jax.jit(jax.grad(loss, argnums=(1, 2)))(*args, shift=1.0)
    np.testing.assert_allclose(gx, expected[0], rtol=1e-3)
    np.testing.assert_allclose(gy, expected[1], rtol=1e-3)
    last = zojax.estimator(directions.coordinate(), mu=0.1)
    np.testing.assert_allclose(
        zojax.grad(loss, last, argnums=-1)(0, *args, shift=1.0), [1.0], rtol=1e-3
    )
    with pytest.raises(ValueError, match="argnums"):
        zojax.grad(loss, last, argnums=3)(0, *args, shift=1.0)


def test_the_loss_may_take_a_key_by_keyword():
    def loss(x, key):
        return jnp.sum(x) + jax.random.normal(key)

    key = jax.random.key(1)
    value, grads = zojax.value_and_grad(loss)(0, jnp.ones(2), key=key)
    np.testing.assert_allclose(value, loss(jnp.ones(2), key), rtol=1e-3)
    np.testing.assert_array_equal(zojax.grad(loss)(0, jnp.ones(2), key=key), grads)


@pytest.mark.parametrize("name", _laws.fast(["forward"], ["central", "forward"]))
def test_aux_is_averaged_or_stacked(name):
    estimator = zojax.estimator(stencil=STENCILS[name], num_directions=3, mu=0.5)
    loss = lambda x: (jnp.sum(x), {"x": x})  # noqa: E731
    points, _ = estimator.ask(0, jnp.ones(2))
    (_, aux), _ = zojax.value_and_grad(loss, estimator, has_aux=True)(0, jnp.ones(2))
    np.testing.assert_allclose(aux["x"], points.mean(axis=0), rtol=1e-6)
    grads, stacked = zojax.grad(loss, estimator, has_aux=True, reduce_aux=None)(0, jnp.ones(2))
    np.testing.assert_allclose(stacked["x"], points, rtol=1e-6)
    assert grads.shape == (2,)


def test_in_axes_gives_each_direction_its_own_slice():
    n = 4
    batches = jnp.arange(2.0 * n).reshape(n, 2)

    def loss(x, batch, common):
        return jnp.sum((x - batch) ** 2) + common, batch

    for in_axes, stencil, call in [
        ((None, 0, None), stencils.central(), lambda f: f(0, jnp.ones(2), batches, 1.0)),
        ({"batch": 0}, stencils.forward(), lambda f: f(0, jnp.ones(2), batch=batches, common=1.0)),
    ]:
        estimator = zojax.estimator(stencil=stencil, num_directions=n, in_axes=in_axes)
        _, seen = call(zojax.grad(loss, estimator, has_aux=True, reduce_aux=None))
        assert seen.shape == (2 * n, 2)
        rows = {tuple(r) for r in np.asarray(seen).tolist()}
        assert rows == {tuple(r) for r in np.asarray(batches).tolist()}


@pytest.mark.parametrize(
    "in_axes, match",
    [((None, 0), "num_directions = 4"), ((0, None), "None for"), ((None,), "one entry")],
)
def test_in_axes_that_do_not_fit_are_refused(in_axes, match):
    estimator = zojax.estimator(num_directions=4, in_axes=in_axes)
    with pytest.raises(ValueError, match=match):
        zojax.grad(lambda x, y: jnp.sum(x) + jnp.sum(y), estimator)(
            0, jnp.ones(2), jnp.ones((3, 2))
        )


@pytest.mark.parametrize("in_axes", [np.int64(0), (None, np.int32(0))])
def test_in_axes_may_be_numpy_ints(in_axes):
    def gradient(axes):
        estimator = zojax.estimator(num_directions=4, in_axes=axes)
        return zojax.grad(lambda x, y: jnp.sum(x * y), estimator)(0, jnp.ones(2), jnp.ones((4, 2)))

    np.testing.assert_array_equal(gradient(in_axes), gradient(0))


@pytest.mark.parametrize("in_axes", [(None, {"a": 0, "b": None}), {"y": (0, None)}, {"y": True}])
def test_in_axes_inside_an_argument_are_refused(in_axes):
    def loss(x, y):
        return jnp.sum(x) + jnp.sum(y["a"])

    y = {"a": jnp.ones((4, 2)), "b": jnp.ones(2)}
    args, kwargs = ((), {"y": y}) if isinstance(in_axes, dict) else ((y,), {})
    estimator = zojax.estimator(num_directions=4, in_axes=in_axes)
    with pytest.raises(TypeError, match="one int or None for each argument, got"):
        zojax.grad(loss, estimator)(0, jnp.ones(2), *args, **kwargs)


def test_with_key_gives_common_random_numbers_within_a_direction():
    def loss(x, key):
        return jnp.sum(x) + jax.random.normal(key, ()), jax.random.key_data(key)

    for stencil in (stencils.central(), stencils.forward()):
        estimator = zojax.estimator(stencil=stencil, num_directions=3, with_key=True, mu=1e-2)
        (_, keys), grads = zojax.value_and_grad(loss, estimator, has_aux=True, reduce_aux=None)(
            0, jnp.ones(2)
        )
        seen = [tuple(k) for k in np.asarray(keys).tolist()]
        assert len(set(seen)) == 3 and all(seen.count(k) == 2 for k in set(seen))
        assert np.all(
            np.abs(grads) < 10
        )  # unshared, the difference of noises would be of order 100


def test_python_arguments_outside_jit_are_static():
    def loss(x, mode, power):
        assert isinstance(power, int)
        return jnp.sum(x**power) if mode == "sum" else jnp.mean(x**power)

    grad = zojax.grad(loss, zojax.estimator(directions.coordinate(), num_directions=2, mu=0.1))
    np.testing.assert_allclose(grad(0, jnp.ones(2), "sum", 2), [2.0, 2.0], rtol=1e-3)
    np.testing.assert_allclose(grad(0, jnp.ones(2), "mean", 2), [1.0, 1.0], rtol=1e-3)


def test_outside_jit_a_call_compiles_once():
    grad = zojax.grad(chex.assert_max_traces(lambda x: jnp.sum(x), n=1))
    for key in range(4):
        grad(key, jnp.full(2, 1.0 + key))


@pytest.mark.parametrize("way", ["value_and_grad", "estimate"])
def test_outside_jit_a_loss_compiles_once_however_often_it_is_wrapped(way):
    traces, estimator = [], zojax.estimator(mu=0.1)

    def loss(x, scale):
        traces.append(1)
        return scale * jnp.sum(x)

    def call(key, x):
        if way == "estimate":
            return estimator.estimate(key, loss, x, (2.0,), step=key).grads
        return zojax.value_and_grad(loss, estimator)(key, x, 2.0)[1]

    grads = [call(0, jnp.ones(2))]
    first = len(traces)
    grads += [call(key, jnp.ones(2)) for key in range(5)]
    assert len(traces) == first
    assert (grads[0] == grads[1]).all() and len({tuple(g.tolist()) for g in grads}) > 1
    call(0, jnp.ones(3))  # another shape is another program
    assert len(traces) > first


# --- dtypes and trees ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_gradients_have_the_dtype_of_the_parameters(dtype):
    value, grads = zojax.value_and_grad(lambda x: jnp.sum(x), zojax.estimator(mu=0.1))(
        0, jnp.ones(4, dtype)
    )
    assert grads.dtype == dtype and value.dtype == jnp.float32


@pytest.mark.parametrize(
    "dtype", [jnp.float16, jnp.float8_e4m3fn, jnp.float8_e4m3, jnp.float8_e5m2]
)
def test_narrow_floats_hold_their_largest_number_where_a_gradient_is_larger(dtype):
    def loss(x):
        return 1e6 * x[0].astype(jnp.float32)

    grads = zojax.grad(loss, zojax.estimator(mu=0.5))(0, jnp.ones(4, dtype))
    assert (jnp.abs(grads.astype(jnp.float32)) == float(jnp.finfo(dtype).max)).all(), grads


def test_sums_over_directions_run_in_float32():
    """In bfloat16 an accumulator of many directions would stall; the mean must not."""
    n, d = 400, 8
    estimator = zojax.estimator(num_directions=n, mu=0.25)
    g = jnp.full(d, 1.0)
    x = jnp.zeros(d, jnp.bfloat16)
    half = estimator.estimate(0, lambda x: jnp.sum(x.astype(jnp.float32) * g), x)
    full = estimator.combine(0, jnp.zeros(d), half.coefficients)
    np.testing.assert_allclose(half.grads.astype(jnp.float32), full, rtol=2**-8)


def test_float64_parameters_keep_their_precision():
    with jax.enable_x64(True):
        estimator = zojax.estimator(directions.coordinate(), mu=1e-5, num_directions=2)
        grads = zojax.grad(quadratic, estimator)(0, jnp.array([1.0, -2.0], jnp.float64))
        np.testing.assert_allclose(grads, np.asarray(A) @ [1.0, -2.0], rtol=1e-6)


def test_other_leaves_pass_through():
    params = {
        "w": jnp.ones(3),
        "n": jnp.arange(2),
        "flag": jnp.array(True),
        "rng": jax.random.key(0),
        "none": None,
    }

    def loss(p):
        assert p["none"] is None and p["n"].dtype == jnp.int32 and p["flag"].dtype == jnp.bool_
        return jnp.sum(p["w"]) * p["n"][1] + jax.random.normal(p["rng"])

    grads = zojax.grad(loss, zojax.estimator(mu=0.1))(0, params)
    assert grads["rng"] is None and grads["none"] is None
    assert jnp.array_equal(grads["n"], jnp.zeros(2, jnp.int32)) and not grads["flag"]
    moved = zojax.apply_updates(params, grads)
    assert moved["rng"] == params["rng"] and jnp.array_equal(moved["n"], params["n"])


@pytest.mark.parametrize("key", [0, jax.random.key(0), jax.random.PRNGKey(0), np.int64(0)])
def test_keys_of_every_kind_mean_the_same(key):
    expected = zojax.grad(quadratic)(0, jnp.ones(2))
    assert jnp.array_equal(zojax.grad(quadratic)(key, jnp.ones(2)), expected)


def test_a_key_of_another_implementation_works():
    assert zojax.grad(quadratic)(jax.random.key(0, impl="rbg"), jnp.ones(2)).shape == (2,)


# --- non-finite values ---------------------------------------------------------------------------


SHAPED = [
    zojax.estimator(num_directions=4, shaping=which, mu=0.1)
    for which in (None, shaping.standardize(), shaping.centered_ranks())
]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("estimator", SHAPED, ids=["none", "standardize", "centered_ranks"])
def test_directions_that_are_not_finite_get_weight_zero(bad, estimator):
    _, asked = estimator.ask(0, jnp.ones(3))
    values = jnp.arange(8.0).at[2].set(bad)
    out = estimator.conclude(asked, values, estimator.init())
    assert int(out.used) == 3 and int(out.state.skipped) == 1
    assert bool(jnp.all(jnp.isfinite(out.grads))) and bool(jnp.isfinite(out.value))
    elsewhere = estimator.conclude(asked, values.at[3].set(1e6), estimator.init())
    np.testing.assert_array_equal(out.grads, elsewhere.grads)  # its other evaluation is unused too


def test_when_all_directions_fail_the_gradient_is_zero_and_says_so():
    out = zojax.estimator(num_directions=2).estimate(0, lambda x: jnp.sum(x) * jnp.nan, jnp.ones(3))
    assert not jnp.any(out.grads) and int(out.used) == 0 and bool(jnp.isnan(out.value))


def test_the_mean_is_over_the_directions_that_are_finite():
    g = jnp.array([1.0, 2.0])
    estimator = zojax.estimator(directions.coordinate(), num_directions=2, mu=0.1)
    points, asked = estimator.ask(0, jnp.zeros(2))
    values = jax.vmap(lambda x: x @ g)(points).at[0].set(jnp.nan)
    grads = estimator.tell(asked, values)
    k = int(jnp.argmax(jnp.abs(points[2])))
    np.testing.assert_allclose(grads[k], 2 * g[k], rtol=1e-4)  # d / used = 2 / 1


# --- values and gradients beyond what dtypes resolve -----------------------------------------------


RADII = (1e-8, 1e-6, 1e-2, 1e18)


def radius(step):
    """A schedule, so that all radii are one program."""
    return jnp.array(RADII)[step]


BY_RADIUS = {
    name: zojax.estimator(directions.coordinate(), STENCILS[name], mu=radius, num_directions=5)
    for name in ("central", "forward")
}


@pytest.mark.parametrize(
    "stencil, mu, flat, unresolved",
    [
        ("central", 1e-8, 5, 5),
        ("forward", 1e-6, 0, 5),
        ("central", 1e-2, 0, 0),
        ("central", 1e18, 5, 5),
        ("forward", 1e18, 0, 0),  # x itself has another value
    ],
)
def test_directions_with_equal_values_are_counted(stencil, mu, flat, unresolved):
    estimator = BY_RADIUS[stencil]
    x, state, place = jnp.arange(1.0, 6.0), estimator.init(), jnp.int32(RADII.index(mu))
    for step in range(1, 3):
        out = estimator.estimate(step, squares, x, state=state, step=place)
        state = out.state
        assert (int(out.flat), int(out.used)) == (flat, 5)
        assert (int(state.flat), int(state.unresolved), int(state.used)) == (
            step * flat,
            step * unresolved,
            step * 5,
        )
    assert state.first == state.least == out.value


def test_directions_left_out_are_not_flat():
    estimator = zojax.estimator(num_directions=3)
    _, asked = estimator.ask(0, jnp.ones(2))
    values = jnp.array([1.0, 1.0, jnp.nan, jnp.nan, 2.0, 3.0])
    out = estimator.conclude(asked, values, estimator.init())
    assert (int(out.flat), int(out.used), int(out.state.skipped)) == (1, 2, 1)


def test_a_single_point_is_compared_with_the_previous_step():
    estimator = zojax.estimator(stencil=stencils.one_point(), mu=0.1)
    state, flat = estimator.init(), []
    for value in (0.0, 0.0, 3.0, 3.0, jnp.nan, 3.0, 2.0):
        _, asked = estimator.ask(0, jnp.ones(2))
        out = estimator.conclude(asked, [value], state)
        state = out.state
        flat.append(int(out.flat))
    assert flat == [0, 1, 0, 1, 0, 1, 0] and int(state.flat) == 3
    assert (float(state.first), float(state.least), int(state.used)) == (0.0, 0.0, 6)
    assert int(estimator.conclude(asked, [2.0]).flat) == 0  # nothing to compare with


def test_first_and_least_are_of_finite_steps():
    estimator, state = zojax.estimator(mu=0.1), zojax.estimator().init()
    for value in (jnp.nan, -1.0, -5.0, jnp.inf, 4.0):
        _, asked = estimator.ask(0, jnp.ones(2))
        state = estimator.conclude(asked, [value, value], state).state
    assert (float(state.first), float(state.least)) == (-1.0, -5.0)


@pytest.mark.parametrize("num_directions", _laws.fast([3], [1, 3]))
def test_clipped_entries_are_counted(num_directions):
    def loss(p):
        return 5e4 * sum(jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(p))

    params = {
        "half": jnp.ones((2, 3), jnp.float16),
        "eight": jnp.ones(2, jnp.float8_e5m2),
    }
    if num_directions > 1:
        params["brain"] = jnp.ones(3, jnp.bfloat16)
    estimator = zojax.estimator(directions.normal(), mu=0.5, num_directions=num_directions)
    out = estimator.estimate(3, loss, params, state=estimator.init())
    wide = estimator.estimate(3, loss, params, dtype=jnp.float32)
    assert jax.tree.leaves(jax.tree.map(lambda x: x.dtype, wide.grads)) == [jnp.float32] * len(
        params
    )
    beyond = int(jnp.sum(jnp.abs(wide.grads["half"]) > 65504))
    beyond += int(jnp.sum(jnp.abs(wide.grads["eight"]) > 57344))
    assert 0 < beyond < 8 and int(out.clipped) == int(out.state.clipped) == beyond
    assert int(wide.clipped) == 0
    clipped = jnp.clip(wide.grads["half"], -65504, 65504).astype(jnp.float16)
    np.testing.assert_array_equal(out.grads["half"], clipped)
    again = estimator.combine(3, params, out.coefficients, dtype=jnp.float32)
    assert_same_bits(again, wide.grads)


def test_a_wider_dtype_narrows_nothing():
    with jax.enable_x64(True):
        params = {"a": jnp.ones(2, jnp.float64), "n": jnp.int32(1)}
        out = zojax.estimator().estimate(0, lambda p: jnp.sum(p["a"]), params, dtype=jnp.float32)
    assert out.grads["a"].dtype == jnp.float64 and out.grads["n"].dtype == jnp.int32


def test_counts_do_not_overflow():
    estimator = zojax.estimator(num_directions=3)
    _, asked = estimator.ask(0, jnp.ones(2))
    most = jnp.int32(2**31 - 1)
    state = estimator.init()._replace(used=most - 1, flat=most - 3)
    state = estimator.conclude(asked, jnp.ones(6), state).state
    assert int(state.used) == int(state.flat) == 2**31 - 1


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, error, match",
    [
        (dict(mu=0.0), ValueError, "mu must be positive and finite, got 0.0"),
        (dict(mu=-1.0), ValueError, "mu must be positive"),
        (dict(mu=float("nan")), ValueError, "mu must be positive"),
        (
            dict(mu=1e39),
            ValueError,
            "mu must be positive and finite in float32 too, where 1e.39 is inf",
        ),
        (dict(mu=1e-46), ValueError, "in float32 too, where 1e-46 is 0"),
        (dict(num_directions=0), ValueError, "num_directions must be at least 1, got 0"),
        (dict(num_directions=1.5), TypeError, "num_directions must be an int, got 1.5"),
        (dict(batch_size=0), ValueError, "batch_size must be at least 1"),
        (dict(direction=directions.normal), TypeError, "did you forget to call it"),
        (dict(stencil=stencils.central), TypeError, "stencil must be a Stencil"),
        (dict(shaping="ranks"), TypeError, "shaping must be a Shaping"),
        (dict(stencil=stencils.Stencil((1.0,), (np.nan,))), ValueError, "finite numbers, got nan"),
    ],
)
def test_wrong_choices_are_refused_at_construction(options, error, match):
    with pytest.raises(error, match=match):
        zojax.estimator(**options)


@pytest.mark.parametrize(
    "loss, error, match",
    [
        (lambda x: x, ValueError, r"scalar, got shape \(2,\)"),
        (lambda x: (jnp.sum(x), x), TypeError, "has_aux=True"),
        (lambda x: jnp.sum(x) * 1j, TypeError, "real number, got dtype complex64"),
        (lambda x: None, TypeError, "scalar"),
    ],
)
def test_losses_that_are_not_real_scalars_are_refused(loss, error, match):
    with pytest.raises(error, match=match):
        zojax.grad(loss)(0, jnp.ones(2))


def test_arguments_in_the_wrong_place_are_refused():
    estimator = zojax.estimator()
    with pytest.raises(TypeError, match="args must be a tuple"):
        estimator.estimate(0, quadratic, jnp.ones(2), jnp.ones((1, 2)))
    with pytest.raises(TypeError, match="asked must be the second result of ask"):
        estimator.tell(jnp.ones(2), jnp.ones(2))
    mapped = zojax.estimator(num_directions=3, in_axes=(None, -5))
    with pytest.raises(ValueError, match="in_axes maps axis -5"):
        mapped.estimate(0, lambda x, y: jnp.sum(x * y), jnp.ones(3), (jnp.ones((5, 3)),))


@pytest.mark.optimized
@pytest.mark.parametrize(
    "name", _laws.fast(["sphere", "orthogonal"], ["normal", "sphere", "orthogonal"])
)
def test_combine_gives_the_bits_of_the_estimate(name):
    estimator = zojax.estimator(getattr(directions, name)(), num_directions=3)
    x = jnp.linspace(0.0, 1.0, 7)
    out = estimator.estimate(1, lambda x: jnp.sum(x**3), x)
    again = estimator.combine(1, x, out.coefficients)
    assert np.asarray(again).tobytes() == np.asarray(out.grads).tobytes()


def test_parameters_without_a_float_leaf_are_refused():
    with pytest.raises(ValueError, match="no float leaf.*int32"):
        zojax.grad(lambda x: jnp.sum(x) * 1.0)(0, jnp.arange(3))


def test_a_leaf_that_is_no_array_is_named():
    params = {"w": jnp.ones(2), "activation": jnp.tanh}
    with pytest.raises(TypeError, match=r"params\['activation'\] must be an array"):
        zojax.estimator().estimate(0, lambda p: jnp.sum(p["w"]), params)


def test_a_loss_that_cannot_be_traced_points_to_ask_and_tell():
    with pytest.raises(jax.errors.TracerArrayConversionError) as caught:
        zojax.grad(lambda x: float(np.sum(np.asarray(x))))(0, jnp.ones(2))
    assert "estimator.ask" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("key", ["seed", 1.5, None, jnp.ones(2)])
def test_things_that_are_not_keys_are_refused(key):
    with pytest.raises(TypeError, match="key must be an int or a jax.random key"):
        zojax.grad(quadratic)(key, jnp.ones(2))


def test_a_schedule_of_mu_needs_a_step_count():
    estimator = zojax.estimator(mu=lambda step: 0.1 / (step + 1))
    with pytest.raises(ValueError, match="mu is a schedule"):
        zojax.grad(quadratic, estimator)(0, jnp.ones(2))
    out = estimator.estimate(0, quadratic, jnp.ones(2), step=3)
    constant = zojax.estimator(mu=0.025).estimate(0, quadratic, jnp.ones(2))
    np.testing.assert_allclose(out.grads, constant.grads, rtol=1e-5)


def test_a_loss_without_aux_is_told_so():
    for fun, got in ((jnp.sum, r"an array of shape \(\)"), (lambda x: [x, x], "list")):
        with pytest.raises(TypeError, match=f"value, aux.*{got}; leave has_aux out"):
            zojax.grad(fun, has_aux=True)(0, jnp.ones(2))


def test_reduced_aux_keeps_its_dtypes_and_takes_keys():
    def loss(x):
        return jnp.sum(x), {"key": jax.random.key(7), "n": jnp.int32(3), "empty": jnp.zeros((0,))}

    (_, aux), _ = zojax.value_and_grad(loss, has_aux=True)(0, jnp.ones(2))
    assert aux["n"] == 3 and aux["n"].dtype == jnp.int32
    assert aux["key"] == jax.random.key(7) and aux["empty"].shape == (0,)


def test_one_point_residuals_have_the_precision_of_x64():
    with jax.enable_x64(True):
        estimator, x = zojax.estimator(stencil=stencils.one_point_residual(), mu=1e-6), jnp.ones(3)

        def constant(x):
            return 100.1 + 0 * jnp.sum(x)

        state = estimator.estimate(0, constant, x, state=estimator.init()).state
        again = estimator.estimate(1, constant, x, state=state)
    np.testing.assert_allclose(again.coefficients, 0, atol=1e-6)


def test_values_may_be_traced_numbers():
    estimator = zojax.estimator(mu=0.1)
    _, asked = estimator.ask(0, jnp.ones(2))
    grads = jax.jit(lambda a, b: estimator.tell(asked, [a, b]))(1.0, 2.0)
    np.testing.assert_allclose(grads, estimator.tell(asked, [1.0, 2.0]), rtol=1e-6)


def test_values_of_slices_joined_are_told_for_the_same_bits():
    x, data = jnp.linspace(-1, 1, 4), jnp.arange(20.0).reshape(5, 4)

    def loss(x, row=1.0):
        return jnp.sum(jnp.cos(x * row))

    for stencil in (stencils.central(), stencils.forward()):
        source = zojax.estimator(stencil=stencil, num_directions=5, batch_size=1)
        out = source.estimate(3, loss, x)
        parts = [source.evaluate(3, loss, x, directions=slice(*ends)) for ends in ((3,), (3, None))]
        values = jnp.concatenate(parts)
        assert values.shape == (source.evaluations,)
        told = source.conclude(source.asked(3, x), values)
        np.testing.assert_array_equal(told.coefficients, out.coefficients)
        np.testing.assert_array_equal(told.grads, out.grads)
    source = zojax.estimator(num_directions=5, in_axes=(None, 0), batch_size=1)
    out = source.estimate(3, loss, x, (data,))
    own = source.evaluate(3, loss, x, (data[3:],), directions=slice(3, 5))
    values = jnp.concatenate(
        [source.evaluate(3, loss, x, (data[:3],), directions=slice(0, 3)), own]
    )
    np.testing.assert_array_equal(source.tell(source.asked(3, x), values), out.grads)


@pytest.mark.parametrize(
    "directions, error, match",
    [
        (3, TypeError, "directions must be a slice"),
        (slice(0, 5, 2), ValueError, "directions must be consecutive"),
        (slice(7, 9), ValueError, "at least one of 5"),
    ],
)
def test_unusable_slices_of_directions_are_refused(directions, error, match):
    source = zojax.estimator(num_directions=5)
    with pytest.raises(error, match=match):
        source.evaluate(0, jnp.sum, jnp.ones(3), directions=directions)


def test_a_value_at_x_for_each_direction_is_no_value_of_a_slice():
    source = zojax.estimator(stencil=stencils.forward(), num_directions=2, with_key=True)
    with pytest.raises(ValueError, match=r"stencils\.central\(\)"):
        source.evaluate(0, lambda x, key: jnp.sum(x), jnp.ones(3))


# --- derivatives of an estimate ------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["rademacher", "low_rank", "orthogonal"])
def test_an_estimate_has_derivatives_in_both_modes(direction):
    # The loss is a quadratic form of p, so an estimate is linear in p: J p = g(p).
    data = jnp.array([[1.0, 2.0], [-0.5, 0.3], [0.7, -1.0]])
    params = {"w": jnp.array([[0.4, -0.2], [0.1, 0.9]]), "b": jnp.array([0.3, -0.6])}
    v = {"w": jnp.array([[1.0, 0.5], [-0.3, 0.2]]), "b": jnp.array([-1.0, 0.8])}
    estimator = zojax.estimator(
        getattr(directions, direction)(), num_directions=2, mu=0.5, batch_size=1
    )
    gradient = jax.jit(
        zojax.grad(lambda p: jnp.sum((data @ p["w"] + p["b"]) ** 2), estimator), static_argnums=0
    )
    value, back = jax.vjp(lambda p: gradient(0, p), params)
    forwards = jax.jvp(lambda p: gradient(0, p), (params,), (params,))[1]
    chex.assert_trees_all_close(forwards, value, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        optax.tree.vdot(back(v)[0], params), optax.tree.vdot(v, value), rtol=1e-3, atol=1e-4
    )
