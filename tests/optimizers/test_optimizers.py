"""Ready-made optimizers: known numbers, their formulas written out, convergence."""

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
    bowl,
    by_hand,
    steps_from,
    tilted,
    values,
)
from tests.optimizers._laws import OPTIMIZERS
from zojax import directions, noise, stencils

START = (1.0, -2.0)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def fixed(z):
    """A direction from outside the package: always the same z."""
    z = jnp.asarray(z)

    def draw(frame, index, like):
        return noise.StoredNoise(z)

    def combine(frame, coefficients, like):
        return jnp.sum(coefficients) * z

    return directions.Direction(lambda key, num_directions, like: (), draw, combine)


# --- known numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda z: zojax.mezo(1e-2, mu=1e-3, direction=fixed(z)),
        lambda z: zojax.zo_sgd(1e-2, zojax.estimator(fixed(z), mu=1e-3)),
    ],
)
def test_the_golden_step(make):
    tx = make((0.5, -1.0))
    start = jnp.array(START)
    (after,) = steps_from(start, [tx])
    np.testing.assert_allclose(after, (0.8975, -1.795), atol=1e-6)
    np.testing.assert_allclose((start - after) / 1e-2, (10.25, -20.5), atol=1e-6)  # c = 20.5


def test_the_golden_step_of_forward_differences():
    source = zojax.estimator(fixed((0.5, -1.0)), stencils.forward(), mu=1e-3)
    (after,) = steps_from(jnp.array(START), [zojax.zo_sgd(1e-2, source)])
    c = 20.5 + 1e-3 * (0.5**2 + 10) / 2
    np.testing.assert_allclose(after, (1 - 1e-2 * c / 2, -2 + 1e-2 * c), atol=1e-8)


def test_the_golden_run_of_spsa():
    signs = np.random.RandomState(0)
    transformations = [
        zojax.spsa(
            a=0.05,
            c=0.1,
            A=10,
            alpha=0.602,
            gamma=0.101,
            direction=fixed(signs.choice([-1, 1], 2).astype(float)),
        )
        for _ in range(3)
    ]
    *_, last = steps_from(jnp.array(START), transformations)
    np.testing.assert_allclose(last, (0.70674896, -1.38805923), atol=1e-6)


# --- formulas -----------------------------------------------------------------------------------------


def test_zo_sgd_is_its_formula():
    tx = zojax.zo_sgd(0.01, zojax.estimator(mu=MU, num_directions=3), key=KEY)
    trail = by_hand(lambda x, g, t, _: (x - 0.01 * g, None), directions.rademacher(), 3)
    assert_steps_equal(tx, trail)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_its_formula(nesterov):
    def rule(x, g, t, trace):
        trace = g + 0.9 * (0 if trace is None else trace)
        return x - 0.01 * (g + 0.9 * trace if nesterov else trace), trace

    tx = zojax.zo_sgd(0.01, zojax.estimator(mu=MU), momentum=0.9, nesterov=nesterov, key=KEY)
    assert_steps_equal(tx, by_hand(rule, directions.rademacher()))


def test_mezo_is_its_formula():
    tx = zojax.mezo(
        lambda t: 0.01 / (t + 1),
        mu=lambda t: MU * (t + 1),
        num_directions=2,
        weight_decay=0.1,
        direction=directions.normal(),
        key=KEY,
    )
    trail = by_hand(
        lambda x, g, t, _: (x - 0.01 / (t + 1) * (g + 0.1 * x), None),
        directions.normal(),
        2,
        lambda t: MU * (t + 1),
    )
    assert_steps_equal(tx, trail)


def test_mezo_decays_what_the_mask_says():
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    tx = zojax.mezo(0.5, weight_decay=0.1, mask={"w": True, "b": False})
    (after,) = steps_from(params, [tx], lambda p: 0.0 * jnp.sum(p["w"]))
    np.testing.assert_allclose(after["w"], 0.95)
    np.testing.assert_allclose(after["b"], 1.0)


def test_spsa_is_its_formula():
    tx = zojax.spsa(a=0.1, c=MU, A=5, num_directions=2, key=KEY)
    trail = by_hand(
        lambda x, g, t, _: (x - 0.1 / (t + 6) ** 0.602 * g, None),
        directions.rademacher(),
        2,
        lambda t: MU / (t + 1) ** 0.101,
    )
    assert_steps_equal(tx, trail)


def test_open_es_is_its_formula():
    def ranked(x, z, mu):
        table = np.array([[values(x + mu * zi), values(x - mu * zi)] for zi in z])
        ranks = np.argsort(np.argsort(table.ravel())).reshape(table.shape) / (table.size - 1) - 0.5
        return (ranks[:, 0] - ranks[:, 1]) @ z / (table.size * mu)

    def adamw(x, g, t, memory):
        m, v = (0, 0) if memory is None else memory
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
        return x - 0.02 * (m_hat / (np.sqrt(v_hat) + 1e-8) + 0.1 * x), (m, v)

    tx = zojax.open_es(0.02, mu=MU, population=8, weight_decay=0.1, key=KEY)
    assert_steps_equal(tx, by_hand(adamw, directions.normal(), 4, gradient=ranked))


