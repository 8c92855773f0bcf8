"""A search of few evaluations of a traceable function: only the function is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.search.engine._helpers import compiled, run
from zojax import search

MIXED = {
    "x": search.uniform(-1, 1, (2,)),
    "rate": search.log_uniform(1e-3, 1),
    "width": search.integers(1, 9),
    "kind": search.choice([1.0, 2.0, 3.0]),
    "level": search.ordered([0.1, 0.2, 0.5]),
}


def loss(p):
    near = jnp.sum((p["x"] - 0.3) ** 2) + jnp.log(p["rate"]) ** 2
    return near + (p["width"] - 3) ** 2 + p["kind"] * p["level"]


@pytest.mark.parametrize("algorithm", [search.coordinate_reset(), search.random_search(3)])
def test_the_points_are_those_of_the_compiled_search(algorithm):
    corner = search.space(MIXED).point(search.space(MIXED).low)
    options = {"budget": 40, "algorithm": algorithm, "init_points": [corner], "maximize": True}
    few, whole = (run(loss, MIXED, jit=jit, **options) for jit in (None, True))
    np.testing.assert_allclose(few.history.values, whole.history.values, rtol=1e-4)
    for a, b in zip(*(jax.tree.leaves(r.history.points) for r in (few, whole)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
    assert few.best_value == pytest.approx(whole.best_value, rel=1e-4)


def test_spaces_and_budgets_share_the_program_of_the_function(caplog):
    def fun(p):
        return loss(p)

    def sweep():
        for high, budget in [(1, 20), (2, 20), (2, 21), (3, 40)]:
            run(fun, MIXED | {"x": search.uniform(-1, high, (2,))}, budget=budget)

    assert len(compiled(caplog, sweep)) == 1


def test_keys_are_those_of_the_compiled_search():
    def noisy(x, key):
        return jnp.sum(x**2) + jax.random.normal(key)

    options = {"space": search.uniform(-1, 1, (2,)), "with_key": True, "repeats": 2}
    few, whole = (run(noisy, jit=jit, **options) for jit in (None, True))
    np.testing.assert_allclose(few.run_values, whole.run_values, rtol=1e-5)


@pytest.mark.parametrize("repeats, budget", [(1, 1001), (2, 501)])
def test_more_evaluations_compile_the_search(repeats, budget):
    seen, box, algorithm = [], search.uniform(-1, 1, (2,)), search.random_search(100)
    options = {"budget": budget, "repeats": repeats, "callback": seen.append}
    run(lambda x: jnp.sum(x**2), box, algorithm, **options)
    assert len(seen) < 20  # the callback of a search on the host sees each evaluation


def test_arrays_of_args_are_traced(caplog):
    def fun(x, scale):
        return jnp.sum(scale * x**2)

    def twice():
        for scale in (1.0, 2.0):
            result = run(fun, search.uniform(-1, 1), args=(jnp.asarray(scale),), budget=20)
            assert result.best_value == pytest.approx(scale * result.best**2, rel=1e-5)

    assert len(compiled(caplog, twice)) <= 2  # of the function, and of a conversion
