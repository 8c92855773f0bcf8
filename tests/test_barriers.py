import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import _barriers, implicit, noise

pytestmark = pytest.mark.optimized


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_rounded_product_is_not_contracted_with_the_sum_that_it_enters(dtype):
    a, b, c = (jnp.asarray(jax.random.normal(jax.random.key(i), (4096,)), dtype) for i in range(3))
    product = jax.jit(jnp.multiply)(a, b)
    apart = jax.jit(jnp.add)(product, c)
    together = jax.jit(lambda a, b, c: _barriers.rounded(a * b, c[0]) + c)(a, b, c)
    np.testing.assert_array_equal(np.asarray(together), np.asarray(apart))


def test_nothing_waits_for_an_empty_array():
    x = jnp.ones(3)
    np.testing.assert_array_equal(jax.jit(_barriers.waiting)(x, jnp.zeros((0, 3))), x)


def test_settled_and_rounded_numbers_are_the_same_and_have_the_derivative_of_one():
    x = jnp.array([1.5, jnp.nan, -0.0])
    np.testing.assert_array_equal(jax.jit(_barriers.settle)(x), x)
    np.testing.assert_array_equal(_barriers.rounded(x, 0.0), x)
    both = jax.grad(lambda x: _barriers.settle(x)[0] + _barriers.rounded(x, 1.0)[0])
    np.testing.assert_array_equal(both(x), [2.0, 0.0, 0.0])


def test_what_is_computed_once_has_the_values_and_derivatives_of_the_function():
    def fun(x, scale):
        return {"sum": jnp.sum(x) * scale, "count": jnp.sum(jnp.isfinite(x))}

    x, scale = jnp.array([[1.5, -0.0], [jnp.nan, jnp.inf]]), jnp.float32(2)

    def once(x):
        return _barriers.once(fun, x, scale)

    found = jax.jit(jax.vmap(once))(x)
    np.testing.assert_array_equal(found["sum"], [3.0, np.nan])
    np.testing.assert_array_equal(found["count"], [2, 0])
    np.testing.assert_array_equal(jax.grad(lambda x: once(x)["sum"])(x[0]), [2.0, 2.0])


def test_the_zero_of_a_point_is_a_constant_on_one_tpu():
    """There points are written out, and XLA holds no lookup through a loop."""
    traced = jax.jit(_barriers.zero_of_point).trace(jnp.float32(0.1))
    for platform, is_constant in (("cpu", False), ("tpu", True)):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        (result,) = re.findall(r"return (%\w+)", program)
        assert (f"{result} = stablehlo.constant dense<0>" in program) == is_constant


def test_a_lookup_belongs_to_its_point():
    def fun(table, scale):
        z = noise.LowRankNoise(jnp.ones((1, 8)), jnp.ones((1, 4)))
        return implicit.evaluate(lambda w: w[jnp.array([3, 1])], table, z, scale)

    assert "no_zero" in str(jax.make_jaxpr(fun)(jnp.ones((8, 4)), jnp.float32(0.1)))
