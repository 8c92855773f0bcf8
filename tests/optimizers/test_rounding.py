"""Low precision: rounding rules around any optimizer."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import zojax
from tests._trees import assert_same_bits
from zojax import trajectory
from zojax._numerics import stochastically_rounded

NARROW = [jnp.bfloat16, jnp.float16, jnp.float8_e5m2]
RULES = {"stochastic": zojax.stochastic_rounding, "compensated": zojax.compensated_rounding}


def numbers(dtype, count):
    """float32 numbers of all sizes that the dtype holds, subnormal ones too."""
    rng, info = np.random.default_rng(0), ml_dtypes.finfo(dtype)
    low = max(np.log2(float(info.smallest_subnormal)) - 2, -120)
    sizes = 2 ** rng.uniform(low, np.log2(float(info.max)) - 1, count)
    return np.float32(rng.choice([-1, 1], count) * sizes)


def neighbours(x, dtype):
    """The largest number of the grid below x, and the smallest above."""
    near = x.astype(dtype)
    exact = near.astype(np.float32)
    below = np.where(exact <= x, near, np.nextafter(near, dtype(-np.inf)))
    above = np.where(exact >= x, near, np.nextafter(near, dtype(np.inf)))
    return below.astype(np.float32), above.astype(np.float32)


@pytest.mark.parametrize("dtype", NARROW)
def test_a_rounded_number_is_a_neighbour_whose_mean_is_the_number(dtype):
    x, draws = numbers(dtype, 400), 1000
    uniform = np.floor(np.random.default_rng(1).random((draws, 400)) * 2**24) / 2**24
    below, above = neighbours(x, dtype)
    found = np.asarray(stochastically_rounded(jnp.asarray(x), dtype, np.float32(uniform)))
    assert np.all((found == below) | (found == above))
    share = (x - below) / np.where(above > below, above - below, 1)
    error = (found == above).mean(0) - share
    away = share > 0
    deviation = np.sqrt(share * (1 - share) / draws)
    assert np.all(np.abs(error[away]) <= 5 * deviation[away] + 2**-10)
    assert abs(np.mean(error[away] / deviation[away])) < 5 / np.sqrt(away.sum())


def test_numbers_that_no_rounding_changes():
    x = jnp.array([0.0, -0.0, 1.0, -65504.0, 1e9, jnp.inf, jnp.nan])
    found = stochastically_rounded(x, jnp.float16, jnp.full(7, 1 - 2.0**-24))
    np.testing.assert_array_equal(found, [0, 0, 1, -65504, 65504, 65504, np.nan])


def step_of(tx, x, coefficient, state=None):
    """(x, state) after a replayed step."""
    updates, state = tx.replay(tx.init(x) if state is None else state, x, jnp.array([coefficient]))
    return zojax.apply_updates(x, updates), state


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_sum_is_the_rounded_number_to_the_bit(dtype):
    """Whatever the sizes of parameter and update, also where they cancel."""
    x = jnp.asarray(numbers(dtype, 2**14)).astype(dtype)
    for size in (1.0, 1e-3, 30.0):
        tx = zojax.zo_sgd(size)
        wide = x.astype(jnp.float32)
        total, _ = step_of(tx, wide, 1.0)
        below, above = neighbours(np.asarray(total), dtype)
        found, _ = step_of(zojax.stochastic_rounding(tx), x, 1.0)
        found = np.asarray(found, np.float32)
        assert np.all((found == below) | (found == above))
        assert np.mean(found == below) > 0.2 and np.mean(found == above) > 0.2
    cancelled = zojax.stochastic_rounding(zojax.zo_sgd(1.0))
    found, _ = step_of(cancelled, jnp.full(2**12, 1.0, dtype), 1 - 2.0**-20)
    assert set(np.unique(found.astype(jnp.float32))) <= {2.0**-20, 2.0, 2 - 2.0**-7, 2 - 2.0**-10}


def test_the_mean_over_runs_is_the_step_in_float32():
    """A hundredth of the spacing of bfloat16: the nearest number is the parameter itself."""
    x, runs = jnp.full(256, 1.5, jnp.bfloat16), 64
    tx = zojax.stochastic_rounding(zojax.zo_sgd(2.0**-7 / 100))
    keys = jax.random.split(jax.random.key(0), runs)
    source = jax.jit(jax.vmap(lambda key: step_of(tx, x, 1.0, tx.init(x)._replace(rng_key=key))[0]))
    moved = np.asarray(source(keys), np.float32) - 1.5
    combined = jax.vmap(
        lambda key: tx.estimator.combine(jax.random.fold_in(key, 0), x, jnp.ones(1), jnp.float32)
    )(keys)
    ratio = -moved * np.asarray(combined) / (2.0**-7 / 100)  # signs have the square 1
    assert set(np.unique(np.abs(moved))) == {0, 2.0**-7}
    deviation = np.sqrt(99 / ratio.size)
    assert abs(ratio.mean() - 1) < 5 * deviation


@pytest.mark.parametrize("name", RULES)
def test_a_run_moves_and_replays_to_the_bit(name, tmp_path):
    tx = RULES[name](zojax.zo_adam(1e-3, zojax.estimator(mu=0.1), key=3))
    x0 = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.ones(3), "n": jnp.int32(2)}

    def loss(params):
        assert params["w"].dtype == jnp.bfloat16
        return jnp.sum(params["w"].astype(jnp.float32)) ** 2 + params["n"] * jnp.sum(params["b"])

    with trajectory.Recorder(tmp_path / "log", tx, x0) as recorder:
        run = zojax.minimize(loss, x0, tx, 40, chunk_size=20, callback=recorder.callback)
        recorder.close(run.params)
    found, state = trajectory.resume(x0, tx, trajectory.load(tmp_path / "log"))
    assert_same_bits(found, run.params)
    assert_same_bits(state.inner_state, run.state.inner_state)
    moments = state.inner_state.inner_state[0]
    assert moments.mu["w"].dtype == jnp.float32 and found["w"].dtype == jnp.bfloat16
    assert np.all(np.asarray(found["w"], np.float32) < 1)


def test_with_its_residual_a_parameter_moves_as_in_float32():
    x, tx = jnp.linspace(0.5, 2, 8, dtype=jnp.bfloat16), zojax.zo_sgd(3e-4)
    low = zojax.compensated_rounding(tx)
    wide, state, exact, narrow = x.astype(jnp.float32), low.init(x), tx.init(x), x
    for _ in range(30):
        wide, exact = step_of(tx, wide, 3.0, exact)
        narrow, state = step_of(low, narrow, 3.0, state)
    residual = state.inner_state.residual
    assert residual.nbytes == 4 * x.size and low.init(wide).inner_state.residual is None
    total = narrow.astype(jnp.float32) + residual
    np.testing.assert_allclose(total, wide, rtol=1e-6)
    assert jnp.any(narrow != x) and jnp.all(narrow == total.astype(jnp.bfloat16))


def test_a_step_without_a_value_moves_nothing():
    x = jnp.full(4, 1.25, jnp.bfloat16)
    for rule in RULES.values():
        tx = rule(zojax.zo_sgd(1.0))
        found, state = step_of(tx, x, jnp.nan)
        assert_same_bits(found, x)
        assert not any(jnp.any(r) for r in jax.tree.leaves(state.inner_state.residual))


def test_float32_parameters_take_the_steps_of_the_optimizer():
    tx, x = zojax.zo_sgd(0.1, momentum=0.9), jnp.ones(4)
    for rule in RULES.values():
        assert_same_bits(step_of(rule(tx), x, 2.0)[0], step_of(tx, x, 2.0)[0])


def test_errors():
    with pytest.raises(TypeError, match="tx must come from zojax.zeroth_order.*optax.adam"):
        zojax.stochastic_rounding(optax.adam(0.1))
    tx, x = zojax.stochastic_rounding(zojax.mezo()), jnp.ones(2)
    with pytest.raises(TypeError, match="must be the result of tx.init"):
        tx.update(None, zojax.mezo().init(x), x, value_fn=jnp.sum)
    with pytest.raises(ValueError, match="parameters"):
        tx.update(None, tx.init(x), value_fn=jnp.sum)