def test_ars_is_its_formula():
    def direction_of_best(x, z, mu):
        table = np.array([[values(x + mu * zi), values(x - mu * zi)] for zi in z])
        best = np.argsort(table.min(axis=1))[:2]
        return (table[best, 0] - table[best, 1]) @ z[best] / (2 * table[best].std())

    tx = zojax.ars(lambda t: 0.02 / (t + 1), mu=MU, num_directions=5, num_top=2, key=KEY)
    trail = by_hand(
        lambda x, g, t, _: (x - 0.02 / (t + 1) * g, None),
        directions.normal(),
        5,
        gradient=direction_of_best,
    )
    assert_steps_equal(tx, trail)


def test_the_golden_step_of_ars():
    # L+ = 6.125 and L- = 45.125: their std is half their difference, so the step is 2 alpha z.
    tx = zojax.ars(0.1, mu=1.0, num_directions=1, direction=fixed((0.5, 1.0)))
    (after,) = steps_from(jnp.array(START), [tx])
    np.testing.assert_allclose(after, np.array(START) + 0.2 * np.array([0.5, 1.0]), atol=1e-6)


def test_open_es_sees_only_the_order_of_the_values():
    tx = zojax.open_es(0.02, population=4, key=KEY)
    steps = [
        list(steps_from(jnp.asarray(X), [tx] * 2, fun))
        for fun in (tilted, lambda x: jnp.exp(tilted(x)))
    ]
    np.testing.assert_allclose(*steps)


# --- use ----------------------------------------------------------------------------------------------

CONVERGING = {
    **{name: law.converging for name, law in OPTIMIZERS.items() if law.converging},
    "adam": zojax.zeroth_order(optax.adam(0.05), zojax.estimator(num_directions=2)),
}


# The others are variants of these.
@pytest.mark.parametrize("name", fast(["zo_sgd", "mezo", "spsa", "open_es", "ars"], CONVERGING))
def test_converges_on_a_quadratic(name):
    tx, steps = CONVERGING[name], 300
    with jax.enable_x64(False):
        result = zojax.minimize(bowl, jnp.array(START), tx, steps, chunk_size=steps)
    assert float(bowl(result.params)) < 1e-3 * float(bowl(jnp.array(START)))


ERRORS = {
    "odd population": (lambda: zojax.open_es(population=7), ValueError, "even.*got 7"),
    "no population": (lambda: zojax.open_es(population=0), ValueError, "population.*least 1.*0"),
    "too many on top": (
        lambda: zojax.ars(num_directions=4, num_top=5),
        ValueError,
        "num_top must be at most num_directions = 4, got 5",
    ),
    "negative a": (lambda: zojax.spsa(a=-1.0, c=0.1), ValueError, "a must be positive.*-1.0"),
    "zero c": (lambda: zojax.spsa(a=0.1, c=0.0), ValueError, "c must be positive.*0.0"),
    "negative A": (
        lambda: zojax.spsa(a=0.1, c=0.1, A=-5.0),
        ValueError,
        "A must be.*not negative.*-5.0",
    ),
    "A that is no number": (
        lambda: zojax.spsa(a=0.1, c=0.1, A=float("nan")),
        ValueError,
        "A must be finite.*nan",
    ),
    "a schedule of gains": (
        lambda: zojax.spsa(lambda k: 1.0, 0.1),
        TypeError,
        "a must be a number",
    ),
    "no rate": (lambda: zojax.mezo(None), TypeError, "learning_rate.*got None"),
    "a negative rate": (lambda: zojax.mezo(-1.0), ValueError, "learning_rate.*-1.0"),
    "a rate in words": (lambda: zojax.ars("fast"), TypeError, "learning_rate.*'fast'"),
    "an estimator for a rate": (
        lambda: zojax.zo_sgd(zojax.estimator()),
        TypeError,
        "learning_rate.*a Estimator",
    ),
    "negative decay": (lambda: zojax.mezo(weight_decay=-0.1), ValueError, "weight_decay.*-0.1"),
    "zero mu": (lambda: zojax.mezo(mu=0.0), ValueError, "mu must be positive.*0.0"),
    "no directions": (lambda: zojax.mezo(num_directions=0), ValueError, "num_directions.*1.*0"),
    "a factory": (
        lambda: zojax.mezo(direction=directions.normal),
        TypeError,
        r"direction must be a Direction.*direction=\.\.\.\(\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        make()
