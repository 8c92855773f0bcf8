"""Laws of `zeroth_order`, over a table of every ready-made optimizer and of what goes inside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

import zojax
from zojax import directions, shaping, stencils

# --- what the laws run over -------------------------------------------------------------------

OPTIMIZERS = {
    "zo_sgd": lambda key: zojax.zo_sgd(0.1, key=key),
    "zo_sgd_momentum": lambda key: zojax.zo_sgd(0.1, momentum=0.9, nesterov=True, key=key),
    "mezo": lambda key: zojax.mezo(0.1, mu=1e-2, key=key),
    "mezo_normal_decay": lambda key: zojax.mezo(
        optax.linear_schedule(0.1, 0.0, 10),
        num_directions=2,
        weight_decay=0.01,
        direction=directions.normal(),
        key=key,
    ),
    "spsa": lambda key: zojax.spsa(a=0.1, c=0.05, A=10, key=key),
    "open_es": lambda key: zojax.open_es(0.05, population=8, key=key),
    "adam": lambda key: zojax.zeroth_order(optax.adam(0.05), key=key),
    "low_rank_forward": lambda key: zojax.zeroth_order(
        optax.adam(0.05),
        zojax.estimator(directions.low_rank(), stencils.forward(), num_directions=3),
        key=key,
    ),
    "one_point_residual": lambda key: zojax.zo_sgd(
        0.01, zojax.estimator(stencil=stencils.one_point_residual()), key=key
    ),
    "baseline_one_point": lambda key: zojax.zo_sgd(
        0.01,
        zojax.estimator(
            directions.coordinate(), stencils.one_point(), shaping.baseline(), num_directions=4
        ),
        key=key,
    ),
}
KEY = jax.random.key(42)
STEPS = 3

# Every kind of leaf that a model may hold.
PARAMS = {
    "layer": (jnp.full((3, 4), 0.5), jnp.full((4,), -1.0, jnp.bfloat16)),
    "scale": jnp.float32(2.0),
    "steps": jnp.int32(7),
    "on": jnp.array([True, False]),
    "rng": jax.random.key(5),
    "absent": None,
}


def loss(params, limit=jnp.inf):
    """A quadratic; NaN beyond `limit`."""
    w, b = params["layer"]
    out = jnp.sum((w @ jnp.ones((4, 2)) - 1) ** 2) + jnp.sum(b.astype(jnp.float32) ** 2)
    out = params["scale"] ** 2 + out * (params["steps"] - 6).astype(jnp.float32)
    return jnp.where(out <= limit, out, jnp.nan)


@functools.cache
def compiled(name):
    """The transformation and its jitted step, shared by the tests: compiling is what takes time."""
    tx = OPTIMIZERS[name](KEY)

    @jax.jit
    def step(params, state, limit=jnp.inf):
        updates, state = tx.update(None, state, params, value_fn=loss, limit=limit)
        return zojax.apply_updates(params, updates), state

    return tx, step


@functools.cache
def trajectory(name):
    """(params, state) before the first and after each of a few jitted steps."""
    tx, step = compiled(name)
    points = [(PARAMS, tx.init(PARAMS))]
    for _ in range(STEPS):
        points.append(step(*points[-1]))
    return points


@pytest.fixture(params=OPTIMIZERS)
def name(request):
    return request.param


def assert_close(actual, expected, tolerance=1e-5):
    """Equal trees: same structure and dtypes, values to rounding, everything else to the bit."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = jnp.asarray(a), jnp.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape
        if jnp.issubdtype(a.dtype, jnp.floating):
            limit = max(tolerance, 4 * float(jnp.finfo(a.dtype).eps))
            np.testing.assert_allclose(
                np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=limit, atol=limit
            )
        else:
            assert jnp.array_equal(a, b)


# --- transformations of JAX ---------------------------------------------------------------------


