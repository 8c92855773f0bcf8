"""Laws of `zeroth_order`, over a table of every ready-made optimizer and of what goes inside."""

import copy
import functools
import itertools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

import zojax
from tests._laws import fast
from tests._trees import assert_close, assert_same_bits
from tests.optimizers._laws import MU, OPTIMIZERS
from zojax import directions, noise, shaping, stencils

# --- what the laws run over -------------------------------------------------------------------

TRANSFORMATIONS = {
    **{name: law.make for name, law in OPTIMIZERS.items()},
    "adam": lambda key: zojax.zeroth_order(optax.adam(0.02), zojax.estimator(mu=MU), key=key),
    "low_rank_forward": lambda key: zojax.zeroth_order(
        optax.adam(0.02),
        zojax.estimator(directions.low_rank(), stencils.forward(), mu=MU, num_directions=3),
        key=key,
    ),
    "one_point_residual": lambda key: zojax.zo_sgd(
        0.01, zojax.estimator(stencil=stencils.one_point_residual(), mu=MU), key=key
    ),
    "one_point_baseline": lambda key: zojax.zo_sgd(
        0.01,
        zojax.estimator(
            directions.coordinate(),
            stencils.one_point(),
            shaping.baseline(),
            mu=MU,
            num_directions=4,
        ),
        key=key,
    ),
}
# For laws that run: zo_sgd, mezo and adam are there with momentum, decay and low-rank directions. Scalars
# of past steps, a memory as large as the parameters, and one of bases stand for the other methods.
DISTINCT = fast(
    [
        *("zo_sgd, momentum", "mezo, normal and decay", "spsa", "open_es", "ars"),
        *("low_rank_forward", "one_point_residual", "one_point_baseline"),
        *("zo_momentum", "conmezo", "lozo_m"),
    ],
    TRANSFORMATIONS,
)
# For laws that compile a program of their own: every kind of direction, stencil, shaping and schedule.
KINDS = fast(
    ["spsa", "open_es", "low_rank_forward", "one_point_residual", "one_point_baseline"],
    TRANSFORMATIONS,
)
KEY = jax.random.key(42)
STEPS = 3

# Every kind of leaf that a model may hold.
PARAMS = {
    "layer": (jnp.array([[0.5, -0.25, 1.0], [0.0, 0.75, -1.0]]), jnp.ones(3, jnp.bfloat16)),
    "steps": jnp.int32(7),
    "on": jnp.array([True, False]),
    "rng": jax.random.key(5),
    "absent": None,
}


def loss(params, limit=jnp.inf):
    """A quadratic; NaN beyond `limit`.

    Little of it comes from the bfloat16 leaf: how far x + mu z is rounded is up to the compiler.
    """
    w, b = params["layer"]
    out = jnp.mean((w @ jnp.arange(3.0) - 1) ** 2)
    out = out + 0.01 * jnp.mean(b.astype(jnp.float32) ** 2)
    out = out * (params["steps"] - 6).astype(jnp.float32)
    return jnp.where(out <= limit, out, jnp.nan)


def bowl(x):
    return jnp.sum(x**2)


loss_of_each = jax.jit(jax.vmap(loss))


@functools.cache
def compiled(name):
    """The transformation and its jitted step, shared by the tests: compiling is what takes time."""
    tx = TRANSFORMATIONS[name](KEY)

    @jax.jit
    def step(params, state, limit):
        updates, state = tx.update(None, state, params, value_fn=loss, limit=limit)
        return zojax.apply_updates(params, updates), state

    return tx, step


@functools.cache
def trajectory(name):
    """(params, state) before the first and after each of a few jitted steps.

    The arrays are committed to a device, as those of a checkpoint are: both take the same program.
    """
    tx, step = compiled(name)
    points = [jax.device_put((PARAMS, tx.init(PARAMS)), jax.devices()[0])]
    for _ in range(STEPS):
        points.append(step(*points[-1], jnp.inf))
    return points


METHODS = {n for n in TRANSFORMATIONS if n in OPTIMIZERS and OPTIMIZERS[n].converging is None}
MINOR = METHODS - {"zo_momentum", "conmezo", "lozo_m"}


@pytest.fixture(params=fast(TRANSFORMATIONS.keys() - MINOR, TRANSFORMATIONS))
def name(request):
    return request.param


# --- transformations of JAX ---------------------------------------------------------------------


@pytest.mark.parametrize("name", DISTINCT)
def test_steps_move_float_leaves_only(name):
    start, end = trajectory(name)[0][0], trajectory(name)[-1][0]
    for before, after in zip(start["layer"], end["layer"], strict=True):
        assert not jnp.array_equal(before, after)
    for leaf in ("steps", "on", "rng", "absent"):
        assert_close(end[leaf], start[leaf])
    assert [p["layer"][1].dtype for p, _ in trajectory(name)] == [jnp.bfloat16] * (STEPS + 1)


@pytest.mark.parametrize("name", KINDS)
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


# A schedule that reads the count, moments of Adam, and a memory of values: the kinds of carry.
@pytest.mark.parametrize("name", fast(["spsa", "open_es", "one_point_residual"], TRANSFORMATIONS))
def test_scan_under_vmap_over_keys_equals_loops(name):
    keys = jnp.stack([KEY, jax.random.key(7)])

    def run(key):
        tx = TRANSFORMATIONS[name](key)

        def body(carry, _):
            params, state = carry
            updates, state = tx.update(None, state, params, value_fn=loss)
            return (zojax.apply_updates(params, updates), state), state.value

        return jax.lax.scan(body, (PARAMS, tx.init(PARAMS)), length=STEPS)

    together, values = jax.jit(jax.vmap(run))(keys)
    assert_close(jax.tree.map(lambda x: x[0], together), trajectory(name)[-1])
    assert_close(values[0], jnp.stack([state.value for _, state in trajectory(name)[1:]]))
    other = PARAMS, TRANSFORMATIONS[name](keys[1]).init(PARAMS)
    other = jax.device_put(other, jax.devices()[0])
    for _ in range(STEPS):
        other = compiled(name)[1](*other, jnp.inf)
    assert_close(jax.tree.map(lambda x: x[1], together), other)
    assert not jnp.array_equal(*together[0]["layer"][0])


