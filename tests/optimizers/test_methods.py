"""One step of each method is the formula of its paper, written out in NumPy for the same directions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from tests._laws import fast
from tests.optimizers._formulas import (
    KEY,
    MU,
    X,
    assert_steps_equal,
    by_hand,
    central,
    drawn,
    steps_from,
    tilted,
    values,
)
from tests.optimizers._laws import OPTIMIZERS
from zojax import directions, noise, shaping, stencils


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


SOURCE = zojax.estimator(mu=MU, num_directions=2)
SIGNS, NORMAL = directions.rademacher(), directions.normal()


def differences(x, z, mu=MU):
    """c of each direction, by central differences."""
    return np.array([(values(x + mu * zi) - values(x - mu * zi)) / (2 * mu) for zi in z])


def forward(x, z, mu):
    return np.array([values(x + mu * zi) - values(x) for zi in z]) @ z / (mu * len(z))


# --- states -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_is_as_large_as_documented(name):
    """In float32, 4 bytes a number; a few counts of steps beside it."""
    law = OPTIMIZERS[name]
    params = {
        "w": jax.ShapeDtypeStruct((64, 32), jnp.float32),
        "b": jax.ShapeDtypeStruct((32,), jnp.float32),
    }
    with jax.enable_x64(False):
        state = jax.eval_shape(law.make(0).init, params)
    kept = jax.tree.leaves((state.inner_state, state.estimator_state.direction))
    counts = sum(leaf.shape == () and leaf.dtype in (jnp.int32, jnp.bool_) for leaf in kept)
    assert counts <= 3
    assert (
        sum(leaf.size * leaf.dtype.itemsize for leaf in kept if leaf.dtype == jnp.float32)
        + sum(leaf.size * 4 for leaf in kept if leaf.dtype == jnp.int32 and leaf.shape)
        == 4 * law.numbers
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_holds_as_much_as_documented(name):
    """By the compiler, for four matrices of equal size."""
    law, size = OPTIMIZERS[name], 512
    params = {key: jax.ShapeDtypeStruct((size, size), jnp.float32) for key in "abcd"}

    def loss(p):
        h = jnp.ones((8, size), jnp.float32)
        for key in "abcd":
            h = jnp.tanh(h @ p[key])
        return jnp.mean(h**2)

    with jax.enable_x64(False):
        tx = law.make(0)

        def step(params, state):
            updates, state = tx.update(None, state, params, value_fn=loss)
            return optax.apply_updates(params, updates), state

        state = jax.eval_shape(tx.init, params)
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state).compile()
    held = compiled.memory_analysis().temp_size_in_bytes / (4 * 4 * size**2)
    assert held < law.copies + 0.6


# --- an estimator, then a rule ----------------------------------------------------------------------


def test_zo_sign_sgd():
    trail = by_hand(lambda x, g, t, _: (x - 0.01 * np.sign(g), None), SIGNS, 2)
    assert_steps_equal(zojax.zo_sign_sgd(0.01, SOURCE, key=KEY), trail)


def test_zo_adam():
    def rule(x, g, t, memory):
        m, v = (0, 0) if memory is None else memory
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        m_hat, v_hat = m / (1 - 0.8 ** (t + 1)), v / (1 - 0.9 ** (t + 1))
        return x - 0.02 * (m_hat / (np.sqrt(v_hat) + 1e-8) + 0.1 * x), (m, v)

    tx = zojax.zo_adam(0.02, SOURCE, b1=0.8, b2=0.9, weight_decay=0.1, key=KEY)
    assert_steps_equal(tx, by_hand(rule, SIGNS, 2))


def test_zo_adamm():
    def rule(x, g, t, memory):
        m, v, top = (0, 0, 0) if memory is None else memory
        m, v = 0.8 * m + 0.2 * g, 0.5 * v + 0.5 * g**2
        top = np.maximum(top, v)
        return x - 0.02 * m / (np.sqrt(top) + 1e-8), (m, v, top)

    assert_steps_equal(
        zojax.zo_adamm(0.02, SOURCE, b1=0.8, b2=0.5, key=KEY), by_hand(rule, SIGNS, 2)
    )


def test_zo_momentum_is_a_truncated_sum_over_past_steps():
    def rule(x, g, t, past):
        past = [g, *([] if past is None else past)][:2]
        m = 0.2 * sum(0.8**age * g for age, g in enumerate(past))
        return x - 0.05 * m, past

    tx = zojax.zo_momentum(0.05, SOURCE, momentum=0.8, horizon=2, key=KEY)
    assert_steps_equal(tx, by_hand(rule, SIGNS, 2))


def test_zo_momentum_skips_steps_without_a_value():
    tx = zojax.zo_momentum(0.05, SOURCE, momentum=0.8, horizon=4, key=KEY)
    nan, first, second = [np.nan] * 4, [1.0, 3.0, 2.0, 5.0], [4.0, 2.0, 0.0, 1.0]
    state, x = tx.init(X), jnp.asarray(X)
    for found in (first, nan, second):
        updates, state = tx.update(None, state, x, values=np.array(found))
    signs = np.stack([drawn(SIGNS, KEY, t, 2, x) for t in (0, 2)])
    c = np.diff(np.reshape([first, second], (2, 2, 2)))[..., 0] / -(4 * MU)
    old, new = np.einsum("ti,tid->td", c, signs)
    np.testing.assert_allclose(updates, -0.05 * 0.2 * (new + 0.8 * old), rtol=1e-6)


def test_zo_momentum_refuses_directions_with_a_memory():
    tx = zojax.zo_momentum(0.1, zojax.estimator(directions.cone()))
    with pytest.raises(ValueError, match="a direction with a memory does not allow"):
        jax.eval_shape(lambda x: tx.update(None, tx.init(x), x, value_fn=tilted), X)


def test_meazo_squares_the_mean():
    x, v, trail = X, 0, []
    for t in range(3):
        z = drawn(SIGNS, KEY, t, 2, jnp.asarray(X))
        c = differences(x, z)
        v = 0.9 * v + 0.1 * np.mean(c) ** 2
        x = x - 0.02 * np.mean(c * z.T, axis=1) / (np.sqrt(v / (1 - 0.9 ** (t + 1))) + 1e-8)
        trail.append(x)
    assert_steps_equal(zojax.meazo(0.02, MU, 2, decay=0.9, key=KEY), trail)


def test_fzoo_divides_by_the_deviation_of_the_values():
    def gradient(x, u, mu):
        values_at = np.array([values(x + mu * ui) for ui in u])
        return (values_at - values(x)) @ u / (len(u) * values_at.std())

    trail = by_hand(lambda x, g, t, _: (x - 0.02 * g, None), SIGNS, 4, gradient=gradient)
    assert_steps_equal(zojax.fzoo(0.02, mu=MU, num_directions=4, key=KEY), trail)


def test_residual_one_point():
    x, before, trail = X, None, []
    for t in range(3):
        (z,) = drawn(NORMAL, KEY, t, 1, jnp.asarray(X))
        value = values(x + MU * z)
        x = x - 0.001 * (value - (value if before is None else before)) / MU * z
        before = value
        trail.append(x)
    assert_steps_equal(zojax.residual_one_point(0.001, mu=MU, key=KEY), trail)


@pytest.mark.parametrize(
    "stencil", [None, pytest.param(stencils.central(), marks=pytest.mark.slow)]
)
def test_coordinate_descent_sums_over_its_coordinates(stencil):
    x, trail = X, []
    for t in range(3):
        unit = drawn(directions.coordinate(), KEY, t, 2, jnp.asarray(X)) / 2  # sqrt(d) = 2
        assert np.array_equal(np.abs(unit).sum(axis=1), [1, 1])
        if stencil is None:
            c = np.array([(values(x + MU * e) - values(x)) / MU for e in unit])
        else:
            c = differences(x, unit)
        x = x - 0.05 * c @ unit
        trail.append(x)
    tx = zojax.coordinate_descent(0.05, MU, num_coordinates=2, stencil=stencil, key=KEY)
    assert_steps_equal(tx, trail)


def test_a_full_sweep_of_coordinates_is_the_gradient():
    source = zojax.coordinate_descent(1.0, 1e-4, 4, stencils.central())
    (after,) = steps_from(jnp.asarray(X), [source], tilted)
    np.testing.assert_allclose(X - after, jax.grad(tilted)(jnp.asarray(X)), rtol=1e-5)


@pytest.mark.parametrize("points", [2, 1])
def test_eggroll(points):
    """Standardised losses of all members; sqrt(P) times the mean of f E."""

    def gradient(x, e, mu):
        at = [[values(x + o * mu * ei) for o in (1, -1)[:points]] for ei in e]
        f = (at - np.mean(at)) / np.std(at)
        signed = f[:, 0] - f[:, 1] if points == 2 else f[:, 0]
        return np.sqrt(f.size) * signed @ e / f.size

    stencil = stencils.one_point() if points == 1 else None
    tx = zojax.eggroll(0.02, MU, population=4, stencil=stencil, direction=NORMAL, key=KEY)
    trail = by_hand(lambda x, g, t, _: (x - 0.02 * g, None), NORMAL, 4 // points, gradient=gradient)
    assert_steps_equal(tx, trail)


@pytest.mark.slow
def test_eggroll_takes_any_optimizer():
    tx = zojax.eggroll(0.02, MU, population=4, optimizer=optax.adam, key=KEY)
    (after,) = steps_from(jnp.asarray(X), [tx], tilted)
    np.testing.assert_allclose(np.abs(after - X), 0.02, rtol=1e-5)


def test_groups_remove_what_their_data_share():
    """With a prompt for each group of directions, the level of a prompt does not matter."""
    table = np.random.RandomState(0).randn(6, 2)
    shaped = shaping.standardize_groups(3).values
    levels = np.repeat([5.0, -80.0], 3)[:, None]
    first = shaped(jnp.asarray(table), jnp.ones(6, bool))
    second = shaped(jnp.asarray(table + levels), jnp.ones(6, bool))
    np.testing.assert_allclose(first / first[0, 0], second / second[0, 0], rtol=1e-9)
    tx = zojax.eggroll(1.0, population=12, group_size=3, in_axes={"level": 0}, direction=NORMAL)

    def loss(x, level):
        return tilted(x) + level

    state = tx.init(X)
    updates, _ = tx.update(None, state, X, value_fn=loss, level=jnp.asarray(levels[:, 0]))
    flat, _ = tx.update(None, state, X, value_fn=loss, level=jnp.zeros(6))
    unit = [u / np.linalg.norm(u) for u in (updates, flat)]
    np.testing.assert_allclose(*unit, rtol=1e-5)


@pytest.mark.optimized
def test_forward_gradient_has_no_bias():
    x, trail = X, []
    for t in range(3):
        z = drawn(NORMAL, KEY, t, 3, jnp.asarray(X))
        slope = np.cos(x) + 2 * np.arange(1.0, 5.0) * x
        x = x - 0.01 * np.mean((z @ slope) * z.T, axis=1)
        trail.append(x)
    assert_steps_equal(zojax.forward_gradient(0.01, 3, key=KEY), trail, 1e-6)


def test_zo_sam_estimates_where_the_first_estimate_is_steepest():
    x, trail = X, []
    for t in range(3):
        step_key = jax.random.fold_in(KEY, t)
        first_key = jax.random.fold_in(step_key, 2**32 - 3)
        like = jnp.asarray(X)
        frame = SIGNS.frame(first_key, 2, like)
        first = np.stack([SIGNS.draw(frame, i, like).dense() for i in range(2)])
        g = central(x, first, MU)
        z = drawn(SIGNS, KEY, t, 2, like)
        x = x - 0.01 * central(x + 0.1 * g / np.linalg.norm(g), z, MU)
        trail.append(x)
    assert_steps_equal(zojax.zo_sam(0.01, 0.1, SOURCE, key=KEY), trail)


# --- directions with a memory -------------------------------------------------------------------------


def test_conmezo():
    x, m, trail = X, np.zeros(4), []
    for t in range(3):
        z = drawn(SIGNS, KEY, t, 1, jnp.asarray(X))
        if t:
            z = np.cos(1.2) * 2 * m / np.linalg.norm(m) + np.sin(1.2) * z  # |z| = 2
        g = central(x, z, MU)
        x, m = x - 0.02 * g, 0.9 * m + 0.1 * g
        trail.append(x)
    assert_steps_equal(zojax.conmezo(0.02, MU, angle=1.2, momentum=0.9, key=KEY), trail)


def test_snes():
    n, eta = 6, (3 + np.log(4)) / (5 * np.sqrt(4))
    raw = np.maximum(0, np.log(n / 2 + 1) - np.log(np.arange(1, n + 1)))
    by_rank = raw / raw.sum() - 1 / n  # largest for the lowest loss
    x, sigma, trail = X, np.full(4, MU), []
    for t in range(3):
        s = drawn(NORMAL, KEY, t, n, jnp.asarray(X))
        ranks = np.argsort(np.argsort([values(x + sigma * si) for si in s]))
        u = by_rank[ranks]
        x = x + 0.8 * sigma * (u @ s)
        sigma = sigma * np.exp(eta / 2 * (u @ (s**2 - 1)))
        trail.append(x)
    tx = zojax.snes(MU, population=n, learning_rate=0.8, key=KEY)
    assert_steps_equal(tx, trail, 1e-4)


def test_hizoo_with_the_mended_curvature():
    x, b, trail = X, np.ones(4), []
    for t in range(3):
        s = drawn(NORMAL, KEY, t, 2, jnp.asarray(X))  # two pairs
        h = np.maximum(np.abs(b), 0.5)
        z = s / np.sqrt(h)
        second = [values(x + MU * zi) + values(x - MU * zi) - 2 * values(x) for zi in z]
        term = h * np.mean(np.array(second)[:, None] / (2 * MU**2) * (s**2 - 1), axis=0)
        x, b = x - 0.01 * central(x, z, MU), 0.7 * b + 0.3 * term
        trail.append(x)
    tx = zojax.hizoo(0.01, MU, num_pairs=2, smoothing=0.3, floor=0.5, key=KEY)
    assert_steps_equal(tx, trail, 1e-4)


@pytest.mark.slow
def test_the_mended_curvature_averages_to_the_diagonal():
    d, n = 20, 4000
    curves = np.linspace(1, 5, d)
    direction = directions.curvature(smoothing=1.0, floor=1e-3)
    source = zojax.estimator(direction, stencils.forward(), mu=0.1, num_directions=2 * n)
    params = jnp.zeros(d)
    out = source.estimate(0, lambda x: curves @ x**2 / 2, params, state=source.init(params))
    error = np.asarray(out.state.direction) - curves
    s = np.random.RandomState(0).randn(n, d)
    terms = (s**2 @ curves)[:, None] / 2 * (s**2 - 1)
    spread = terms.std(axis=0) / np.sqrt(n)
    assert np.all(np.abs(error) < 5 * spread)
    assert np.corrcoef(out.state.direction, curves)[0, 1] > 0.5


def test_guided_es_steps_along_its_directions():
    tx = zojax.guided_es(0.02, MU, num_directions=2, history=2, key=KEY)
    x, state, past = jnp.asarray(X), tx.init(X), np.zeros((2, 4))
    for t in range(3):
        adaptive = directions.guided(2)
        z = drawn(adaptive.direction(jnp.asarray(past), x), KEY, t, 2, jnp.asarray(X))
        g = central(np.asarray(x), z, MU)
        updates, state = tx.update(None, state, x, value_fn=tilted)
        np.testing.assert_allclose(updates, -0.02 * g, rtol=1e-4)
        past = np.stack([g, past[0]])
        np.testing.assert_allclose(state.estimator_state.direction, past, rtol=1e-4)
        x = x + updates


@pytest.mark.parametrize("count", fast([2], [0, 1, 2]))
def test_guided_directions_favour_the_span_of_the_past(count):
    d, n, alpha = 6, 4000, 0.3
    past = np.zeros((2, d))
    past[:count] = np.random.RandomState(1).randn(count, d) * np.array([1e-4, 1.0])[:count, None]
    direction = directions.guided(2, alpha).direction(jnp.asarray(past), None)
    z = drawn_at_once(direction, n, d)
    u = np.linalg.svd(past[:count])[2][:count]
    expected = np.eye(d)
    if count:
        expected = alpha * np.eye(d) + (1 - alpha) * d / count * u.T @ u
    found = z.T @ z / n
    scale = np.sqrt(2 * np.outer(np.diag(expected), np.diag(expected)) / n)
    assert np.all(np.abs(found - expected) < 5 * scale)


def test_guided_directions_change_little_with_the_rounding_of_the_past():
    past = np.eye(2, 6)
    for error in (1e-6, -1e-6):
        changed = past + error * np.ones_like(past)
        z, near = (
            drawn_at_once(directions.guided(2).direction(jnp.asarray(memory), None), 4, 6)
            for memory in (past, changed)
        )
        np.testing.assert_allclose(near, z, atol=1e-4)


def drawn_at_once(direction, n, d):
    like = jax.ShapeDtypeStruct((d,), jnp.float64)
    frame = direction.frame(jax.random.key(0), n, like)
    return np.asarray(jax.vmap(lambda i: direction.draw(frame, i, like).dense())(jnp.arange(n)))


# --- matrices -----------------------------------------------------------------------------------------

ROWS, COLUMNS = 5, 3
W = np.random.RandomState(2).randn(ROWS, COLUMNS)


def bent(w):
    return jnp.sum(jnp.sin(w) + jnp.arange(1.0, 1 + w.size).reshape(w.shape) * w**2 / 10)


def bent_at(w):
    return float(np.sum(np.sin(w) + np.arange(1.0, 1 + w.size).reshape(w.shape) * w**2 / 10))


def core(step, index, shape):
    """The normals of the one matrix, in direction `index` of a step."""
    seed = noise.make_seed(jax.random.fold_in(KEY, step))
    own = noise.child_seeds(seed, index, 1)[0]
    return np.asarray(noise.row_noise(noise.Normals(own), shape).dense(), np.float64)


def run(tx, steps):
    """The parameters before, the state after and the update of each step."""
    w, state = jnp.asarray(W), tx.init(W)
    for _ in range(steps):
        updates, after = tx.update(None, state, w, value_fn=bent)
        yield np.asarray(w), after.estimator_state.direction, np.asarray(updates)
        w, state = w + updates, after


def slope(w, z, mu):
    return (bent_at(w + mu * z) - bent_at(w - mu * z)) / (2 * mu)


@pytest.mark.parametrize("momentum", [pytest.param(None, marks=pytest.mark.slow), 0.7])
def test_lozo(momentum):
    """With momentum N, projected on each new V, or without; V is new in steps 0 and 2."""
    tx = zojax.lozo(0.02, MU, rank=2, refresh=2, momentum=momentum, key=KEY)
    n, old = np.zeros((ROWS, 2)), None
    for t, (w, memory, update) in enumerate(run(tx, 3)):
        v = np.asarray(memory.right, np.float64).T
        u = core(t, 0, (ROWS, 2))
        c = slope(w, u @ v.T, MU)
        if old is not None:
            assert np.array_equal(v, old) == (t != 2)
            n = n @ old.T @ v / COLUMNS if t == 2 else n
        n = c * u if momentum is None else momentum * n + (1 - momentum) * c * u
        np.testing.assert_allclose(update, -0.02 * n @ v.T / 2, rtol=1e-4, atol=1e-7)
        old = v


@pytest.mark.slow
def test_lozo_m_is_lozo_with_momentum():
    settings = dict(rank=2, refresh=2, key=KEY)
    pairs = zip(
        run(zojax.lozo(0.02, MU, momentum=0.9, **settings), 2),
        run(zojax.lozo_m(0.02, MU, **settings), 2),
        strict=True,
    )
    for a, b in pairs:
        np.testing.assert_array_equal(a[2], b[2])


def test_subzero():
    tx = zojax.subzero(0.02, MU, rank=2, refresh=2, key=KEY)
    for t, (w, memory, update) in enumerate(run(tx, 3)):
        u, v = (np.asarray(b, np.float64).T for b in (memory.left, memory.right))
        for basis in (u, v):
            np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-6)
        z = np.sqrt(ROWS * COLUMNS) / 2 * u @ core(t, 0, (2, 2)) @ v.T
        np.testing.assert_allclose(update, -0.02 * slope(w, z, MU) * z, rtol=1e-4, atol=1e-7)


INPUTS = np.random.RandomState(3).randn(4, ROWS)


def layers(p):
    """Two layers; rows of the first weights meet fixed inputs, columns of the second the layer between."""
    return jnp.sum(jnp.sin(jnp.tanh(INPUTS @ p["a"]) @ p["b"].T) + jnp.arange(1.0, 3.0) ** 2)


def test_agzo():
    """A is an orthonormal basis of H'H A, with the inputs H at the parameters of steps 0 and 2."""
    tx = zojax.agzo(0.02, MU, rank=2, refresh=2, key=KEY)
    p = {"a": jnp.asarray(W), "b": jnp.asarray(W[:2])}
    state, old = tx.init(p), None
    for t in range(3):
        updates, state = tx.update(None, state, p, value_fn=layers)
        _, left, right = state.estimator_state.direction
        a, b = np.asarray(left["a"].T, np.float64), np.asarray(right["b"].T, np.float64)
        assert not np.any(left["b"]) and not np.any(right["a"])
        if t == 2:
            between = np.tanh(INPUTS @ np.asarray(p["a"]))
            for new, before, h in zip((a, b), old, (INPUTS, between), strict=True):
                basis = np.linalg.qr(h.T @ h @ before)[0]
                np.testing.assert_allclose(new @ new.T, basis @ basis.T, atol=1e-5)
        elif t == 1:
            assert np.array_equal(a, old[0]) and np.array_equal(b, old[1])
        seeds = noise.child_seeds(noise.make_seed(jax.random.fold_in(KEY, t)), 0, 2)
        r, s = (
            np.asarray(noise.row_noise(noise.Normals(seed), shape).dense(), np.float64)
            for seed, shape in zip(seeds, ((2, COLUMNS), (2, 2)), strict=True)
        )
        z = {"a": a @ r, "b": (b @ s).T}
        ends = [layers(jax.tree.map(lambda x, d, o=o: x + o * d, p, z)) for o in (MU, -MU)]
        slope = float(ends[0] - ends[1]) / (2 * MU)
        for name, d in z.items():
            np.testing.assert_allclose(updates[name], -0.02 * slope * d, rtol=1e-4, atol=1e-8)
        p, old = optax.apply_updates(p, updates), (a, b)


