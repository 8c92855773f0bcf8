"""Hostile arguments of everything public: an error is a ValueError or TypeError that names its argument."""

import numpy as np
import pytest

import zojax
from benchmarks.reliability import arguments

PUBLIC = arguments.calls()
# Valid calls of the others compile; `python -m benchmarks reliability` makes them all.
CHEAP = [
    name
    for name in PUBLIC
    if name.split(".")[0] in ("directions", "shaping", "stencils", "trajectory", "search")
    and name != "search.minimize"
]


@pytest.mark.parametrize("name", CHEAP)
def test_errors_of_a_factory_name_the_argument(name):
    function, valid, _ = PUBLIC[name]
    for _, argument, hostile in arguments.cases({name: PUBLIC[name]}):
        given = valid | {argument: arguments.HOSTILE[hostile]}
        error = arguments.error_of(lambda given=given: function(**given))
        assert error is None or arguments.is_named(error, argument), (argument, hostile, error)


@pytest.mark.parametrize(
    ("name", "argument", "hostile"),
    [
        ("estimator", "num_directions", "2**70"),
        ("estimator", "with_key", "text"),
        ("value_and_grad", "argnums", "text"),
        ("value_and_grad", "argnums", "-0.5"),
        ("value_and_grad", "has_aux", "array"),
        ("value_and_grad", "reduce_aux", "object"),
        ("minimize", "num_steps", "2**70"),
        ("minimize", "jit", "array"),
        ("minimize", "progress", "text"),
        ("mezo", "learning_rate", "2**70"),
        ("minimize", "keep_best", "array"),
        ("zo_sgd", "momentum", "list"),
        ("zo_sgd", "nesterov", "text"),
        ("attacks.square", "y", "list"),
        ("attacks.square", "layout", "array"),
        ("zeroth_order", "inner", "dict"),
        ("spsa", "alpha", "type"),
        ("attacks.square", "jit", "text"),
        ("attacks.smoothed", "label_fn", "object"),
    ],
)
def test_errors_of_a_use_name_the_argument(name, argument, hostile):
    function, valid, use = PUBLIC[name]
    given = valid | {argument: arguments.HOSTILE[hostile]}
    error = arguments.error_of(lambda: use(function(**given)))
    assert error is not None and arguments.is_named(error, argument), error


@pytest.mark.parametrize("argnums", [(0, 1), [0, 1], range(2), np.arange(2)])
def test_argnums_may_be_any_sequence_of_ints(argnums):
    grads = zojax.grad(lambda a, b: a * b, argnums=argnums)(0, 1.0, 2.0)
    assert len(grads) == 2


def test_a_message_names_an_argument_as_a_word():
    assert arguments.is_named(ValueError("p must be positive"), "p")
    assert not arguments.is_named(ValueError("parity must be a bool"), "p")
    assert not arguments.is_named(IndexError("p is out of range"), "p")