def test_cond_around_update(name):
    tx = compiled(name)[0]

    def maybe(take, params, state):
        def go(params, state):
            updates, state = tx.update(None, state, params, value_fn=loss)
            return zojax.apply_updates(params, updates), state

        return jax.lax.cond(take, go, lambda *same: same, params, state)

    start = PARAMS, tx.init(PARAMS)
    assert jax.eval_shape(maybe, True, *start) == jax.eval_shape(lambda c: c, start)


def test_cond_takes_the_branch():
    tx = zojax.zo_sgd(0.1)
    state = tx.init(jnp.ones(2))

    def maybe(take):
        def go():
            return tx.update(None, state, jnp.ones(2), value_fn=bowl)

        return jax.lax.cond(take, go, lambda: (jnp.zeros(2), state))

    taken, left = jax.jit(maybe)(True), jax.jit(maybe)(False)
    assert_close(taken, tx.update(None, state, jnp.ones(2), value_fn=bowl))
    assert_close(left, (jnp.zeros(2), state))


@pytest.mark.parametrize("name", KINDS)
def test_passes_leak_and_key_reuse_checks(name):
    """Both checks happen while tracing: nothing needs to run."""
    tx = TRANSFORMATIONS[name](KEY)

    def run(params):
        state = tx.init(params)
        for _ in range(2):
            updates, state = tx.update(None, state, params, value_fn=loss)
            params = zojax.apply_updates(params, updates)
        return params

    with jax.checking_leaks(), jax.debug_key_reuse(True):
        shapes = jax.eval_shape(run, PARAMS)
    assert shapes == jax.eval_shape(lambda p: p, PARAMS)


def test_the_key_reuse_check_would_have_found_it():
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.eval_shape(lambda k: jax.random.normal(k) + jax.random.normal(k), KEY)


def test_estimates_without_implicit_promotion(name):
    # optax.adam promotes by itself, so this is the gradient source of each optimizer alone.
    source = zojax.zeroth_order(estimator=TRANSFORMATIONS[name](KEY).estimator)

    def update(params):
        return source.update(None, source.init(params), params, value_fn=loss)[0]["layer"]

    with jax.numpy_dtype_promotion("strict"):
        updates = jax.eval_shape(update, PARAMS)
    assert [u.dtype for u in updates] == [jnp.float32, jnp.bfloat16]


# --- state --------------------------------------------------------------------------------------


def test_init_needs_only_shapes(name):
    tx = compiled(name)[0]
    shapes = jax.eval_shape(lambda p: p, PARAMS)
    expected = jax.eval_shape(lambda s: s, tx.init(PARAMS))
    assert jax.eval_shape(tx.init, PARAMS) == expected
    assert jax.eval_shape(lambda s: s, tx.init(shapes)) == expected


@pytest.mark.parametrize("name", DISTINCT)
def test_map_params_leaves_the_bookkeeping_alone(name):
    tx = compiled(name)[0]
    state = trajectory(name)[1][1]
    doubled = optax.tree.map_params(tx, lambda x: 2 * x, state)
    assert_close(_bookkeeping(doubled), _bookkeeping(state))
    assert jax.tree.structure(doubled) == jax.tree.structure(state)


def _bookkeeping(state):
    """A state without the trees that may hold parameters: of inner, and of an adaptive direction."""
    return state._replace(
        inner_state=(), estimator_state=state.estimator_state._replace(direction=())
    )


def test_map_params_reaches_the_inner_state():
    tx, inner = zojax.zeroth_order(optax.adam(0.1)), optax.adam(0.1)
    state = tx.init(jnp.ones(3))
    mapped = optax.tree.map_params(tx, lambda x: x + 1, state)
    assert_close(
        mapped.inner_state, optax.tree.map_params(inner, lambda x: x + 1, state.inner_state)
    )
    assert_close(mapped.inner_state[0].mu, jnp.ones(3))


@pytest.mark.parametrize("name", DISTINCT)
def test_orbax_round_trip_gives_the_same_next_step(name, tmp_path):
    _, step = compiled(name)
    params, state = trajectory(name)[1]
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", (params, state))
        checkpointer.wait_until_finished()
        shapes = jax.eval_shape(lambda c: c, (params, state))
        restored = checkpointer.restore(tmp_path / "state", shapes)
    assert_close(step(*restored, jnp.inf), trajectory(name)[2], tolerance=0)
    assert step._cache_size() == 1


# --- values from outside, and values that are not finite -------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_any_step_can_be_replayed_by_values_from_outside(name):
    """Step t has the key fold_in(rng_key, t): its points, evaluated by hand, give the same step."""
    tx = compiled(name)[0]
    params, state = trajectory(name)[2]
    ask = functools.partial(tx.estimator.ask, step=2, state=state.estimator_state)
    if name in OPTIMIZERS and not OPTIMIZERS[name].asks:
        with pytest.raises(ValueError, match="give update a value_fn"):
            ask(jax.random.fold_in(KEY, 2), params)
        with pytest.raises(ValueError, match="give update a value_fn"):
            tx.update(None, state, params, values=jnp.ones(tx.estimator.evaluations))
        return
    points, _ = ask(jax.random.fold_in(KEY, 2), params)
    values = loss_of_each(points)
    updates, told = tx.update(None, state, params, values=values)
    assert_close((zojax.apply_updates(params, updates), told), trajectory(name)[3], 2e-4)
    assert int(told.count) == 3 and jnp.array_equal(told.rng_key, KEY)


@pytest.mark.optimized
@pytest.mark.parametrize("name", KINDS)
def test_coefficients_replay_a_step_to_the_bit(name):
    tx, replay = compiled(name)[0], jax.jit(compiled(name)[0].replay)
    if name in OPTIMIZERS and not OPTIMIZERS[name].replays:
        params, state = PARAMS, tx.init(PARAMS)
        with pytest.raises(ValueError, match="neither values from outside nor a log contain"):
            replay(state, params, state.coefficients)
        return
    steps = trajectory.__wrapped__(name)  # as users' programs are compiled, so not the shared ones
    for (params, before), (expected, after) in itertools.pairwise(steps):
        updates, state = replay(before, params, after.coefficients, after.value)
        # Outside jit: in two programs what `compiled` does in one.
        found = zojax.apply_updates(params, updates)
        assert_same_bits(found["layer"], expected["layer"])
        assert_same_bits(
            (state.inner_state, state.count, state.value, state.coefficients),
            (after.inner_state, after.count, after.value, after.coefficients),
        )
        assert int(state.estimator_state.skipped) == int(after.estimator_state.skipped)
        # What evaluations show stays as it was: a replay has none.
        shown = slice(3, zojax.EstimatorState._fields.index("direction"))
        assert_same_bits(state.estimator_state[shown], before.estimator_state[shown])
        assert_same_bits(state.estimator_state.direction, after.estimator_state.direction)
        if tx.estimator.stencil.memory:
            assert_same_bits(state.estimator_state[:3], after.estimator_state[:3])
    assert tx.estimator.num_directions == after.coefficients.size