def newton_schulz(g):
    x = g / np.linalg.norm(g)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def test_zo_muon():
    tx = zojax.zo_muon(0.02, MU, num_directions=2, rank=2, refresh=2, key=KEY)
    for t, (w, memory, update) in enumerate(run(tx, 3)):
        p = np.asarray(memory.left, np.float64).T
        u = [core(t, i, (2, COLUMNS)) for i in range(2)]
        scale = np.sqrt(ROWS / 2)
        g = sum((bent_at(w + MU * scale * p @ ui) - bent_at(w)) * ui for ui in u)
        np.testing.assert_allclose(update, -0.02 * p @ newton_schulz(g), rtol=1e-4, atol=1e-7)


def test_sparse_mezo_moves_the_small_weights():
    tx = zojax.sparse_mezo(0.02, MU, sparsity=0.6, key=KEY)
    threshold = np.sort(np.abs(W).ravel())[5]  # 6 of 15
    for t, (w, memory, update) in enumerate(run(tx, 3)):
        z = noise.child_seeds(noise.make_seed(jax.random.fold_in(KEY, t)), 0, 1)[0]
        z = np.asarray(noise.row_noise(noise.Signs(z), W.shape).dense(), np.float64)
        z = z * (np.abs(w) <= threshold)
        assert t or np.count_nonzero(z) == 6
        np.testing.assert_allclose(memory.of, threshold, rtol=1e-6)
        np.testing.assert_allclose(update, -0.02 * slope(w, z, MU) * z, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("optimizer", ["lezo", "block_coordinate"])
def test_layers(optimizer):
    """Stacked layers, one of which moves in each step: at random, or in turn."""
    settings = dict(layer_of=lambda path, leaf: np.arange(leaf.shape[0]), key=KEY)
    if optimizer == "lezo":
        tx, scale = zojax.lezo(0.02, MU, sparsity=0.8, **settings), np.sqrt(5)
    else:
        tx, scale = zojax.block_coordinate(0.02, MU, **settings), 1.0
    moved = []
    for t, (w, _, update) in enumerate(run(tx, 6)):
        seed = noise.child_seeds(noise.make_seed(jax.random.fold_in(KEY, t)), 0, 1)[0]
        z = np.asarray(noise.row_noise(noise.Signs(seed), W.shape).dense(), np.float64)
        (layer,) = np.flatnonzero(np.any(update, axis=1))
        z = scale * z * (np.arange(ROWS) == layer)[:, None]
        np.testing.assert_allclose(update, -0.02 * slope(w, z, MU) * z, rtol=1e-4, atol=1e-9)
        moved.append(layer)
    if optimizer == "block_coordinate":
        assert moved == [0, 1, 2, 3, 4, 0]
    else:
        assert len(set(moved)) > 2


def test_layers_of_several_leaves():
    params = {"a": np.ones((2, 3)), "b": np.ones(2), "c": np.float64(1.0)}
    of = {"['a']": np.array([0, 1]), "['b']": np.array([0, 1]), "['c']": 2}
    tx = zojax.block_coordinate(0.1, layer_of=lambda path, leaf: of[jax.tree_util.keystr(path)])
    state, moved = tx.init(params), []

    def loss(p):
        return jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 2) + p["c"] ** 2

    for _ in range(3):
        updates, state = tx.update(None, state, params, value_fn=loss)
        moved.append(jax.tree.map(lambda u: (np.abs(u) > 0).astype(int), updates))
    assert np.array_equal([m["a"][:, 0] for m in moved], [[1, 0], [0, 1], [0, 0]])
    assert np.array_equal([m["b"] for m in moved], [[1, 0], [0, 1], [0, 0]])
    assert [int(m["c"]) for m in moved] == [0, 0, 1]


