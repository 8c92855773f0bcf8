"""Warnings point to the line of the user's that caused them."""

import jax.numpy as jnp
import pytest

import zojax
from zojax import executors, search


def stuck():
    zojax.minimize(lambda x: jnp.round(x).sum() * 0, jnp.ones(3), zojax.mezo(0.1), 20)


def failing_search():
    search.minimize(
        lambda x: 1 / 0, search.uniform(0, 1), budget=3, key=0, jit=False, catch=(ArithmeticError,)
    )


def closure_in_a_loop():
    for _ in range(3):
        zojax.minimize(lambda x: x**2, jnp.array(1.0), zojax.mezo(0.1), 2)


def failing_evaluations():
    executors.evaluate(lambda x: 1 / 0, [1, 2], catch=(ArithmeticError,))


@pytest.mark.parametrize("cause", [stuck, failing_search, closure_in_a_loop, failing_evaluations])
def test_a_warning_points_to_the_line_of_its_cause(cause):
    with pytest.warns(UserWarning) as caught:
        cause()
    lines = range(cause.__code__.co_firstlineno, cause.__code__.co_firstlineno + 4)
    assert [(w.filename, w.lineno in lines) for w in caught] == [(__file__, True)] * len(caught)