def test_a_direction_left_out_has_no_coefficient():
    tx = zojax.zo_sgd(0.1, zojax.estimator(num_directions=3))
    values = [1.0, jnp.nan, 3.0, 2.0, 5.0, 4.0]
    _, after = tx.update(None, tx.init(jnp.ones(2)), jnp.ones(2), values=values)
    assert jnp.isnan(after.coefficients).tolist() == [True, False, False]
    again = tx.replay(tx.init(jnp.ones(2)), jnp.ones(2), after.coefficients, after.value)[1]
    assert int(again.estimator_state.skipped) == 1


def test_a_step_that_evaluates_the_loss_cannot_be_replayed():
    tx = zojax.zeroth_order(optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(3)))
    state = tx.init(jnp.ones(2))
    with pytest.raises(ValueError, match="evaluates the loss"):
        tx.replay(state, jnp.ones(2), state.coefficients)


@pytest.mark.parametrize("name", DISTINCT)
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
    moved, later = step(same, after, jnp.inf)
    assert int(later.count) == 3 and jnp.isfinite(later.value)
    assert int(later.estimator_state.skipped) == tx.estimator.num_directions
    assert not jnp.array_equal(moved["layer"][0], params["layer"][0])


@pytest.mark.parametrize("stencil", [stencils.central(), stencils.forward()])
def test_bad_directions_are_left_out(stencil):
    """The update is the mean over the other directions, as from their values alone."""
    n, x, centered = 8, jnp.arange(1.0, 5.0), 0.0 in stencil.offsets
    source = zojax.estimator(stencil=stencil, mu=MU, num_directions=n)
    tx = zojax.zeroth_order(estimator=source, key=2)
    state = tx.init(x)
    points, _ = source.ask(jax.random.fold_in(state.rng_key, 0), x)
    z = np.asarray((points[-n:] if centered else points[::2]) - x, np.float64) / MU
    keep = np.abs(z.sum(axis=1)) < 3
    assert 0 < keep.sum() < n
    slopes = 2 * z @ np.asarray(x) + (4 * MU if centered else 0)
    expected = np.mean((slopes[:, None] * z)[keep], axis=0)

    def broken(x, bad):  # where the step is long along (1, 1, 1, 1)
        return jnp.where(jnp.abs(jnp.sum(x) - 10) > 3 * MU, bad, jnp.sum(x**2))

    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        updates, after = tx.update(None, state, x, value_fn=broken, bad=bad)
        np.testing.assert_allclose(updates, expected, rtol=1e-4)
        assert int(after.estimator_state.skipped) == n - keep.sum()
        assert jnp.isfinite(after.value)


def test_a_bad_direction_gets_no_weight_from_the_baseline_of_the_others():
    source = zojax.estimator(
        directions.coordinate(), stencils.one_point(), shaping.baseline(), MU, num_directions=4
    )
    x = jnp.arange(1.0, 5.0)
    tx = zojax.zeroth_order(estimator=source)
    updates, after = tx.update(
        None, tx.init(x), x, value_fn=lambda x: jnp.where(x[0] == 1, bowl(x), jnp.nan)
    )
    assert int(after.estimator_state.skipped) == 1
    assert float(updates[0]) == 0 and jnp.all(updates[1:] != 0)


# --- together with optax ----------------------------------------------------------------------------

# A learning rate and a radius are a constant in one row and a schedule in another.
INJECTABLE = {
    "zo_sgd": (zojax.zo_sgd, {"learning_rate": 0.1}, (), ()),
    "mezo": (
        zojax.mezo,
        {"learning_rate": 0.1, "mu": MU, "weight_decay": 0.1},
        ("learning_rate", "weight_decay"),
        ("num_directions",),
    ),
    "spsa": (zojax.spsa, {"a": 0.1, "c": MU, "A": 10.0}, ("a", "c"), ("num_directions",)),
}


@pytest.mark.parametrize("name", INJECTABLE)
def test_injected_hyperparams_equal_constants(name):
    make, constants, scheduled, static = INJECTABLE[name]
    injected = constants | {k: lambda _, v=constants[k]: jnp.float32(v) for k in scheduled}
    inject = optax.inject_hyperparams(make, static_args=static)
    results = []
    for tx in (make(**constants), inject(**injected)):
        step = jax.jit(functools.partial(tx.update, None, value_fn=bowl))
        params, state = jnp.arange(4.0), tx.init(jnp.arange(4.0))
        for _ in range(2):
            updates, state = step(state, params)
            params = optax.apply_updates(params, updates)
        results.append(params)
    assert_close(results[1], results[0], 1e-3)
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
    one = lambda x: jnp.float32(1)  # noqa: E731
    for t in range(3):
        updates, state = tx.update(None, state, jnp.zeros(3), value_fn=one)
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


# Several to a run where each has leaves or a stage of its own: compiling is what takes time.
TOGETHER = {
    "two on parts": optax.partition(
        {"matrix": INNERS["apply_if_finite"], "vector": INNERS["injected"]}, labels
    ),
    "two in a chain": optax.chain(INNERS["clip_and_decay"], INNERS["masked"]),
}


def basis():
    """The unit vectors of all leaves in turn, times the root of their number."""

    def draw(frame, index, like):
        d = sum(leaf.size for leaf in jax.tree.leaves(like))
        unit = jnp.sqrt(d) * jax.nn.one_hot(index, d)
        parts = iter(jnp.split(unit, np.cumsum([leaf.size for leaf in jax.tree.leaves(like)])))
        return jax.tree.map(lambda leaf: noise.StoredNoise(next(parts).reshape(leaf.shape)), like)

    return directions.Direction(lambda *_: (), draw, directions.accumulate(draw))