RUN = []  # an entry for each layer that ran


def layer(h, w):
    h = jnp.tanh(h @ w)
    jax.debug.callback(lambda _: RUN.append(0), h[0, 0])
    return h, None


def scanned(p):
    h, _ = jax.lax.scan(layer, p["embed"][np.arange(3)], p["layers"])
    return jnp.mean(jnp.sin(h @ p["read"]))


def written_out(p):
    h = jnp.ones((2, 4))
    for name in "abc":
        h = jax.jit(layer)(h, p[name])[0]
    return jnp.mean(h)


BLOCKS = {"embed": 0, "layers": np.arange(1, 4), "read": 4}
SHARING = {
    "scan": (
        scanned,
        {"embed": np.ones((5, 4)) / 3, "layers": np.ones((3, 4, 4)) / 4, "read": np.ones((4, 2))},
        lambda path, leaf: BLOCKS[path[0].key],
        [6, 6, 5, 4, 3],
    ),
    "written out": (written_out, {n: np.ones((4, 4)) / 4 for n in "abc"}, None, [6, 5, 4]),
}


@pytest.mark.parametrize("name", SHARING)
def test_layers_below_the_block_run_once(name):
    """Without sharing, each step would run 2 points of 3 layers."""
    loss, params, layer_of, counts = SHARING[name]
    tx = zojax.block_coordinate(0.1, MU, layer_of=layer_of, key=KEY)
    step = jax.jit(lambda state: tx.update(None, state, params, value_fn=loss))
    state, found = tx.init(params), []
    for _ in counts:
        RUN.clear()
        updates, state = step(state)
        jax.effects_barrier()
        found.append(len(RUN))
        z = jax.tree.map(lambda u: -np.sign(u), updates)
        ends = [loss(jax.tree.map(lambda x, d, o=o: x + o * d, params, z)) for o in (MU, -MU)]
        slope = abs(float(ends[0] - ends[1])) / (2 * MU)
        for u, d in zip(jax.tree.leaves(updates), jax.tree.leaves(z), strict=True):
            np.testing.assert_allclose(np.abs(u), 0.1 * slope * np.abs(d), rtol=1e-4, atol=1e-8)
    assert found == counts