def test_steps_lower_the_loss_and_move_float_leaves_only(name):
    start, end = trajectory(name)[0][0], trajectory(name)[-1][0]
    assert not jnp.array_equal(start["layer"][0], end["layer"][0])
    for leaf in ("steps", "on", "rng", "absent"):
        assert_close(end[leaf], start[leaf])
    assert [p["layer"][1].dtype for p, _ in trajectory(name)] == [jnp.bfloat16] * (STEPS + 1)


def test_eager_equals_jit_and_neither_traces_twice(name):
    traces = []

    def counted(params):
        traces.append(1)
        return loss(params)

    tx, step = compiled(name)
    params, state = trajectory(name)[0]
    for t, expected in enumerate(trajectory(name)[1:]):
        updates, state = tx.update(None, state, params, value_fn=counted)
        params = zojax.apply_updates(params, updates)
        assert_close((params, state), expected)
        if t == 0:
            first = len(traces)
    assert 0 < first == len(traces)
    assert step._cache_size() == 1


def test_scan_equals_a_loop(name):
    tx = compiled(name)[0]

    def body(carry, _):
        updates, state = tx.update(None, carry[1], carry[0], value_fn=loss)
        return (zojax.apply_updates(carry[0], updates), state), state.value

    last, values = jax.jit(lambda c: jax.lax.scan(body, c, length=STEPS))(trajectory(name)[0])
    assert_close(last, trajectory(name)[-1])
    assert_close(values, jnp.stack([state.value for _, state in trajectory(name)[1:]]))


def test_vmap_over_keys_equals_separate_runs(name):
    keys = jax.random.split(KEY, 2)

    def one(key):
        tx = OPTIMIZERS[name](key)
        updates, state = tx.update(None, tx.init(PARAMS), PARAMS, value_fn=loss)
        return zojax.apply_updates(PARAMS, updates), state

    # The keys of the parameters are not batched, and vmap cannot return what has no batch axis twice.
    together = jax.jit(jax.vmap(one))(keys)
    step = compiled(name)[1]
    for i, key in enumerate(keys):
        alone = step(PARAMS, OPTIMIZERS[name](key).init(PARAMS))
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), alone)
    assert not jnp.array_equal(*together[1].value) or not jnp.array_equal(
        *together[0]["layer"][0]
    )


def test_cond_around_update(name):
    tx = compiled(name)[0]

    def maybe(take, params, state):
        def go(params, state):
            updates, state = tx.update(None, state, params, value_fn=loss)
            return zojax.apply_updates(params, updates), state

        return jax.lax.cond(take, go, lambda *same: same, params, state)

    shapes = jax.eval_shape(maybe, True, *trajectory(name)[0])
    assert shapes == jax.eval_shape(lambda c: c, trajectory(name)[0])


def test_cond_takes_the_branch():
    tx = zojax.zo_sgd(0.1)
    state = tx.init(jnp.ones(2))

    def maybe(take):
        def go():
            return tx.update(None, state, jnp.ones(2), value_fn=lambda x: jnp.sum(x**2))

        return jax.lax.cond(take, go, lambda: (jnp.zeros(2), state))

    taken, left = jax.jit(maybe)(True), jax.jit(maybe)(False)
    assert_close(taken, tx.update(None, state, jnp.ones(2), value_fn=lambda x: jnp.sum(x**2)))
    assert_close(left, (jnp.zeros(2), state))


def test_passes_leak_and_key_reuse_checks(name):
    tx = OPTIMIZERS[name](KEY)
    with jax.checking_leaks(), jax.debug_key_reuse(True):
        params, state = PARAMS, tx.init(PARAMS)
        for _ in range(2):
            updates, state = tx.update(None, state, params, value_fn=loss)
            params = zojax.apply_updates(params, updates)
    assert_close((params, state), trajectory(name)[2])


