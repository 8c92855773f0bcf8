"""Key discipline: every layout evaluates the same directions and gives the same estimate."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.experimental import io_callback

import zojax
from tests._laws import fast
from zojax import directions, execution, stencils

pytestmark = pytest.mark.optimized

PARAMS = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "b": jnp.ones(4)}
X = jnp.linspace(0, 1, 15).reshape(5, 3)
DIRECTIONS = ["rademacher", "normal", "sphere", "coordinate", "orthogonal", "hadamard", "low_rank"]


def loss(params, x):
    return jnp.mean(jnp.tanh(x @ params["w"] + params["b"]) ** 2)


# 5 directions: one at a time, with a rest, all at once. The slow ones differ in their draws alone, which
# the next law compares to the bit.
BATCH_SIZES = {name: (1 + i % 3, None) for i, name in enumerate(DIRECTIONS)}
BATCH_SIZES |= {"rademacher": (1, 2, 5), "orthogonal": (1, None), "low_rank": (3, None)}


@pytest.mark.parametrize("name", fast(("rademacher", "orthogonal", "low_rank"), BATCH_SIZES))
def test_same_key_same_result_for_every_batch_size(name):
    results = []
    for batch_size in BATCH_SIZES[name]:
        estimator = zojax.estimator(
            getattr(directions, name)(), num_directions=5, batch_size=batch_size, mu=1e-2
        )
        results.append(zojax.value_and_grad(loss, estimator)(3, PARAMS, X))
    for value, grads in results[1:]:
        np.testing.assert_allclose(value, results[0][0], rtol=1e-6)
        chex.assert_trees_all_close(grads, results[0][1], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_the_noise_is_bitwise_the_same_drawn_alone_batched_or_in_a_loop(name):
    direction = getattr(directions, name)()
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS)
    frame = direction.frame(jax.random.key(0), 5, like)

    def draw(i):
        drawn = direction.draw(frame, i, like)
        return {k: drawn[k].dense() for k in like}

    alone = [jax.jit(draw)(i) for i in range(5)]
    batched = jax.jit(jax.vmap(draw))(jnp.arange(5))
    looped = jax.jit(lambda: jax.lax.map(draw, jnp.arange(5)))()
    for i in range(5):
        for k in like:
            assert jnp.array_equal(alone[i][k], batched[k][i])
            assert jnp.array_equal(alone[i][k], looped[k][i])


@pytest.mark.parametrize(
    "stencil, batch_size",
    [
        (stencils.central(), 1),
        (stencils.central(), 3),
        (stencils.forward(), 2),
        pytest.param(stencils.forward(), 3, marks=pytest.mark.slow),
        (stencils.one_point(), 2),
    ],
)
def test_the_number_of_evaluations_is_the_documented_one(stencil, batch_size):
    calls = []

    def counted(x):
        jax.debug.callback(lambda _: calls.append(1), x)
        return jnp.sum(x)

    estimator = zojax.estimator(stencil=stencil, num_directions=3, batch_size=batch_size)
    jax.block_until_ready(zojax.grad(counted, estimator)(0, jnp.ones(2)))
    jax.effects_barrier()
    assert len(calls) == estimator.evaluations


def test_the_loss_is_traced_a_fixed_number_of_times():
    counts = []
    for n in (2, 50):
        traces = []
        estimator = zojax.estimator(num_directions=n, batch_size=1)
        grad = zojax.grad(lambda x, traces=traces: traces.append(1) or jnp.sum(x), estimator)
        jax.eval_shape(grad, jax.random.key(0), jnp.ones(2))
        counts.append(len(traces))
    assert 0 < counts[0] == counts[1]


STEPS = {
    "mezo": (zojax.mezo(), 1),
    "mezo, normal": (zojax.mezo(direction=directions.normal()), 1),
    "mezo, 4 directions": (zojax.mezo(num_directions=4), 1),
    "momentum": (zojax.zo_sgd(1e-3, momentum=0.9), 2),
    "adam": (zojax.zeroth_order(optax.adam(1e-3)), 3),
}


# Each slow one costs at most what another one does.
@pytest.mark.parametrize("name", fast(("mezo, normal", "mezo, 4 directions", "adam"), STEPS))
def test_a_donated_step_costs_the_state_and_the_temporaries_of_a_forward(name):
    """No stored noise, no gradient, no second copy of the parameters: a layer of 16 at most."""
    tx, copies = STEPS[name]
    params = jax.ShapeDtypeStruct((16, 32, 1024), jnp.float32)
    state = jax.eval_shape(tx.init, params)

    def loss(layers):
        return lax.scan(lambda total, x: (total + jnp.sum(jnp.sin(x)), None), 0.0, layers)[0]

    def step(params, state):
        updates, state = tx.update(None, state, params, value_fn=loss)
        return optax.apply_updates(params, updates), state

    forward = jax.jit(loss).lower(params).compile().memory_analysis()
    donated = jax.jit(step, donate_argnums=(0, 1)).lower(params, state).compile().memory_analysis()
    size = 4 * 512 * 1024
    accumulator = size if tx.estimator.num_directions > 1 else 0
    assert donated.temp_size_in_bytes <= forward.temp_size_in_bytes + accumulator + 0.1 * size
    resident = donated.argument_size_in_bytes + donated.output_size_in_bytes
    assert resident - donated.alias_size_in_bytes <= (copies + 0.01) * size


def test_sequential_directions_need_no_more_memory_than_one():
    def peak(n):
        estimator = zojax.estimator(num_directions=n, batch_size=1)
        params = jax.ShapeDtypeStruct((256, 1024), jnp.float32)
        update = lambda key, p: p - zojax.grad(lambda w: jnp.sum(jnp.sin(w)), estimator)(key, p)  # noqa: E731
        analysis = jax.jit(update).lower(jax.random.key(0), params).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    parameter_bytes = 4 * 256 * 1024
    assert peak(64) <= peak(1) + 1.2 * parameter_bytes  # one accumulator


@pytest.mark.parametrize("num_directions", [1, 2])
def test_on_a_tpu_two_evaluations_are_written_out_and_more_are_a_loop(num_directions):
    step = jax.jit(zojax.grad(loss, zojax.estimator(num_directions=num_directions, batch_size=1)))
    traced = step.trace(jax.random.key(0), PARAMS, X)
    loops = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.while")
        for platform in ("cpu", "tpu")
    }
    assert loops["cpu"] > 0
    assert (loops["tpu"] == 0) == (num_directions == 1)


def test_evaluations_that_are_written_out_are_those_of_a_loop():
    def both(how):
        return jax.jit(lambda xs: how(lambda x: {"a": jnp.sin(x), "b": x > 0}, xs))(
            jnp.array([1.0, -1.0])
        )

    chex.assert_trees_all_equal(both(execution._written_out), both(execution._loop))


@pytest.mark.parametrize(
    "limit, batches",
    [(10**6, 1), (2 * 20 * 4, 3), (2 * 20 * 5, 3), (2 * 20, 12), (1, 12)],
    ids=["all", "exact", "divisor", "one", "none"],
)
def test_directions_that_share_products_run_as_many_as_keep_the_largest_small(
    monkeypatch, limit, batches
):
    """12 directions, of which each has products of 5 x 4 entries at two offsets."""
    monkeypatch.setattr(execution, "_BATCH_PRODUCTS", {"cpu": limit})
    traces = []

    def traced(params, x):
        traces.append(0)
        return loss(params, x)

    text = str(jax.make_jaxpr(low_rank_gradient(traced, None))(0, PARAMS, X))
    assert len(traces) == 1
    assert text.count("length=3") == (batches == 3)
    assert text.count("length=12") == 1 + (batches == 12)  # the sum of the directions is a loop


def low_rank_gradient(fun, batch_size):
    estimator = zojax.estimator(
        directions.low_rank(), num_directions=12, batch_size=batch_size, mu=1e-2
    )
    return zojax.grad(fun, estimator)


def test_batches_that_keep_the_largest_product_small_give_the_same_estimate(monkeypatch):
    monkeypatch.setattr(execution, "_BATCH_PRODUCTS", {"cpu": 2 * 20 * 4})
    found, expected = (low_rank_gradient(loss, size)(0, PARAMS, X) for size in (None, 12))
    chex.assert_trees_all_close(found, expected, rtol=2e-4, atol=2e-5)


def test_a_loop_in_the_loss_counts_with_its_largest_product(monkeypatch):
    monkeypatch.setattr(execution, "_BATCH_PRODUCTS", {"cpu": 2 * 2 * 30})

    def deep(params, x):
        hidden, _ = lax.scan(lambda h, _: (jnp.tanh(h @ params["w"]), None), x, None, length=3)
        return jnp.sum(hidden @ jnp.ones((6, 1)))

    params, x = {"w": jnp.ones((6, 6)) / 6}, jnp.ones((5, 6))
    estimator = zojax.estimator(directions.low_rank(), num_directions=4, mu=1e-2)
    text = str(jax.make_jaxpr(zojax.grad(deep, estimator))(0, params, x))
    assert text.count("length=2") == 1  # two batches of two, around the loop


def test_a_loss_that_cannot_be_batched_is_told_of_a_loop():
    def loss(w):
        return jax.pure_callback(total_on_the_host, SCALAR, w)  # no vmap_method

    def grad(batch_size):
        estimator = zojax.estimator(num_directions=4, batch_size=batch_size)
        return zojax.grad(loss, estimator)(0, jnp.ones((2, 3)))

    for batch_size in (None, 2):
        with pytest.raises(NotImplementedError) as error:
            grad(batch_size)
        assert any("batch_size=1" in note for note in error.value.__notes__)
    assert jnp.all(jnp.isfinite(grad(1)))


def test_an_ordered_callback_is_told_of_a_loop():
    def loss(w):
        io_callback(lambda x: None, None, w[0], ordered=True)
        return jnp.sum(w**2)

    def grad(batch_size):
        return zojax.grad(loss, zojax.estimator(num_directions=2, batch_size=batch_size))

    with pytest.raises(ValueError, match="vmap") as error:
        grad(2)(0, jnp.ones(2))
    assert any("batch_size=1" in note for note in error.value.__notes__)
    assert jnp.all(jnp.isfinite(grad(1)(0, jnp.ones(2))))


def total_on_the_host(x):
    return np.float32(np.sum(x**2))


SCALAR = jax.ShapeDtypeStruct((), jnp.float32)
CALLBACKS = {
    "pure": lambda x: jax.pure_callback(total_on_the_host, SCALAR, x),
    "ordered": lambda x: io_callback(total_on_the_host, SCALAR, x, ordered=True),
}


def entry_points(fun, batch_size=None):
    estimator = zojax.estimator(num_directions=2, batch_size=batch_size)
    tx, x = zojax.zo_sgd(0.1, estimator), jnp.ones(2)
    return {
        "estimate": lambda: estimator.estimate(0, fun, x),
        "value_and_grad": lambda: zojax.value_and_grad(fun, estimator)(0, x),
        "update": lambda: tx.update(None, tx.init(x), x, value_fn=fun),
        "minimize": lambda: zojax.minimize(fun, x, tx, 2),
    }


@pytest.mark.parametrize("name", ["estimate", "value_and_grad", "update", "minimize"])
@pytest.mark.parametrize("kind", CALLBACKS)
def test_callbacks_are_told_of_the_batch_size_by_default(kind, name):
    fun = CALLBACKS[kind]
    with pytest.raises((NotImplementedError, ValueError), match="vmap") as error:
        entry_points(fun)[name]()
    remedy = "batch_size=1 takes them one at a time: give it to zojax.estimator"
    assert sum(remedy in note for note in error.value.__notes__) == 1


@pytest.mark.parametrize(
    "kind, name",
    [
        ("pure", "estimate"),
        ("ordered", "value_and_grad"),
        ("ordered", "update"),
        ("pure", "minimize"),
    ],
)
def test_with_that_batch_size_callbacks_run(kind, name):
    found = entry_points(CALLBACKS[kind], batch_size=1)[name]()
    jax.block_until_ready(jax.tree.leaves(found))
