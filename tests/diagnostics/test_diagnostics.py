"""Noise, radii, curvature and estimators, beside functions of which all is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from zojax import diagnostics
from zojax.diagnostics.smoothing import Sweep
from zojax.directions import rademacher

RNG = np.random.default_rng(0)
X0 = jnp.asarray(0.5 * RNG.standard_normal(50), jnp.float32)
DATA = jnp.asarray(RNG.standard_normal((200, 50)), jnp.float32)
SIGNS = jnp.asarray(RNG.choice([-1.0, 1.0], 200), jnp.float32)


def sphere(x):
    return jnp.sum(x**2)


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def logistic(w):
    return jnp.mean(jnp.log1p(jnp.exp(-SIGNS * (DATA @ w))))


def with_noise(fun):
    """Noise of .01 that is a function of the bits of x."""

    def noisy(x):
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
        seed = jnp.sum(bits * (jnp.arange(x.size, dtype=jnp.uint32) * 2 + 1))
        return fun(x) + 0.01 * jax.random.normal(jax.random.key(seed))

    return noisy


KINDS = {
    "float32": lambda fun: fun,
    "noise": with_noise,
    "bfloat16": lambda fun: lambda x: fun(x.astype(jnp.bfloat16)).astype(jnp.float32),
    "steps": lambda fun: lambda x: jnp.round(fun(x) / 0.05) * 0.05,
}
FUNCTIONS = {"sphere": sphere, "rosenbrock": rosenbrock, "logistic": logistic}
FAST = {("sphere", "steps"), ("logistic", "noise")}
FAST |= {("rosenbrock", "bfloat16"), ("rosenbrock", "float32")}


@pytest.mark.parametrize(
    "name, kind",
    [
        pytest.param(n, k, marks=[] if (n, k) in FAST else pytest.mark.slow)
        for n in FUNCTIONS
        for k in KINDS
    ],
)
def test_the_radius_is_within_a_factor_3_of_the_best(name, kind):
    fun = FUNCTIONS[name]
    found = diagnostics.sweep(KINDS[kind](fun), X0)
    direction, like = rademacher(), jax.ShapeDtypeStruct(X0.shape, X0.dtype)
    frame = direction.frame(jax.random.key(0), 8, like)
    z = jnp.stack([direction.draw(frame, i, like).dense() for i in range(8)])
    errors = np.sqrt(np.mean((found.slopes - np.asarray(z @ jax.grad(fun)(X0))) ** 2, axis=1))
    assert errors[found.best] <= 3 * np.nanmin(errors)


@pytest.mark.parametrize("sigma", [1e-6, 1e-2])
def test_the_noise_of_a_line_is_found(sigma):
    x = 1e-6 * np.arange(9)
    values = np.exp(x) + sigma * np.random.default_rng(1).standard_normal((40, 9))
    levels = np.array([diagnostics.noise_level(row) for row in values])
    assert np.isfinite(levels).mean() > 0.5
    assert sigma / 2 < np.nanmedian(levels) < 2 * sigma
    assert diagnostics.noise_level(np.ones(5)) == 0


def test_values_without_noise_have_no_level():
    assert np.isnan(diagnostics.noise_level(np.exp(np.arange(8.0))))
    for bad in (np.ones(3), [1.0, np.nan, 1.0, 1.0]):
        with pytest.raises(ValueError, match="values must be 4 or more finite numbers"):
            diagnostics.noise_level(bad)


def test_a_quadratic_is_seen_as_it_is():
    h = jnp.asarray(np.geomspace(0.1, 10, 50), jnp.float32)
    found = diagnostics.diagnose(lambda p: 0.5 * jnp.sum(h * p["w"] ** 2), {"w": X0, "n": 3})
    assert found.trace == pytest.approx(float(h.sum()), rel=1e-2)
    # The mean of 8 squares: a relative standard deviation of 1/2, and of the root of 1/4.
    assert found.slope == pytest.approx(float(jnp.linalg.norm(h * X0)), rel=0.75)
    assert found.learning_rate <= 1.01 / found.trace and not found.remarks
    assert "learning rate" in str(found)


def test_a_curvature_along_the_gradient_alone_is_seen():
    v = jnp.ones(64) / 8
    found = diagnostics.diagnose(lambda x: 5 * (x @ v) ** 2, jnp.ones(64), num_directions=32)
    assert found.curvature == pytest.approx(10, rel=0.75)
    assert found.learning_rate < 1 / (10 + 5) and found.num_directions <= 4


def test_losses_that_cannot_be_differenced_are_told():
    constant = diagnostics.diagnose(lambda x: jnp.float32(3.0) + 0 * x[0], X0)
    assert "does not depend on these parameters" in constant.remarks[0]
    steps = diagnostics.diagnose(lambda x: jnp.round(10 * jnp.sum(jnp.cos(x))) / 10, X0)
    assert any("step-like" in remark for remark in steps.remarks) and steps.mu > 1e-3
    holes = diagnostics.diagnose(lambda x: jnp.where(jnp.max(x) > 2, jnp.nan, sphere(x)), X0)
    assert any("not finite" in remark for remark in holes.remarks) and holes.mu < 2
    for bad in ({"num_directions": 1}, {"radii": (1.0, 0.1, 2.0)}):
        with pytest.raises(ValueError, match="2 directions and 3 increasing radii"):
            diagnostics.diagnose(sphere, X0, **bad)
    message = "the loss at params is nan; look at it where it is finite"
    with pytest.raises(ValueError, match=message):
        diagnostics.diagnose(sphere, jnp.nan * X0)


def test_of_equal_errors_the_largest_radius_is_taken():
    mu, errors = np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.05, 2.0])
    assert Sweep(mu, 0.0, np.zeros((3, 2, 2)), 0.0, errors).best == 1


def test_a_loss_that_is_looked_at_again_is_not_traced_again():
    traces = []

    def loss(x):
        traces.append(x)
        return sphere(x)

    first = diagnostics.diagnose(loss, X0)
    count = len(traces)
    again = diagnostics.diagnose(loss, X0, key=1)
    assert diagnostics.choose_mu(loss, X0) == first.mu
    assert len(traces) == count and again.slope != first.slope


def test_a_report_has_the_theory_of_signs():
    d, n, repeats = 30, 5, 400
    row, one = diagnostics.gradient_report(
        lambda p: p["b"] @ p["w"] + 0.0 * p["n"],
        {"w": jnp.ones(d), "b": jnp.zeros(d), "n": 3},
        {"five": zojax.estimator(num_directions=n), "one": zojax.estimator()},
        repeats=repeats,
    ).rows
    assert (row.evaluations, one.evaluations) == (2 * n, 2)
    assert abs(row.length - 1) < 5 * row.length_error
    # Var = (2d - 1) |g|^2 / n in all 2d coordinates. Its standard deviation over estimates is below itself.
    assert row.variance == pytest.approx((2 * d - 1) / n, rel=5 / np.sqrt(repeats))
    assert row.cosine > one.cosine + 5 * (row.cosine_error + one.cosine_error)
    with pytest.raises(ValueError, match="repeats must be at least 2"):
        diagnostics.gradient_report(sphere, X0, {}, repeats=3)


def test_pictures_have_what_they_show():
    pytest.importorskip("matplotlib").use("agg")
    found = diagnostics.diagnose(sphere, X0)
    texts = {text.get_text() for text in found.plot().get_legend().get_texts()}
    assert texts == {"slope", "its error"}
    report = diagnostics.gradient_report(sphere, X0, {"signs": zojax.estimator()}, repeats=3)
    assert report.plot().get_yticklabels()[0].get_text() == "signs, 2"