def test_estimates_without_implicit_promotion(name):
    # optax.adam promotes by itself, so this is the gradient source of each optimizer alone.
    source = zojax.zeroth_order(estimator=compiled(name)[0].estimator)
    with jax.numpy_dtype_promotion("strict"):
        updates, _ = jax.eval_shape(
            lambda p: source.update(None, source.init(p), p, value_fn=loss), PARAMS
        )
    floats = jax.tree.map(lambda u: u.dtype, (updates["layer"], updates["scale"]))
    assert floats == ((jnp.float32, jnp.bfloat16), jnp.float32)


# --- state --------------------------------------------------------------------------------------


def test_init_needs_only_shapes(name):
    tx = compiled(name)[0]
    shapes = jax.eval_shape(lambda p: p, PARAMS)
    expected = jax.eval_shape(lambda s: s, tx.init(PARAMS))
    assert jax.eval_shape(tx.init, PARAMS) == expected
    assert jax.eval_shape(lambda s: s, tx.init(shapes)) == expected


def test_map_params_leaves_the_bookkeeping_alone(name):
    tx = compiled(name)[0]
    state = trajectory(name)[1][1]
    doubled = optax.tree.map_params(tx, lambda x: 2 * x, state)
    assert_close(doubled._replace(inner_state=()), state._replace(inner_state=()))
    assert jax.tree.structure(doubled) == jax.tree.structure(state)


def test_map_params_reaches_the_inner_state():
    tx, inner = zojax.zeroth_order(optax.adam(0.1)), optax.adam(0.1)
    state = tx.init(jnp.ones(3))
    mapped = optax.tree.map_params(tx, lambda x: x + 1, state)
    assert_close(
        mapped.inner_state, optax.tree.map_params(inner, lambda x: x + 1, state.inner_state)
    )
    assert_close(mapped.inner_state[0].mu, jnp.ones(3))


def test_orbax_round_trip_gives_the_same_next_step(name, tmp_path):
    _, step = compiled(name)
    params, state = trajectory(name)[1]
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", (params, state))
        checkpointer.wait_until_finished()
        shapes = jax.eval_shape(lambda c: c, (params, state))
        restored = checkpointer.restore(tmp_path / "state", shapes)
    assert_close(step(*restored), trajectory(name)[2], tolerance=0)


def test_any_step_can_be_replayed_from_its_count(name):
    """The key of step t is fold_in(rng_key, t): an estimate made by hand is the one of the run."""
    tx = compiled(name)[0]
    params, state = trajectory(name)[2]
    source = zojax.zeroth_order(estimator=tx.estimator, key=KEY)
    fresh = source.init(params)._replace(
        count=jnp.int32(2), estimator_state=state.estimator_state
    )
    _, replayed = jax.jit(lambda s: source.update(None, s, params, value_fn=loss))(fresh)
    by_hand = jax.jit(
        lambda p, s: tx.estimator.estimate(
            jax.random.fold_in(KEY, 2), loss, p, state=s, step=2
        ).value
    )(params, state.estimator_state)
    after = trajectory(name)[3][1]
    assert_close((replayed.value, replayed.estimator_state), (after.value, after.estimator_state))
    assert_close(by_hand, after.value)
    assert int(after.count) == 3 and jnp.array_equal(after.rng_key, KEY)


# --- values from outside, and values that are not finite -------------------------------------------


def test_values_from_outside_equal_a_loss(name):
    tx = compiled(name)[0]
    params, state = trajectory(name)[1]
    key = jax.random.fold_in(state.rng_key, state.count)
    points, _ = tx.estimator.ask(key, params, step=state.count)
    values = jax.jit(jax.vmap(loss))(points)
    assert values.shape == (tx.estimator.evaluations,)
    updates, told = tx.update(None, state, params, values=values)
    # Points in float32 and the same points inside a compiled loss differ by rounding over 2 mu.
    assert_close((zojax.apply_updates(params, updates), told), trajectory(name)[2], 2e-3)