@pytest.mark.parametrize(
    "name",
    fast([*TOGETHER, "reduce_on_plateau", "schedule_free"], TOGETHER | INNERS),
)
def test_with_an_exact_estimate_a_run_equals_the_first_order_run(name):
    """A whole basis gives the gradient of a quadratic at any radius, a point at x its value."""
    inner = optax.with_extra_args_support((TOGETHER | INNERS)[name])
    middle = stencils.Stencil(offsets=(1.0, -1.0, 0.0), weights=(0.5, -0.5, 0.0))
    exact = zojax.estimator(basis(), middle, mu=2.0, num_directions=7)
    tx = zojax.zeroth_order(inner, exact)
    start = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([2.0, -1.0, 1.0])}

    def quadratic(params):
        return jnp.sum(jnp.array([[1.0, 2.0], [0.5, 1.0]]) * params["w"] ** 2) + jnp.sum(
            (params["b"] - params["w"][0, 0]) ** 2
        )

    @jax.jit
    def zeroth(params, state):
        updates, state = tx.update(None, state, params, value_fn=quadratic)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def first(params, state):
        value, grad = jax.value_and_grad(quadratic)(params)
        updates, state = inner.update(
            grad, state, params, value=value, grad=grad, value_fn=quadratic
        )
        return optax.apply_updates(params, updates), state

    a, b = (start, tx.init(start)), (start, inner.init(start))
    for _ in range(4):
        value = quadratic(b[0])
        a, b = zeroth(*a), first(*b)
        assert_close((a[0], a[1].value), (b[0], value), 1e-3)
    assert zeroth._cache_size() == 1


def test_the_default_inner_heads_a_chain():
    source = zojax.estimator(num_directions=2)
    x = jnp.arange(4.0)
    updates = []
    for tx in (
        optax.chain(zojax.zeroth_order(estimator=source, key=3), optax.sgd(0.1)),
        zojax.zo_sgd(0.1, source, key=3),
    ):
        updates.append(tx.update(None, tx.init(x), x, value_fn=bowl)[0])
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


ROUNDING = zojax.zeroth_order(estimator=zojax.estimator(mu=2.0**-5, num_directions=4))


def numbered(x):
    return jnp.sum(jnp.arange(8.0).reshape(2, 4) * x.astype(jnp.float32))


@pytest.mark.parametrize("dtype", fast([jnp.bfloat16], [jnp.bfloat16, jnp.float16]))
def test_a_half_precision_estimate_is_the_rounded_one(dtype):
    """Where x +- mu z is exact, low precision only rounds the result."""
    half, full = (jnp.ones((2, 4), kind) for kind in (dtype, jnp.float32))
    updates = [step_on(ROUNDING, x, numbered)[0] for x in (half, full)]
    assert updates[0].dtype == dtype
    assert jnp.array_equal(updates[0], updates[1].astype(dtype))


# --- errors -------------------------------------------------------------------------------------------


ERRORS = {
    "no loss": ({}, TypeError, r"loss.*value_fn=None.*tx\.update\(None, state, params, value_fn="),
    "unknown extra": (
        {"value_fn": lambda x, batch: bowl(x), "bacth": 1},
        TypeError,
        r"'bacth'.*takes \['batch'\].*do not pass it",
    ),
    "vector loss": ({"value_fn": lambda x: x}, ValueError, r"scalar, got shape \(2,\).*mean"),
    "tuple loss": ({"value_fn": lambda x: (bowl(x), x)}, TypeError, "scalar, got a tuple.*has_aux"),
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


def test_update_needs_a_state_of_its_own():
    tx, x = zojax.mezo(), jnp.ones(2)
    for wrong in (x, optax.sgd(0.1).init(x)):
        with pytest.raises(TypeError, match=r"state must be .* tx\.update\(None, state, params"):
            tx.update(None, wrong, x, value_fn=bowl)
    four = zojax.mezo(num_directions=4)
    with pytest.raises(ValueError, match=r"step with 1 directions, .* has 4: .*tx\.init"):
        four.update(None, tx.init(x), x, value_fn=bowl)


def test_update_needs_params():
    tx = zojax.mezo()
    with pytest.raises(ValueError, match=r"parameters: tx\.update\(None, state, params"):
        tx.update(None, tx.init(jnp.ones(2)), value_fn=bowl)


def test_parameters_need_a_float_leaf():
    tx = zojax.mezo()
    params = {"n": jnp.arange(3)}
    with pytest.raises(ValueError, match="no float leaf.*int32.*cast"):
        tx.update(None, tx.init(params), params, value_fn=lambda p: jnp.sum(p["n"]))


def test_an_estimator_in_the_place_of_the_inner_transformation_is_refused():
    with pytest.raises(
        TypeError, match=r"inner must be an optax .* zeroth_order\(estimator=\.\.\.\)"
    ):
        zojax.zeroth_order(zojax.estimator())


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
    text = "\n".join([str(error), *getattr(error, "__notes__", [])])
    assert re.search(pattern, text, re.DOTALL), text


def test_a_donated_state_leaves_the_transformation_its_key():
    tx = zojax.mezo(key=jax.random.key(3))
    step = jax.jit(lambda state: state._replace(count=state.count + 1), donate_argnums=0)
    step(tx.init(jnp.ones(2)))
    again = step(tx.init(jnp.ones(2)))
    assert int(again.count) == 1 and again.rng_key == jax.random.key(3)


# --- what must not happen silently ----------------------------------------------------------------


def step_on(tx, params, loss, **extras):
    return tx.update(None, tx.init(params), params, value_fn=loss, **extras)


def test_values_and_a_loss_exclude_each_other():
    def loss(params, values):
        return jnp.sum((params - values) ** 2)

    with pytest.raises(TypeError, match="update got value_fn and values.*rename it"):
        step_on(zojax.mezo(0.1), jnp.ones(2), loss, values=jnp.array([5.0, 7.0]))


def only_by_position(params, /, x):
    return jnp.sum(params * x)


def only_by_name(*args, x):
    return jnp.sum(args[0] * x)


@pytest.mark.parametrize("loss", [only_by_position, only_by_name])
def test_a_loss_may_take_its_parameters_by_position_only(loss):
    assert step_on(zojax.mezo(0.1), jnp.ones(2), loss, x=2.0)[1].value == pytest.approx(4, rel=1e-3)


def test_float16_holds_its_largest_number_where_a_gradient_is_larger():
    def loss(params):
        return 1e5 * params[0].astype(jnp.float32)

    updates, state = step_on(zojax.mezo(1e-3), jnp.ones(4, jnp.float16), loss)
    assert int(state.estimator_state.skipped) == 0
    np.testing.assert_allclose(jnp.abs(updates), 65.5, rtol=1e-2)


def test_a_radius_of_zero_leaves_out_every_direction():
    tx = zojax.mezo(0.1, optax.linear_schedule(1e-2, 0.0, 1))
    params = jnp.ones(2)
    _, state = step_on(tx, params, bowl)
    assert int(state.estimator_state.skipped) == 0
    updates, state = tx.update(None, state, params, value_fn=bowl)
    assert int(state.estimator_state.skipped) == 1 and not jnp.any(updates)


def test_a_transformation_can_be_copied():
    tx = copy.deepcopy(zojax.mezo(0.1))
    assert tx.estimator.evaluations == 2
    assert jnp.all(step_on(tx, jnp.ones(2), lambda x: jnp.sum(x**2))[0] != 0)


def test_nothing_is_nan_to_jax_before_the_first_step():
    params = jnp.ones(2)
    with jax.debug_nans(True):
        updates, _ = step_on(zojax.mezo(0.1), params, lambda x: jnp.sum(x**2))
    assert jnp.all(jnp.isfinite(updates))


CHOICES = {
    "mu of text": (lambda: zojax.mezo(mu="0.1"), "mu must be a number, got '0.1'"),
    "no mu": (lambda: zojax.estimator(mu=None), "mu must be a number, got None"),
    "two mus": (lambda: zojax.estimator(mu=[0.1, 0.2]), "mu must be a number, got"),
    "a rate": (lambda: zojax.zeroth_order(0.1), r"inner must be .* got 0.1; did you forget"),
    "masked": (
        lambda: zojax.directions.masked(zojax.directions.normal, {}),
        r"direction must be a Direction.*forget to call it, direction=\.\.\.\(\)",
    ),
    "vectors": (
        lambda: zojax.directions.low_rank(vectors=zojax.directions.normal),
        "vectors must be a Direction",
    ),
    "stencil": (
        lambda: zojax.estimator(stencil=zojax.Stencil(np.ones(2), np.ones(2))),
        "stencil offsets and weights must be tuples of floats",
    ),
}


@pytest.mark.parametrize("case", CHOICES)
def test_a_wrong_kind_is_refused_when_it_is_chosen(case):
    make, message = CHOICES[case]
    with pytest.raises(TypeError, match=message):
        make()


def test_the_loss_gets_one_key():
    source = zojax.estimator(with_key=True)
    with pytest.raises(TypeError, match="with_key=True gives the loss its key=, and so did"):
        source.estimate(0, lambda x, key: jnp.sum(x), jnp.ones(2), kwargs={"key": 1})


def test_a_transformation_is_a_pytree_of_its_functions():
    tx = zojax.mezo()
    again = jax.tree.map(lambda x: x, tx)
    assert again.estimator is tx.estimator and again.replay is tx.replay
    assert jax.tree.leaves(tx) == [tx.init, tx.update]
    assert jax.tree.structure(tx) == jax.tree.structure(again)


def test_a_source_inside_a_source_is_refused():
    with pytest.raises(TypeError, match="takes gradients, got one that estimates them"):
        zojax.zeroth_order(zojax.mezo())


def test_a_line_search_needs_one_loss_for_all_directions():
    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5))
    tx = zojax.zeroth_order(search, zojax.estimator(with_key=True, num_directions=2))
    params = jnp.ones(2)
    with pytest.raises(ValueError, match="keys or data of its own for every direction"):
        tx.update(None, tx.init(params), params, value_fn=lambda p, key: bowl(p))


