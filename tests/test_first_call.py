"""The size of the programs of a first call, by the compiler: it is most of the time of a first call."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from zojax import directions
from zojax._minimize.device import _steps

PARAMS = {"w": jnp.linspace(-1, 1, 3), "b": jnp.zeros(())}


def loss(params):
    return jnp.mean((jnp.arange(12.0).reshape(4, 3) @ params["w"] + params["b"]) ** 2)


def estimate(**choices):
    return zojax.value_and_grad(loss, zojax.estimator(**choices)), (jax.random.key(0), PARAMS)


def mezo_step(num_directions=1):
    tx = zojax.mezo(num_directions=num_directions)

    def step(params, state):
        updates, state = tx.update(None, state, params, value_fn=loss)
        return optax.apply_updates(params, updates), state

    return step, (PARAMS, tx.init(PARAMS))


@pytest.mark.parametrize(
    ("make", "instructions", "kernels"),
    [
        (estimate, 800, 8),
        (lambda: estimate(num_directions=8), 750, 12),
        (lambda: estimate(num_directions=8, direction=directions.low_rank()), 1100, 14),
        (mezo_step, 1250, 10),
        (lambda: mezo_step(8), 1250, 12),
    ],
    ids=["one direction", "eight", "eight of low rank", "mezo", "mezo of eight"],
)
def test_a_small_program_has_few_instructions_and_kernels(make, instructions, kernels):
    fun, arguments = make()
    text = jax.jit(fun).lower(*arguments).compile().as_text()
    assert text.count(" = ") <= instructions
    assert text[text.index("ENTRY") :].count("kind=k") <= kernels


def test_a_run_compiles_one_program(caplog):
    params = jnp.linspace(-1, 1, 13)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        zojax.minimize(lambda x: jnp.sum(x**2), params, zojax.mezo(1e-2), 5)
    compiled = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")]
    assert [text.split()[1] for text in compiled] == ["jit(run)"]


def test_chunks_of_one_step_are_no_loop():
    tx = zojax.mezo(1e-2)

    def run(params, state, rows):
        return _steps(loss, tx.update, params, state, None, rows, np.int32(1), -np.inf, ())

    def loops(length):
        traced = jax.make_jaxpr(run)(PARAMS, tx.init(PARAMS), np.zeros((length, 2), np.float32))
        return [eqn.primitive.name for eqn in traced.eqns].count("while")

    assert (loops(1), loops(2)) == (0, 1)
