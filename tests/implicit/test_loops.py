"""Weights that a loop reads in each iteration: held, or perturbed again in each iteration."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import zojax
from tests.implicit._helpers import close, materialised, noises, normal
from zojax import directions
from zojax.implicit import _program, evaluate, explain

WIDTH, EXAMPLES = 128, 8
WEIGHT = 4 * WIDTH**2
SHAPES = {k: jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32) for k in "abc"}


def rnn(p, x):
    def step(h, _):
        return jnp.tanh(h @ p["a"] + jnp.tanh(h @ p["b"]) @ p["c"]), None

    return lax.scan(step, x, None, 3)[0]


def fixed_point(p, x):
    """The condition reads weights too."""

    def goes_on(carry):
        return (carry[0] < 3) & (jnp.sum(carry[1] @ p["b"]) < 100)

    return lax.while_loop(goes_on, lambda c: (c[0] + 1, jnp.tanh(c[1] @ p["a"])), (0, x))[1]


def both_ways(p, x):
    """Two loops over the same input: the second is perturbed after the first."""

    def step(h, _):
        return jnp.tanh(h @ p["a"] + jnp.tanh(h @ p["b"])), None

    def back(h, _):
        return jnp.tanh(h @ p["c"]), None

    return lax.scan(step, x, None, 3)[0] + lax.scan(back, x[::-1], None, 3)[0]


def driven(p, x):
    """Each iteration reads an input of its own, beside its weights."""

    def step(h, x):
        for weight in p.values():
            h = jnp.tanh(h @ weight + x)
        return h, None

    return lax.scan(step, x, jnp.stack([x, 2 * x, 3 * x]))[0]


def layers_of_layers(p, x):
    """A loop inside a loop, and a slice that changes from one iteration to the next."""

    def inner(i, x):
        return jnp.tanh(x @ p["a"] + p["stack"][i])

    return lax.fori_loop(0, 2, lambda _, x: lax.fori_loop(0, 3, inner, x @ p["b"]), x)


@pytest.mark.parametrize("loss", [rnn, fixed_point, layers_of_layers])
def test_both_ways_equal_the_materialised_loss(loss):
    shapes = {"a": (4, 4), "b": (4, 4), "c": (4, 4), "stack": (3, 2, 4)}
    params = {k: normal(i, shape) / 2 for i, (k, shape) in enumerate(shapes.items())}
    x = normal(9, (2, 4))

    @jax.jit
    def both(params, x):
        found, expected = {}, {}
        for kind in ("rows", "low_rank"):
            z = {k: noises(shape, 1, seed=i)[kind] for i, (k, shape) in enumerate(shapes.items())}
            for hold in (True, False):
                found[kind, hold] = evaluate(loss, params, z, 0.3, x, hold_in_loops=hold)
                expected[kind, hold] = loss(materialised(params, z, 0.3), x)
        return list(found.values()), list(expected.values())

    close(*both(params, x), 1e-5)


@pytest.mark.parametrize(
    ("loss", "hold"),
    [
        (rnn, True),
        (rnn, False),
        (fixed_point, True),
        (fixed_point, False),
        (both_ways, True),
        (driven, False),
    ],
)
def test_explain_says_what_a_loop_holds(loss, hold):
    """The compiler holds what explain says, and no copy if it is told so."""
    x = jax.ShapeDtypeStruct((EXAMPLES, WIDTH), jnp.float32)
    direction = directions.rademacher()
    report = explain(loss, SHAPES, direction, x, hold_in_loops=hold)
    read = 3 if loss is rnn else 2
    assert report.held == (read * WEIGHT if hold else 0)
    assert ("HELD over a loop" in str(report)) == ("of which loops hold" in str(report)) == hold

    def evaluation(params, x, key):
        z = direction.draw(direction.frame(key, 1, SHAPES), 0, SHAPES)
        return evaluate(loss, params, z, 1e-3, x, hold_in_loops=hold)

    def temporaries(fun, *args):
        return jax.jit(fun).lower(*args).compile().memory_analysis().temp_size_in_bytes

    forward = temporaries(loss, SHAPES, x)
    key = jax.eval_shape(lambda: jax.random.key(0))
    more = temporaries(evaluation, SHAPES, x, key) - forward
    rows = 2 * read * 4 * WIDTH  # keys of rows
    assert more <= report.together + rows, (more, str(report))
    assert more >= report.held


def test_a_weight_waits_for_the_product_before_it_not_for_an_input_of_the_loop():
    x = jax.ShapeDtypeStruct((EXAMPLES, WIDTH), jnp.float32)
    report = explain(driven, SHAPES, directions.rademacher(), x, hold_in_loops=False)
    assert report.together == WEIGHT, str(report)


def test_a_loop_holds_the_smallest_weights_by_default(monkeypatch):
    params = {"a": jnp.ones((8, 8)), "b": jnp.ones((8, 4)), "c": jnp.ones((4, 8))}
    x = jnp.ones((2, 8))
    assert explain(rnn, params, directions.rademacher(), x).held == 4 * 128
    monkeypatch.setattr(_program, "HELD_BYTES", 4 * 64)
    report = explain(rnn, params, directions.rademacher(), x)
    assert report.held == 4 * 64
    kinds = {k: {e.kind for e in report.leaves[f"params['{k}']"].events} for k in params}
    assert kinds == {"a": {"slice"}, "b": {"held"}, "c": {"held"}}


def test_low_rank_weights_are_never_held():
    x = jnp.ones((2, WIDTH))
    assert explain(rnn, SHAPES, directions.low_rank(), x, hold_in_loops=True).together == 0


def test_an_estimator_passes_the_choice_on():
    params = {k: normal(i, (8, 8)) for i, k in enumerate("abc")}
    x, key = normal(3, (2, 8)), jax.random.key(0)

    def gradients(hold):
        """In a batch, both points of a direction share its noise."""
        source = zojax.estimator(num_directions=2, mu=1e-2, hold_in_loops=hold)
        return lambda p: source.estimate(key, lambda p: jnp.mean(rnn(p, x)), p).grads

    held, made_again = gradients(True), gradients(False)
    assert str(jax.make_jaxpr(held)(params)) != str(jax.make_jaxpr(made_again)(params))
    close(*jax.jit(lambda p: (held(p), made_again(p)))(params), 1e-3)


@pytest.mark.parametrize("call", [evaluate, explain])
def test_other_choices_are_refused(call):
    with pytest.raises(TypeError, match="hold_in_loops must be True or False, got 'always'"):
        args = (0.1,) if call is evaluate else ()
        call(rnn, jnp.ones(3), noises((3,))["rows"], *args, hold_in_loops="always")
    with pytest.raises(TypeError, match="hold_in_loops must be True or False, got 1"):
        zojax.estimator(hold_in_loops=1)