# --- half precision -------------------------------------------------------------------------------

HALF = {"w": jnp.ones(4, jnp.float16), "b": jnp.float32(2.0), "n": jnp.int32(3)}


def steep(params):
    return 1e6 * params["w"][0].astype(jnp.float32) + params["b"]


def in_float32(inner, **options):
    return zojax.zeroth_order(inner, zojax.estimator(mu=0.5), inner_dtype=jnp.float32, **options)


def test_inner_dtype_gives_the_inner_transformation_what_float16_would_clip():
    seen = []

    def update(grads, state, params=None):
        seen.append((grads["w"].dtype, params["w"].dtype, params["n"]))
        return grads, state

    spy = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    inner = optax.chain(spy, optax.clip_by_global_norm(1.0), optax.adam(0.1))
    tx = in_float32(inner)
    state = tx.init(HALF)
    updates, after = tx.update(None, state, HALF, value_fn=steep)
    assert seen and all(x == (jnp.float32, jnp.float32, None) for x in seen)
    assert updates["w"].dtype == jnp.float16 and updates["b"].dtype == jnp.float32
    np.testing.assert_allclose(np.abs(updates["w"]), 0.1, rtol=1e-2)
    assert int(after.estimator_state.clipped) == 0
    describe = functools.partial(jax.tree.map, lambda x: (x.shape, x.dtype, x.weak_type))
    assert describe(jax.eval_shape(tx.init, HALF)) == describe(jax.eval_shape(lambda: after))
    assert after.inner_state[2][0].mu["w"].dtype == jnp.float32
    # Without it a norm of what was clipped overflows.
    tx = zojax.zeroth_order(optax.clip_by_global_norm(1.0), zojax.estimator(mu=0.5))
    updates, after = tx.update(None, tx.init(HALF), HALF, value_fn=steep)
    assert not jnp.any(updates["w"]) and int(after.estimator_state.clipped) == 4


def test_updates_beyond_float16_are_clipped():
    tx = in_float32(optax.identity())
    updates, _ = tx.update(None, tx.init(HALF), HALF, value_fn=steep)
    assert jnp.all(jnp.isfinite(updates["w"])) and jnp.max(jnp.abs(updates["w"])) == 65504


@pytest.mark.optimized
def test_with_inner_dtype_a_step_is_replayed_to_the_bit():
    tx = in_float32(optax.adamw(0.1, weight_decay=0.1))
    state = tx.init(HALF)
    updates, after = tx.update(None, state, HALF, value_fn=steep)
    again, replayed = tx.replay(state, HALF, after.coefficients, after.value)
    assert_same_bits(again, updates)
    assert_same_bits(replayed.inner_state, after.inner_state)
    points, _ = tx.estimator.ask(jax.random.fold_in(state.rng_key, 0), HALF)
    told, _ = tx.update(None, state, HALF, values=jax.vmap(steep)(points))
    assert_close(told, updates, 1e-3)