def test_no_finite_value_means_no_step(name):
    tx, step = compiled(name)
    params, state = trajectory(name)[1]
    same, after = step(params, state, -jnp.inf)
    assert_close(same, params, tolerance=0)
    assert_close(after.inner_state, state.inner_state, tolerance=0)
    assert jnp.isnan(after.value)
    assert int(after.estimator_state.skipped) == tx.estimator.num_directions
    assert_close(after.estimator_state.previous, state.estimator_state.previous, tolerance=0)
    # and the next step, with finite values, goes on
    moved, later = step(same, after)
    assert int(later.count) == 3 and jnp.isfinite(later.value)
    assert int(later.estimator_state.skipped) == tx.estimator.num_directions
    assert not jnp.array_equal(moved["layer"][0], params["layer"][0])


@pytest.mark.parametrize("stencil", [stencils.central(), stencils.forward()])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_bad_directions_are_left_out(stencil, bad):
    """The update is the mean over the other directions, as from their values alone."""
    n, x, mu = 8, jnp.arange(1.0, 5.0), 0.125
    tx = zojax.zeroth_order(estimator=zojax.estimator(stencil=stencil, mu=mu, num_directions=n))
    state = tx.init(x)

    def broken(x):  # where the step is long along (1, 1, 1, 1)
        return jnp.where(jnp.abs(jnp.sum(x) - 10) > 0.3, bad, jnp.sum(x**2))

    updates, after = tx.update(None, state, x, value_fn=broken)
    points, _ = tx.estimator.ask(jax.random.fold_in(state.rng_key, 0), x)
    steps = (points[-n:] if 0.0 in stencil.offsets else points[::2]) - x
    keep = np.abs(np.sum(steps, axis=1)) <= 0.3
    assert 0 < keep.sum() < n
    z = np.asarray(steps[keep], np.float64) / mu
    slope = 2 * z @ np.asarray(x) + (4 * mu if 0.0 in stencil.offsets else 0)
    np.testing.assert_allclose(updates, np.mean(slope[:, None] * z, axis=0), rtol=1e-4)
    assert int(after.estimator_state.skipped) == n - keep.sum()
    assert jnp.isfinite(after.value)


# --- together with optax ----------------------------------------------------------------------------

INJECTABLE = {
    "zo_sgd": (zojax.zo_sgd, {"learning_rate": 0.1}, ()),
    "mezo": (zojax.mezo, {"learning_rate": 0.1, "mu": 0.01}, ("num_directions",)),
    "mezo_decay": (
        zojax.mezo,
        {"learning_rate": 0.1, "mu": 0.01, "weight_decay": 0.1},
        ("num_directions",),
    ),
    "spsa": (zojax.spsa, {"a": 0.1, "c": 0.01, "A": 10.0}, ("num_directions",)),
}


@pytest.mark.parametrize("name", INJECTABLE)
@pytest.mark.parametrize("kind", ["constant", "schedule"])
def test_injected_hyperparams_equal_constants(name, kind):
    make, constants, static = INJECTABLE[name]
    given = {k: v if kind == "constant" else lambda _, v=v: v for k, v in constants.items()}
    plain = make(**constants)
    injected = optax.inject_hyperparams(make, static_args=static)(**given)
    x = jnp.arange(1.0, 5.0)

    @functools.partial(jax.jit, static_argnums=0)
    def run(tx):
        params, state = x, tx.init(x)
        for _ in range(2):
            updates, state = tx.update(None, state, params, value_fn=lambda x: jnp.sum(x**2))
            params = optax.apply_updates(params, updates)
        return params, state

    (expected, _), (actual, state) = run(plain), run(injected)
    assert_close(actual, expected, 1e-4)
    assert state.hyperparams.keys() >= constants.keys()


def test_injecting_a_static_argument_says_what_to_do():
    tx = optax.inject_hyperparams(zojax.mezo)(num_directions=2)
    with pytest.raises(TypeError, match="num_directions.*static_args='num_directions'"):
        jax.jit(tx.init)(jnp.ones(2))


