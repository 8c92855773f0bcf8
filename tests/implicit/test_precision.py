"""Numbers: float64 to its own precision, bfloat16 nearer to the truth than materialising."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests._numpy import by_numpy
from tests.implicit._helpers import close, dense, materialised, noises, normal
from tests.implicit._models import MODELS
from tests.implicit.test_models import draw, implicit_and_reference, reference
from zojax.implicit import evaluate

X = normal(5, (6, 32))
IMAGES = normal(6, (2, 6, 6, 8))

MASK = np.asarray(normal(7, (32, 24)) > 0)


def grouped(s):
    """Integer weights times scales of groups of eight rows."""
    integers = jnp.asarray(np.arange(32 * 24).reshape(4, 8, 24) % 15 - 7)
    return (integers.astype(s.dtype) * s[:, None]).reshape(32, 24)


PRODUCTS = {
    "dot_general": (lambda w: _f32_dot(w, X), (32, 24), 1),
    "dot_general transposed": (lambda w: _f32_dot(w.T, X), (24, 32), 1),
    "conv_general_dilated": (lambda w: _f32_conv(w), (3, 3, 8, 16), 3),
    "conv_general_dilated spatial cut": (lambda w: _f32_conv(w), (3, 3, 8, 16), 2),
    "conv_general_dilated depthwise": (lambda w: _f32_conv(w), (3, 3, 1, 16), 3),
    "columns": (lambda w: _f32_dot(w * jnp.arange(1, 25, dtype=w.dtype), X), (32, 24), 1),
    "mask": (lambda w: _f32_dot(jnp.tril(w) * MASK, X), (32, 24), 1),
    "concatenate": (lambda w: _f32_dot(jnp.concatenate([w[:8], w[16:], w[4:12]]), X), (32, 24), 1),
    "set": (lambda w: _f32_dot(w.at[1:3, :4].set(0), X), (32, 24), 1),
    "ragged_dot": (lambda w: _f32_ragged(w), (3, 32, 24), 2),
}
OTHERS = {
    "groups": (lambda s: X @ grouped(s), (4, 24), 1),
    "weight norm": (lambda w: X @ (w / jnp.linalg.norm(w, axis=0)), (32, 24), 1),
    "standardised": (lambda w: X @ ((w - jnp.mean(w, 0)) / jnp.std(w, 0)), (32, 24), 1),
    "adapter": (lambda w: X @ (jnp.eye(32) + w @ w.T), (32, 24), 1),
}


def _f32_dot(w, x):
    return jnp.matmul(x.astype(w.dtype), w, preferred_element_type=_wide(w))


def _f32_conv(w):
    spec = ("NHWC", "HWIO", "NHWC")
    images = IMAGES.astype(w.dtype)
    options = {"feature_group_count": 8 // w.shape[2], "preferred_element_type": _wide(w)}
    return lax.conv_general_dilated(images, w, (1, 1), "SAME", dimension_numbers=spec, **options)


def _f32_ragged(w):
    x, sizes = X.astype(w.dtype), jnp.array([2, 3, 1])
    return lax.ragged_dot(x, w, sizes, preferred_element_type=_wide(w))


def _wide(w):
    return jnp.promote_types(w.dtype, jnp.float32)


@pytest.mark.parametrize("name", ["llama"])
def test_float64(name):
    with jax.enable_x64(True):
        loss, params = MODELS[name]()
        params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
        close(*by_numpy(partial(implicit_and_reference, loss))(params, 0.05), 1e-12)


@pytest.mark.parametrize("name", [*PRODUCTS, *OTHERS])
def test_float64_products(name):
    fun, shape, cut = (PRODUCTS | OTHERS)[name]
    with jax.enable_x64(True):
        w = normal(1, shape, jnp.float64)
        drawn = [noises(shape, cut, rank)["low_rank"] for rank in (1, 2, 12)]
        assert all(z.left.dtype == jnp.float32 for z in drawn)
        implicit = by_numpy(lambda w: [evaluate(fun, w, z, 0.1) for z in drawn])(w)
        close(implicit, [fun(materialised(w, z, 0.1)) for z in drawn], 1e-12)


@pytest.mark.parametrize("mu", [1e-2, 1e-4])
@pytest.mark.parametrize("name", PRODUCTS)
def test_bfloat16_products_keep_small_perturbations(name, mu):
    """The change of the product is right to a few per cent; rounding destroys it."""
    fun, shape, cut = PRODUCTS[name]
    w = normal(1, shape, jnp.bfloat16) * 0.02
    z = noises(shape, cut, 2)["low_rank"]
    with jax.enable_x64(True):
        # The operands are exact in float64: products of bfloat16 numbers have 16 bits.
        exact = lambda scale: fun_of(fun, w.astype(jnp.float64) + scale * dense(z, jnp.float64))  # noqa: E731
        truth = np.asarray(exact(mu) - exact(0.0))
    change = evaluate(fun, w, z, mu) - fun(w)
    rounded = fun(materialised(w, z, mu)) - fun(w)
    error, baseline = (np.linalg.norm(np.asarray(a) - truth) for a in (change, rounded))
    assert error < 0.05 * np.linalg.norm(truth)
    assert error < baseline / 2


def fun_of(fun, w):
    """The product of a float64 w with the bfloat16 inputs."""
    rounded = [a.astype(jnp.bfloat16).astype(jnp.float64) for a in (X, IMAGES)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "X", rounded[0])
        patch.setitem(globals(), "IMAGES", rounded[1])
        return fun(w)


@pytest.mark.slow  # three programs of a whole model; the products above are the main case
def test_bfloat16_slope_of_a_model_is_nearer_to_the_truth():
    """Central differences at mu = 1e-3 over 8 directions against exact slopes in float64."""
    loss, params = MODELS["llama"]()
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    mu = jnp.float32(1e-3)

    def slopes(slope, params):
        """Direction k has its factors rolled by k."""

        def rolled(k):
            roll = lambda f: jnp.roll(f, k, -1) if jnp.ndim(f) > 1 else f  # noqa: E731
            return jax.tree.map(roll, draw(params, "low_rank"))

        return jax.jit(lambda: lax.map(lambda k: slope(params, rolled(k)), jnp.arange(8)))()

    def central(at):
        wide = lambda p: loss(p).astype(jnp.float32)  # noqa: E731

        def slope(p, z):
            ahead, behind = lax.map(lambda s: at(wide, p, z, s), jnp.stack([mu, -mu]))
            return (ahead - behind) / (2 * mu)

        return slope

    implicit, rounded = slopes(central(evaluate), params), slopes(central(reference), params)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda p: p.astype(jnp.float64), params)
        truth = slopes(lambda p, z: jax.grad(lambda s: reference(loss, p, z, s))(0.0), exact)
    error, baseline = (np.linalg.norm(np.asarray(s) - truth) for s in (implicit, rounded))
    assert error < baseline, (error, baseline)