def test_with_inner_dtype_a_line_search_gives_the_loss_its_own_dtypes():
    seen = set()

    def loss(params):
        seen.add(params["w"].dtype)
        return jnp.sum(params["w"].astype(jnp.float32) ** 2)

    search = optax.scale_by_backtracking_linesearch(5)
    tx = in_float32(optax.chain(optax.sgd(1.0), search))
    params = {"w": jnp.ones(4, jnp.float16)}
    updates, state = tx.update(None, tx.init(params), params, value_fn=loss)
    assert seen == {jnp.dtype(jnp.float16)} and updates["w"].dtype == jnp.float16


def test_inner_dtype_takes_shapes_and_leaves_float32_alone():
    shapes = jax.eval_shape(lambda: HALF)
    assert in_float32(optax.sgd(0.1, momentum=0.9)).init(shapes).inner_state is not None
    x = jnp.array([1.0, -2.0])
    found = [
        zojax.zeroth_order(optax.adam(0.1), zojax.estimator(), inner_dtype=dtype)
        for dtype in (None, jnp.float32, "bfloat16")
    ]
    updates = [tx.update(None, tx.init(x), x, value_fn=bowl)[0] for tx in found]
    assert_same_bits(updates[1:], [updates[0]] * 2)


@pytest.mark.parametrize("dtype", [jnp.int32, "half precision", 3, jnp.complex64, jax.random.key])
def test_inner_dtypes_that_are_no_floats_are_refused(dtype):
    with pytest.raises(
        TypeError, match="inner_dtype must be a float dtype such as jnp.float32, got"
    ):
        zojax.zeroth_order(optax.sgd(0.1), inner_dtype=dtype)


# --- leaves that are no arrays --------------------------------------------------------------------


class Variable:
    """A mutable wrapper of an array, as models of some libraries hold."""

    def __init__(self, value):
        self.value, self.shape, self.dtype = value, value.shape, value.dtype

    def __jax_array__(self):
        return self.value


BAD_LEAVES = {
    "text": ("float32", "'float32'; split functions"),
    "object": (object(), "<object object.*split functions"),
    "wrapper": (Variable(jnp.ones(2)), "Variable object.*split .* variables .*nnx.split"),
    "objects": (np.array([1, None]), "dtype object; JAX lacks .* cast it"),
    "texts": (np.array(["a"]), "dtype <U1; JAX lacks"),
    "dates": (np.array(["2020-01-01"], "datetime64[D]"), r"dtype datetime64\[D\]; JAX lacks"),
    "big endian": (np.ones(2, ">f4"), r"dtype >f4; swap its bytes with x\.astype"),
    "long double": (np.longdouble(1), "dtype .*; JAX lacks"),
}
MEZO, ESTIMATOR = zojax.mezo(), zojax.estimator()
STATE = MEZO.init(jnp.ones(2))


def loss_of_first(params):
    return jnp.sum(params["ok"] ** 2)


TAKING_PARAMS = {
    "init": lambda p: MEZO.init(p),
    "update": lambda p: MEZO.update(None, STATE, p, value_fn=loss_of_first),
    "update with values": lambda p: MEZO.update(None, STATE, p, values=[1.0, 2.0]),
    "replay": lambda p: MEZO.replay(STATE, p, STATE.coefficients),
    "estimate": lambda p: ESTIMATOR.estimate(0, loss_of_first, p),
    "ask": lambda p: ESTIMATOR.ask(0, p),
    "combine": lambda p: ESTIMATOR.combine(0, p, [1.0]),
    "value_and_grad": lambda p: zojax.value_and_grad(loss_of_first)(0, p),
    "minimize": lambda p: zojax.minimize(loss_of_first, p, MEZO, 2),
    "minimize on the host": lambda p: zojax.minimize(loss_of_first, p, MEZO, 2, jit=False),
    "Recorder": lambda p: zojax.trajectory.Recorder("never opened", MEZO, p),
}


@pytest.mark.parametrize("entry", TAKING_PARAMS)
@pytest.mark.parametrize("kind", BAD_LEAVES)
def test_a_leaf_that_is_no_array_is_named_before_anything_is_compiled(entry, kind):
    leaf, message = BAD_LEAVES[kind]
    name = {"minimize": "x0", "minimize on the host": "x0", "value_and_grad": r"args\[0\]"}
    pattern = (
        rf"^{name.get(entry, 'params')}\['bad'\] must be an array or a number, got .*{message}"
    )
    with pytest.raises(TypeError, match=pattern):
        TAKING_PARAMS[entry]({"ok": jnp.ones(2), "bad": leaf})


TAKING_ARGUMENTS = {
    r"extras\['x'\]": lambda x: step_on(MEZO, jnp.ones(2), lambda p, x: jnp.sum(p), x=x),
    r"args\[0\]": lambda x: ESTIMATOR.estimate(0, lambda p, x: jnp.sum(p), jnp.ones(2), (x,)),
    r"kwargs\['x'\]": lambda x: zojax.value_and_grad(lambda p, x: jnp.sum(p))(0, jnp.ones(2), x=x),
}


@pytest.mark.parametrize("name", TAKING_ARGUMENTS)
def test_an_argument_of_the_loss_of_another_dtype_is_named(name):
    with pytest.raises(TypeError, match=f"^{name} must be an array .* dtype object; JAX lacks"):
        TAKING_ARGUMENTS[name](np.array([1, None]))
    # A wrapper may change, and would be part of the program.
    with pytest.raises(TypeError, match=f"^{name} must be an array .*Variable object.*split"):
        TAKING_ARGUMENTS[name](Variable(jnp.ones(2)))
    jax.eval_shape(lambda: TAKING_ARGUMENTS[name]("text is static"))


@pytest.mark.parametrize("inner", [optax.sgd(0.1), optax.lbfgs()])
@pytest.mark.parametrize("params", [{}, None, {"n": jnp.arange(3)}, [jnp.ones(2, complex)]])
def test_init_needs_a_float_leaf(inner, params):
    with pytest.raises(
        ValueError, match="params has no float leaf to perturb, got leaves of dtype"
    ):
        zojax.zeroth_order(inner).init(params)


# --- what optax puts around a source, and inside ------------------------------------------------------