def test_mu_may_be_a_schedule():
    """Step t uses mu(t): with a one-point stencil and f = 1 the estimate is z / mu(t)."""
    source = zojax.estimator(stencil=stencils.one_point(), mu=lambda t: 0.5 / (t + 1))
    tx = zojax.zeroth_order(estimator=source)
    state = tx.init(jnp.zeros(3))
    for t in range(3):
        updates, state = tx.update(None, state, jnp.zeros(3), value_fn=lambda x: jnp.float32(1))
        np.testing.assert_allclose(jnp.abs(updates), 2 * (t + 1), rtol=1e-6)


def labels(params):
    return jax.tree.map(lambda x: "matrix" if x.ndim > 1 else "vector", params)


INNERS = {
    "identity": optax.identity(),
    "partition": optax.partition({"matrix": optax.sgd(0.05), "vector": optax.adam(0.1)}, labels),
    "masked": optax.chain(
        optax.masked(optax.set_to_zero(), lambda p: jax.tree.map(lambda x: x.ndim < 2, p)),
        optax.sgd(0.05),
    ),
    "multi_steps": optax.MultiSteps(optax.adam(0.1), 2),
    "apply_if_finite": optax.apply_if_finite(optax.sgd(0.05, momentum=0.9), 3),
    "polyak_sgd": optax.polyak_sgd(max_learning_rate=1.0),
    "reduce_on_plateau": optax.chain(
        optax.sgd(0.5), optax.contrib.reduce_on_plateau(factor=0.5, patience=1)
    ),
    "lbfgs": optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(20)),
    "schedule_free": optax.contrib.schedule_free_sgd(0.1, warmup_steps=2),
    "injected": optax.inject_hyperparams(optax.adam)(optax.linear_schedule(0.1, 0.0, 5)),
    "clip_and_decay": optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(0.1, weight_decay=0.1)
    ),
}


@pytest.mark.parametrize("name", INNERS)
def test_with_an_exact_estimate_a_run_equals_the_first_order_run(name):
    """All d Hadamard directions give the gradient of a quadratic, a point at x its value."""
    inner = optax.with_extra_args_support(INNERS[name])
    middle = stencils.Stencil(offsets=(1.0, -1.0, 0.0), weights=(0.5, -0.5, 0.0))
    exact = zojax.estimator(directions.hadamard(), middle, mu=0.25, num_directions=8)
    tx = zojax.zeroth_order(inner, exact)
    start = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([2.0, -1.0, 1.0])}

    def bowl(params):
        return jnp.sum(jnp.array([[1.0, 2.0], [0.5, 1.0]]) * params["w"] ** 2) + jnp.sum(
            (params["b"] - params["w"][0, 0]) ** 2
        )

    @jax.jit
    def zeroth(params, state):
        updates, state = tx.update(None, state, params, value_fn=bowl)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def first(params, state):
        value, grad = jax.value_and_grad(bowl)(params)
        updates, state = inner.update(
            grad, state, params, value=value, grad=grad, value_fn=bowl
        )
        return optax.apply_updates(params, updates), state

    a, b = (start, tx.init(start)), (start, inner.init(start))
    for _ in range(4):
        a, b = zeroth(*a), first(*b)
        assert_close(a[0], b[0], 1e-3)
    assert_close(a[1].value, bowl(b[0]) if name == "" else a[1].value)
    assert zeroth._cache_size() == 1


def test_the_default_inner_heads_a_chain():
    source = zojax.estimator(num_directions=2)
    x = jnp.arange(4.0)
    updates = []
    for tx in (
        optax.chain(zojax.zeroth_order(estimator=source, key=3), optax.sgd(0.1)),
        zojax.zo_sgd(0.1, source, key=3),
    ):
        updates.append(tx.update(None, tx.init(x), x, value_fn=lambda x: jnp.sum(x**2))[0])
    assert_close(*updates)


