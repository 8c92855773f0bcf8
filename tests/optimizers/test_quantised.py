"""Quantised weights: moves of integers through the interpreter, `qzo` on scales and `qes` on integers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from tests._trees import assert_same_bits
from tests.optimizers._formulas import KEY, MU, by_hand, steps_from, tilted, values
from zojax import directions, implicit, lm, noise, trajectory

RNG = np.random.default_rng(0)
NIBBLES = RNG.integers(0, 16, (3, 4, 2, 6))  # the last axis but one: lower and upper half of a byte
BYTES = jnp.asarray(NIBBLES[:, :, 0] | NIBBLES[:, :, 1] << 4, jnp.uint8)
PARAMS = {
    "a": {"integers": BYTES, "scales": jnp.ones((3, 4))},
    "integers": jnp.int8([-128, 127, -128, 127, 3, 9]),
}


def unpacked(array):
    """The entries of an array as integers, halves of a byte on the first axis."""
    array = np.asarray(array)
    if array.dtype == np.int8:
        return array[None].astype(int)
    return np.stack([array & 15, array >> 4]).astype(int)


def moves_of(z):
    """The moves of the entries of each byte."""
    whole = np.asarray(z.dense()).astype(int)
    if z.bits == 8:
        return whole[None]
    lower = (whole + 8) % 16 - 8
    return np.stack([lower, (whole - lower) // 16])


def gated(entries, moves):
    """Moves, 0 where an entry would leave its range."""
    low, high = (0, 15) if len(entries) == 2 else (-128, 127)
    return np.where((entries + moves < low) | (entries + moves > high), 0, moves)


# --- moves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_moves_are_stochastically_rounded_normals(sigma):
    leaf = jnp.zeros((400, 500), jnp.uint8)
    lower, upper = moves_of(noise.lattice_noise(leaf, noise.make_seed(KEY), sigma))
    z, u = np.random.default_rng(1).standard_normal(10**6), np.random.default_rng(2).random(10**6)
    expected = np.clip(np.floor(sigma * z + u), -7, 7)
    for found in (lower, upper):
        for power in (1, 2, 4):
            theirs, ours = expected**power, found.astype(float) ** power
            deviation = np.sqrt(theirs.var() * (1 / ours.size + 1 / theirs.size))
            assert abs(ours.mean() - theirs.mean()) < 5 * deviation
    assert abs(np.corrcoef(lower.ravel(), upper.ravel())[0, 1]) < 5 / np.sqrt(lower.size)


@pytest.mark.parametrize("leaf", [BYTES, PARAMS["integers"]], ids=["4 bits", "8 bits"])
def test_the_interpreter_moves_integers_within_their_range(leaf):
    z = noise.lattice_noise(leaf, noise.make_seed(KEY), 3.0)

    def fun(x):
        def body(total, row):
            return total + row.astype(jnp.int32), row

        return jax.lax.scan(body, jnp.zeros(leaf.shape[1:], jnp.int32), x[::-1])

    entries = unpacked(leaf)
    after = entries + gated(entries, moves_of(z))
    assert np.any(after != entries + moves_of(z)) and np.any(after != entries)
    whole = after[0] if len(after) == 1 else after[0] | after[1] << 4
    moved = jnp.asarray(whole, leaf.dtype)
    found = jax.jit(lambda: implicit.evaluate(fun, leaf, z, 1.0))()
    assert_same_bits(found, fun(moved))


def test_the_moves_of_a_layer_are_made_once():
    """A kernel writes the moved bytes. In the kernel that unpacks them, each half would make them again."""
    q = jnp.asarray(RNG.integers(0, 256, (64, 2, 16)), jnp.uint8)
    weights = lm.Quantized(q, jnp.ones((64, 2)), None, zero=8)
    z = weights.replace(integers=noise.lattice_noise(q, noise.make_seed(KEY), 1.0), scales=None)
    run = jax.jit(lambda w, z: implicit.evaluate(lambda w: w @ jnp.ones(64), w, z, 1.0))
    text = run.lower(weights, z).compile().as_text()
    (kernel,) = [k for k in text.split("\n\n") if str(0x5BD1E995) in k]  # of the hash of moves
    assert "-> u8[64,2," in kernel and "concatenate" not in text


def test_products_with_a_number_and_casts_see_moved_integers():
    z = noise.lattice_noise(BYTES, noise.make_seed(KEY), 1.0)
    moved = implicit.evaluate(lambda x: x, BYTES, z, 1.0)
    for fun in (lambda x: x * jnp.uint8(3), lambda x: x.astype(jnp.float32) * 0.5):
        assert_same_bits(implicit.evaluate(fun, BYTES, z, 1.0), fun(moved))
    with pytest.raises(ValueError, match="dtype int8, which cannot be perturbed"):
        implicit.evaluate(jnp.sum, jnp.int8([1]), noise.StoredNoise(jnp.ones(1)), 1.0)


# --- qes ----------------------------------------------------------------------------------------------

SIGMA, RATE, DECAY, MEMBERS, HORIZON = 1.5, 0.8, 0.9, 4, 2
QES = zojax.qes(RATE, SIGMA, MEMBERS, DECAY, HORIZON, key=KEY)


def loss(params):
    low, high = params["a"]["integers"] & 15, params["a"]["integers"] >> 4
    total = jnp.sum((low.astype(jnp.float32) - 3) ** 2) + jnp.sum(high.astype(jnp.float32))
    return total / 100 + jnp.mean((params["integers"].astype(jnp.float32) / 50) ** 2)


def loss_of(entries):
    (low, high), (last,) = entries
    return (np.sum((low - 3.0) ** 2) + np.sum(high)) / 100 + np.mean((last / 50) ** 2)


def members(step):
    """The moves of each member, in the order of the leaves that move."""
    of_losses = jax.random.fold_in(jax.random.fold_in(KEY, step), np.uint32(2**32 - 1))
    for i in range(MEMBERS):
        seed = noise.make_seed(jax.random.fold_in(of_losses, i))
        seeds = noise.child_seeds(seed, 0, 3)
        leaves = (BYTES, seeds[0]), (PARAMS["integers"], seeds[2])
        yield [moves_of(noise.lattice_noise(leaf, own, SIGMA)) for leaf, own in leaves]


def test_qes_is_its_formula():
    """With the residual of the last steps, made again at the integers of now."""
    entries = [unpacked(BYTES), unpacked(PARAMS["integers"])]
    found, past = steps_from(PARAMS, [QES] * 5, loss), []
    for t in range(5):
        moves = list(members(t))
        f = np.array(
            [loss_of([w + gated(w, d) for w, d in zip(entries, z, strict=True)]) for z in moves]
        )
        past = [*past, ((f - f.mean()) / f.std(), moves)][-HORIZON - 1 :]
        for leaf in range(2):
            w, e = entries[leaf], 0.0
            for scores, zs in past:
                g = sum(c * gated(w, z[leaf]) for c, z in zip(scores, zs, strict=True))
                s = DECAY * e - RATE * g / (MEMBERS * SIGMA)
                applied = gated(w, np.round(s).astype(int))
                e = np.clip(s - applied, -1.5, 1.5)
            entries[leaf] = w + applied
        params = next(found)
        np.testing.assert_array_equal(unpacked(params["a"]["integers"]), entries[0])
        np.testing.assert_array_equal(unpacked(params["integers"]), entries[1])
        assert_same_bits(params["a"]["scales"], PARAMS["a"]["scales"])
    assert np.any(entries[0] != unpacked(BYTES)) and np.any(entries[1] != PARAMS["integers"])


def test_qes_replays_a_recorded_run_to_the_bit(tmp_path):
    with trajectory.Recorder(tmp_path / "log", QES, PARAMS) as recorder:
        run = zojax.minimize(loss, PARAMS, QES, 6, chunk_size=3, callback=recorder.callback)
        recorder.close(run.params)
    found, state = trajectory.resume(PARAMS, QES, trajectory.load(tmp_path / "log"))
    assert_same_bits(found, run.params)
    assert_same_bits(state.inner_state, run.state.inner_state)
    numbers = sum(x.size for x in jax.tree.leaves(state.inner_state))
    assert numbers == HORIZON * (MEMBERS + 1)
    assert loss(run.params) < loss(PARAMS)


def test_qes_without_a_value_moves_nothing():
    state = QES.init(PARAMS)
    _, state = QES.replay(state, PARAMS, jnp.array([3.0, -1.0, 2.0, 1.0]))
    updates, after = QES.replay(state, PARAMS, jnp.full(MEMBERS, jnp.nan))
    assert not any(jnp.any(u) for u in jax.tree.leaves(updates))
    assert_same_bits(after.inner_state, state.inner_state)


@pytest.mark.parametrize("params", [PARAMS, {"integers": PARAMS["integers"]}], ids=["both", "one"])
def test_minimize_says_that_a_loss_of_integers_is_flat(params):
    with pytest.warns(UserWarning, match="of differences are zero"):
        result = zojax.minimize(lambda p: jnp.float32(1), params, QES, 5)
    assert "of differences are zero" in result.message


@pytest.mark.parametrize("population", [4, 16])
def test_by_default_a_step_moves_few_integers(population):
    """About those of half of the members, each a share of 0.8 sigma."""
    q = jnp.asarray(RNG.integers(0, 256, (1000, 100)), jnp.uint8)
    tx = zojax.qes(population=population, horizon=1)
    fun = lambda p: jnp.mean((p["integers"] & 15).astype(jnp.float32))  # noqa: E731
    updates, _ = tx.update(None, tx.init({"integers": q}), {"integers": q}, value_fn=fun)
    moved = np.mean(unpacked(q + updates["integers"]) != unpacked(q))
    most = 0.8e-3 * population
    assert 0.25 * most < moved < most


ERRORS = {
    "no integers": (lambda: zojax.qes().init(jnp.ones(3)), ValueError, "mask selects no leaf"),
    "other integers": (
        lambda: zojax.qes().init({"integers": jnp.arange(3)}),
        TypeError,
        r"params\['integers'\] must be uint8 .* or int8, got int32",
    ),
    "another state": (
        lambda: QES.replay(zojax.mezo().init(jnp.ones(3)), PARAMS, jnp.ones(MEMBERS)),
        TypeError,
        "state must be the result of tx.init",
    ),
    "from outside": (lambda: QES.estimator.ask(0, PARAMS), ValueError, "give update a value_fn"),
    "one member": (
        lambda: zojax.qes(population=1),
        ValueError,
        "population must be at least 2, got 1",
    ),
    "no sigma": (lambda: zojax.qes(sigma=0.0), ValueError, "sigma must be positive"),
    "no scales": (lambda: _step(zojax.qzo(), jnp.ones(3), jnp.sum), ValueError, "mask selects no"),
    "no clip": (lambda: zojax.qzo(clip=0.0), ValueError, "limit must be positive"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        make()


# --- qzo ----------------------------------------------------------------------------------------------


def _step(tx, params, fun):
    updates, state = tx.update(None, tx.init(params), params, value_fn=fun)
    return optax.apply_updates(params, updates), state


def test_qzo_is_its_formula():
    def clipped(x, z, mu):
        c = np.array([(values(x + mu * zi) - values(x - mu * zi)) / (2 * mu) for zi in z])
        assert np.any(np.abs(c) > 2) and np.any(np.abs(c) < 2)
        return np.clip(c, -2, 2) @ z / len(z)

    signs, everything = directions.rademacher(), lambda path, leaf: True
    with jax.enable_x64(True):
        tx = zojax.qzo(0.01, MU, 2.0, 4, mask=everything, key=KEY)
        trail = by_hand(lambda x, g, t, _: (x - 0.01 * g, None), signs, 4, gradient=clipped)
        start = jnp.array([0.3, -0.7, 1.1, 0.2])
        np.testing.assert_allclose(list(steps_from(start, [tx] * 3, tilted)), trail, rtol=1e-5)


def test_qzo_trains_scales_alone():
    blocks = (8, 2)
    weights = lm.Quantized(
        jnp.asarray(RNG.integers(0, 256, (*blocks, 16)), jnp.uint8),
        jnp.full(blocks, 0.01, jnp.float16),
        jnp.full(blocks, -0.08, jnp.float16),
    )
    params, x = {"w": weights, "gain": jnp.ones(8)}, jnp.ones(64)

    def fun(p):
        return jnp.mean((p["w"] @ x * p["gain"] - 1) ** 2)

    tx = zojax.stochastic_rounding(zojax.qzo(5e-6, 1e-4, num_directions=4))
    run = zojax.minimize(fun, params, tx, 100, chunk_size=100)
    after = run.params["w"]
    assert fun(run.params) < 0.5 * fun(params)
    assert_same_bits((after.integers, after.offsets), (weights.integers, weights.offsets))
    assert_same_bits(run.params["gain"], params["gain"])
    assert after.scales.dtype == jnp.float16


# --- memory -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_step_on_quantised_weights_holds_a_forward_pass():
    """SmolLM2's shape in 97 MB."""
    from benchmarks import models

    model = models.smollm2_on_reviews(weights="4-bit")
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(model.params))
    assert size < 97e6

    def fun(params, batch):
        return model.loss(params, **batch)

    forward = peak(jax.jit(fun).lower(model.params, model.batch).compile())
    for tx in (zojax.qzo(), zojax.qes(population=2, horizon=2)):

        def step(params, state, batch, tx=tx):
            updates, state = tx.update(None, state, params, value_fn=fun, batch=batch)
            return optax.apply_updates(params, updates), state

        state = jax.eval_shape(tx.init, model.params)
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(model.params, state, model.batch)
        assert peak(lowered.compile()) < 1.1 * forward


def peak(compiled):
    m = compiled.memory_analysis()
    whole = m.temp_size_in_bytes + m.argument_size_in_bytes + m.output_size_in_bytes
    return whole - m.alias_size_in_bytes