MASK = {"a": True, "b": False}
TWO = {"a": jnp.ones(3), "b": jnp.ones(2)}
AROUND = {
    "optax.masked": lambda tx: optax.masked(tx, MASK),
    "optax.partition": lambda tx: optax.partition(
        {True: tx, False: optax.set_to_zero()}, lambda _: MASK
    ),
    "optax.MultiSteps": lambda tx: optax.MultiSteps(tx, 2),
    "optax.apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "optax.flatten": lambda tx: optax.flatten(tx),
    "optax.conditionally_mask": lambda tx: optax.transforms.conditionally_mask(tx, lambda t: t > 1),
    "optax.conditionally_transform": lambda tx: optax.transforms.conditionally_transform(
        tx, lambda t: t > 1
    ),
    "optax.contrib.schedule_free": lambda tx: optax.contrib.schedule_free(tx, 0.1),
    "optax.contrib.mechanize": lambda tx: optax.contrib.mechanize(tx),
}
NOWHERE = {
    "optax.lookahead": lambda tx: optax.lookahead(tx, 5, 0.5),
    "optax.contrib.sam": lambda tx: optax.contrib.sam(tx, optax.sgd(0.1)),
}


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", AROUND)
def test_a_wrapper_around_a_source_is_refused_by_init(name, jit):
    source = optax.chain(zojax.zeroth_order(), optax.sgd(0.1))
    for tx in (zojax.mezo(), source):
        init = AROUND[name](tx).init
        with pytest.raises(TypeError, match=rf"put it inside, zeroth_order\({name}\(\.\.\.\)"):
            (jax.jit(init) if jit else init)(TWO)


@pytest.mark.parametrize("name", NOWHERE)
def test_what_needs_other_gradients_is_refused_around_and_inside(name):
    with pytest.raises(TypeError, match=f"cannot stand inside {name}: it .*zojax.value_and_grad"):
        NOWHERE[name](zojax.mezo()).init(TWO)
    inner = optax.chain(NOWHERE[name](optax.sgd(0.1)), optax.scale(0.5))
    with pytest.raises(TypeError, match=f"inner must take .* got {name}: it .*value_and_grad"):
        zojax.zeroth_order(inner).init(TWO)


def test_the_default_hessian_of_sophia_is_refused():
    inner = optax.contrib.sophia(0.1, hessian_diagonal_fn=_hutchinson())
    with pytest.raises(TypeError, match="got optax.contrib.sophia: .*obj_fn.*hessian_diagonal_fn"):
        zojax.zeroth_order(inner).init(TWO)
    squares = optax.stateless(lambda grads, _: jax.tree.map(jnp.square, grads))
    tx = zojax.zeroth_order(optax.contrib.sophia(0.1, hessian_diagonal_fn=squares))
    jax.eval_shape(lambda: step_on(tx, jnp.ones(2), bowl))


def _hutchinson():
    return optax.contrib.hutchinson_estimator_diag_hessian(jax.random.key(0))


READERS = {
    "scale_by_polyak": optax.scale_by_polyak(),
    "scale_by_backtracking_linesearch": optax.scale_by_backtracking_linesearch(5),
    "scale_by_zoom_linesearch": optax.scale_by_zoom_linesearch(5),
    "reduce_on_plateau": optax.contrib.reduce_on_plateau(),
    "momo": optax.contrib.momo(),
}


@pytest.mark.parametrize("name", READERS)
def test_a_stage_after_a_source_that_reads_the_value_is_refused(name):
    stage = READERS[name]
    for tx in (
        optax.chain(optax.clip(1.0), zojax.zeroth_order(), stage),
        optax.named_chain(("source", zojax.mezo()), ("reader", stage)),
    ):
        message = rf"{name} stands after .* requires .*'value'.*inside: zeroth_order\(optax\.chain"
        with pytest.raises(TypeError, match=message):
            step_on(tx, jnp.ones(2), bowl)


def test_multi_steps_inside_hands_on_the_value():
    polyak = optax.polyak_sgd(max_learning_rate=1.0)
    updates = [
        step_on(zojax.zeroth_order(inner), jnp.arange(3.0), bowl)[0]
        for inner in (polyak, optax.MultiSteps(polyak, 1))
    ]
    assert jnp.any(updates[0] != 0)
    assert_close(*updates)


# --- extras of inner ----------------------------------------------------------------------------------