# --- convergence --------------------------------------------------------------------------------------

RATES = np.float32([1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0])
STEPS = 300


def quadratic(w):
    return jnp.sum(jnp.linspace(1, 5, w.size).reshape(w.shape) * (w - 1) ** 2) / 2


def rosenbrock(w):
    """Two valleys side by side; x is the first row."""
    return jnp.sum((1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2)


def logistic(p):
    rng = np.random.RandomState(0)
    labels = np.arange(60) % 3
    examples = (rng.randn(3, 5)[labels] * 2 + rng.randn(60, 5)).astype(np.float32)
    scores = examples @ p["w"] + p["b"]
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, labels))


PROBLEMS = {
    "quadratic": (quadratic, lambda: jnp.zeros((4, 3)), 0.02),
    "rosenbrock": (rosenbrock, lambda: jnp.array([[-1.0, 0.5], [1.0, -0.5]]), 0.2),
    "logistic": (logistic, lambda: {"w": jnp.zeros((5, 3)), "b": jnp.zeros(3)}, 0.4),
}


@pytest.mark.slow
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", [name for name, law in OPTIMIZERS.items() if law.at_rate])
def test_trains_small_problems_at_some_rate(name, problem):
    """The loss falls to a share of the first, at one of nine rates at least."""
    (loss, start, share), make = PROBLEMS[problem], OPTIMIZERS[name].at_rate

    @jax.jit
    @jax.vmap
    def last(rate):
        params, tx = start(), make(rate)

        def step(carry, _):
            updates, state = tx.update(None, carry[1], carry[0], value_fn=loss)
            return (optax.apply_updates(carry[0], updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=STEPS)
        return loss(params)

    with jax.enable_x64(False):
        found, first = last(RATES), loss(start())
    assert np.nanmin(found) < share * first, found


@pytest.mark.slow
def test_sparse_mezo_trains_the_weights_that_were_small():
    """From zero it cannot start: a weight that outgrows its threshold stops."""
    start = jnp.where(jnp.arange(12) % 2, 5.0, jnp.linspace(0.5, 1.0, 12))
    tx = zojax.sparse_mezo(0.02, 1e-2, 4, sparsity=0.5)
    with jax.enable_x64(False):
        start = start.astype(jnp.float32)
        found = zojax.minimize(lambda w: jnp.sum(w**2), start, tx, STEPS, chunk_size=STEPS).params
    np.testing.assert_array_equal(found[1::2], 5.0)
    assert jnp.sum(found[::2] ** 2) < 0.02 * jnp.sum(start[::2] ** 2)


# --- errors -------------------------------------------------------------------------------------------

ERRORS = {
    "odd population": (lambda: zojax.eggroll(population=7), "multiple of the stencil's 2 points"),
    "groups": (lambda: zojax.eggroll(population=8, group_size=3), "divide the 4 directions, got 3"),
    "two shapings": (
        lambda: zojax.eggroll(shaping=shaping.none(), group_size=2),
        "got shaping and group_size",
    ),
    "one direction": (lambda: zojax.fzoo(num_directions=1), "needs num_directions >= 2, got 1"),
    "no pairs": (lambda: zojax.hizoo(num_pairs=0), "num_pairs must be at least 1, got 0"),
    "all frozen": (lambda: zojax.sparse_mezo(sparsity=1.0), r"1 - sparsity must be in \(0, 1\]"),
    "no layers": (lambda: zojax.lezo(sparsity=1.5), "1 - sparsity must be finite and not negative"),
    "no horizon": (lambda: zojax.zo_momentum(0.1, horizon=0), "horizon must be at least 1, got 0"),
    "no rho": (lambda: zojax.zo_sam(0.1, rho=0.0), "rho must be positive"),
    "no rank": (lambda: zojax.subzero(rank=0), "rank must be at least 1, got 0"),
    "no mu": (lambda: zojax.snes(mu=0.0), "mu must be positive"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        make()