def test_integer_leaves_take_optax_apply_updates():
    params = {"w": jnp.ones(3), "n": jnp.arange(2), "on": jnp.array(True)}
    tx = zojax.zo_sgd(0.1)
    updates, _ = tx.update(
        None, tx.init(params), params, value_fn=lambda p: jnp.sum(p["w"] ** 2) * p["n"][1]
    )
    moved = optax.apply_updates(params, updates)
    assert_close((moved["n"], moved["on"]), (params["n"], params["on"]))
    assert moved["w"].dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_half_precision_estimate_is_the_rounded_one(dtype):
    """Where x +- mu z is exact, low precision only rounds the result."""
    source = zojax.estimator(mu=2.0**-5, num_directions=4)
    updates = []
    for kind in (dtype, jnp.float32):
        x = jnp.ones((2, 4), kind)
        tx = zojax.zeroth_order(estimator=source)
        value_fn = lambda x: jnp.sum(jnp.arange(8.0).reshape(2, 4) * x.astype(jnp.float32))  # noqa: E731
        updates.append(tx.update(None, tx.init(x), x, value_fn=value_fn)[0])
    assert updates[0].dtype == dtype
    assert jnp.array_equal(updates[0], updates[1].astype(dtype))


# --- errors -------------------------------------------------------------------------------------------


def bowl(x):
    return jnp.sum(x**2)


ERRORS = {
    "no loss": ({}, TypeError, r"loss.*value_fn=None.*tx\.update\(None, state, params, value_fn="),
    "unknown extra": (
        {"value_fn": lambda x, batch: bowl(x), "bacth": 1},
        TypeError,
        r"'bacth'.*takes \['batch'\].*do not pass it",
    ),
    "vector loss": ({"value_fn": lambda x: x}, ValueError, r"scalar, got shape \(2,\).*mean"),
    "tuple loss": ({"value_fn": lambda x: (bowl(x), x)}, TypeError, "scalar, got tuple.*has_aux"),
    "complex loss": ({"value_fn": lambda x: bowl(x) + 1j}, TypeError, "real number, got .*complex"),
    "too few values": ({"values": jnp.ones(3)}, ValueError, r"values.*\(2,\).*got \(3,\)"),
    "host loss": (
        {"value_fn": lambda x: float(np.sum(np.asarray(x)))},
        jax.errors.TracerArrayConversionError,
        "jit=False",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_of_update(case):
    arguments, kind, message = ERRORS[case]
    tx = zojax.mezo()
    with pytest.raises(kind) as error:
        tx.update(None, tx.init(jnp.ones(2)), jnp.ones(2), **arguments)
    assert_matches(message, error.value)


def test_update_needs_params():
    tx = zojax.mezo()
    with pytest.raises(ValueError, match=r"parameters: tx\.update\(None, state, params"):
        tx.update(None, tx.init(jnp.ones(2)), value_fn=bowl)


def test_parameters_need_a_float_leaf():
    tx = zojax.mezo()
    params = {"n": jnp.arange(3)}
    with pytest.raises(ValueError, match="no float leaf.*int32.*cast"):
        tx.update(None, tx.init(params), params, value_fn=lambda p: jnp.sum(p["n"]))


@pytest.mark.parametrize("wrong", [zojax.estimator, 0.1, directions.rademacher()])
def test_zeroth_order_needs_an_estimator(wrong):
    with pytest.raises(TypeError, match=r"estimator must be a zojax\.estimator\(\.\.\.\), got"):
        zojax.zeroth_order(optax.sgd(0.1), wrong)


@pytest.mark.parametrize("wrong", ["seed", 1.5, True, None])
def test_key_must_be_a_key(wrong):
    with pytest.raises(TypeError, match="key must be an int or a jax.random key, got"):
        zojax.zeroth_order(key=wrong)


def test_keys_of_any_kind_are_one_key():
    expected = zojax.mezo(key=jax.random.key(3)).init(jnp.ones(2))
    for key in (3, np.int64(3), jax.random.PRNGKey(3)):
        assert_close(zojax.mezo(key=key).init(jnp.ones(2)), expected)


def assert_matches(pattern, error):
    import re

    text = "\n".join([str(error), *getattr(error, "__notes__", [])])
    assert re.search(pattern, text, re.DOTALL), text