def boosting():
    """-boost * gradient, where boost is an extra argument."""

    def update(updates, state, params=None, *, boost, **extras):
        del params, extras
        return jax.tree.map(lambda u: -boost * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def optional_boost():
    def update(updates, state, params=None, *, boost=1.0):
        return jax.tree.map(lambda u: -boost * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


BOOSTS = {
    "alone": boosting(),
    "optional": optional_boost(),
    "chained": optax.chain(optax.clip(1e6), boosting()),
    "named": optax.named_chain(("boost", boosting())),
    "masked": optax.masked(boosting(), True),
    "multi_steps": optax.MultiSteps(boosting(), 1),
}


def scaled(x, scale):
    return scale * bowl(x)


SOURCE = zojax.zeroth_order()


@pytest.mark.parametrize(
    "name, jit",
    list(zip(BOOSTS, itertools.cycle([False, True]))),  # noqa: B905
)
def test_what_the_loss_does_not_take_goes_to_inner(name, jit):
    tx, x = zojax.zeroth_order(BOOSTS[name]), jnp.arange(3.0)
    grads, _ = step_on(SOURCE, x, scaled, scale=2.0)

    def step(boost):
        return tx.update(None, tx.init(x), x, value_fn=scaled, scale=2.0, boost=boost)[0]

    assert_close((jax.jit(step) if jit else step)(0.5), -0.5 * grads)


def test_inner_extras_go_to_inner_where_the_loss_takes_the_name_too():
    tx, x = zojax.zeroth_order(boosting()), jnp.arange(3.0)

    def boosted(x, boost):
        return boost * bowl(x)

    def of_anything(x, **extras):
        return extras["boost"] * bowl(x)

    grads, _ = step_on(SOURCE, x, bowl)
    for value_fn in (boosted, of_anything):
        updates, _ = step_on(tx, x, value_fn, boost=2.0, inner_extras={"boost": 0.5})
        assert_close(updates, -0.5 * 2.0 * grads)


def test_inner_gets_its_extras_beside_values():
    tx, x, values = zojax.zeroth_order(boosting()), jnp.arange(3.0), [2.0, 1.0]
    grads, _ = SOURCE.update(None, tx.init(x), x, values=values)
    updates, _ = tx.update(None, tx.init(x), x, values=values, boost=0.5)
    assert jnp.any(grads != 0)
    assert_close(updates, -0.5 * grads)
    with pytest.raises(TypeError, match="values and an extra 'batch', which no loss takes"):
        tx.update(None, tx.init(x), x, values=values, boost=0.5, batch=1)


EXTRAS = {
    "typo": ({"bost": 1.0}, r"extra 'bost' .*it takes \[\], and inner \['boost'\]"),
    "typo of inner": ({"inner_extras": {"bost": 1.0}}, r"inner_extras has 'bost'.*\['boost'\]"),
    "no dict": ({"inner_extras": 1.0}, "inner_extras must be a dict .* got 1.0"),
    "an object": (
        {"inner_extras": {"boost": np.array([None])}},
        r"^inner_extras\['boost'\] must be",
    ),
    "missing": ({}, r"inner requires \['boost'\], which .*boost=\.\.\..*inner_extras="),
}


@pytest.mark.parametrize("case", EXTRAS)
def test_errors_of_extras_of_inner(case):
    extras, message = EXTRAS[case]
    with pytest.raises(TypeError, match=message):
        step_on(zojax.zeroth_order(boosting()), jnp.ones(2), bowl, **extras)


def test_a_chain_that_requires_an_extra_says_how_to_give_it():
    tx = zojax.zeroth_order(optax.chain(boosting()))
    for call in (
        lambda: step_on(tx, jnp.ones(2), bowl),
        lambda: zojax.minimize(bowl, jnp.ones(2), tx, 2),
    ):
        with pytest.raises(TypeError, match="boost") as error:
            call()
        assert_matches(r"inner takes \['boost'\]: pass .*tx\.update.*minimize", error.value)


@pytest.mark.parametrize("name", BOOSTS)
def test_a_run_with_extras_of_inner_is_not_recorded(name, tmp_path):
    tx = zojax.zeroth_order(BOOSTS[name])
    state = tx.init(jnp.ones(2))
    with pytest.raises(ValueError, match=r"inner takes \['boost'\] .*only an inner .* recorded"):
        tx.replay(state, jnp.ones(2), state.coefficients)
    with pytest.raises(ValueError, match=r"inner takes \['boost'\]"):
        zojax.trajectory.Recorder(tmp_path / "run.log", tx, jnp.ones(2))


# --- types of the state, and how to save it -----------------------------------------------------------

COMMON_INNERS = INNERS | {
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1),
    "adafactor": optax.adafactor(0.1),
    "dog": optax.contrib.dog(0.1),
    "lamb": optax.lamb(0.1),
    "lion": optax.lion(0.1),
    "momo_adam": optax.contrib.momo_adam(0.1),
    "muon": optax.contrib.muon(0.1),
    "prodigy": optax.contrib.prodigy(0.1),
    "rmsprop": optax.rmsprop(0.1, momentum=0.9),
    "schedule": optax.sgd(optax.cosine_decay_schedule(0.1, 10), 0.9),
    "zoom": optax.lbfgs(linesearch=optax.scale_by_zoom_linesearch(3)),
}
STABLE = {name: make(0) for name, make in TRANSFORMATIONS.items()} | {
    f"inner {name}": zojax.zeroth_order(inner) for name, inner in COMMON_INNERS.items()
}


@pytest.mark.parametrize(
    "name, dtype",
    [(name, jnp.bfloat16) for name in STABLE] + [(name, jnp.float32) for name in list(STABLE)[::4]],
)
def test_the_types_of_a_state_are_those_of_init(name, dtype):
    """Another type is another program: such a step compiles twice, and is no body of a scan."""
    tx, params = STABLE[name], {"w": jnp.ones((2, 2)), "b": jnp.ones(3, dtype)}

    def value_fn(params):
        return sum(bowl(x.astype(jnp.float32)) for x in jax.tree.leaves(params))

    before = jax.eval_shape(tx.init, params)
    after = jax.eval_shape(lambda: tx.update(None, tx.init(params), params, value_fn=value_fn)[1])
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


def with_raw_key(state):
    return state._replace(rng_key=jax.random.key_data(state.rng_key))


def test_a_state_with_raw_key_data_goes_on(tmp_path):
    tx, x = zojax.zo_sgd(0.1, momentum=0.9, key=3), jnp.ones(3)
    _, state = step_on(tx, x, bowl)
    np.savez(tmp_path / "state.npz", *jax.tree.leaves(with_raw_key(state)))
    with np.load(tmp_path / "state.npz") as saved:
        raw = jax.tree.unflatten(jax.tree.structure(state), saved.values())
    assert raw.rng_key.dtype == np.uint32
    expected, after = tx.update(None, state, x, value_fn=bowl)
    updates, raw_after = tx.update(None, raw, x, value_fn=bowl)
    assert_same_bits((updates, raw_after), (expected, with_raw_key(after)))
    assert_same_bits(tx.replay(raw, x, after.coefficients, after.value)[0], expected)
    for fun, jit in ((bowl, True), (lambda x: float(np.sum(x**2)), False)):
        runs = [zojax.minimize(fun, x, tx, 2, state=s, jit=jit).params for s in (raw, state)]
        assert_same_bits(*runs)


def test_a_run_with_raw_key_data_is_recorded_and_resumed(tmp_path):
    tx, x = zojax.mezo(0.1, key=3), jnp.ones(3)
    state = with_raw_key(tx.init(x))
    with zojax.trajectory.Recorder(tmp_path / "run.log", tx, x) as recorder:
        updates, state = tx.update(None, state, x, value_fn=bowl)
        recorder.append(state)
    log = zojax.trajectory.load(tmp_path / "run.log")
    params, resumed = zojax.trajectory.resume(x, tx, log)
    assert_same_bits(params, zojax.apply_updates(x, updates))
    assert_same_bits(with_raw_key(resumed).rng_key, state.rng_key)


for states in (optax.EmptyState, optax.TraceState):
    jax.export.register_namedtuple_serialization(states, serialized_name=f"optax.{states.__name__}")


def test_an_exported_step_takes_and_returns_the_state():
    tx, x = zojax.zo_sgd(0.1, momentum=0.9, key=3), jnp.ones(3)

    def step(params, state):
        updates, state = tx.update(None, state, params, value_fn=bowl)
        return params + updates, state

    exported = jax.export.export(jax.jit(step))(x, tx.init(x))
    loaded = jax.export.deserialize(exported.serialize())
    mine, theirs, call = (x, tx.init(x)), (x, tx.init(x)), jax.jit(loaded.call)
    for _ in range(2):
        mine, theirs = step(*mine), call(*theirs)
    assert_close(theirs, mine)
