"""Verdicts on hand-written loops, from the state alone."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax

TX = zojax.zo_sgd(0.1, zojax.estimator(num_directions=2, mu=0.1))


def told(values):
    """The state after steps with these tables of values, each of shape (2, 2) or one number for all."""
    params = jnp.ones(3)
    state = TX.init(params)
    for table in values:
        table = np.broadcast_to(np.asarray(table, np.float32), (2, 2)).ravel()
        _, state = TX.update(None, state, params, values=jnp.asarray(table))
    return state


UP, DOWN = [1.0, 2.0], [2.0, 1.0]
VERDICTS = {
    "no step": ([], ""),
    "nothing": ([[2.0, 3.0], UP, UP], ""),
    "noise": ([[1.0, 1.5], [-3.0, 4.0], [0.5, 0.1], [2.0, 3.5]], ""),
    "nan": (
        [np.nan, [1.0, np.inf]],
        r"every evaluation was NaN or infinite \(4 directions in 2 steps\): evaluate",
    ),
    "diverged": (
        [UP, [60.0, 50.0]],
        r"diverged: the value rose from 1.5 to 55 \(least 1.5\): lower",
    ),
    "negative": ([[-3.0, -1.0], [10.0, 20.0]], "diverged: the value rose from -2 to 15"),
    "ended in nan": ([UP, [0.5, 0.0], np.nan], "diverged: the last step has no.* 1.5, least 0.25"),
    "left out": (
        [np.nan, np.nan, np.nan, [[1.0, 2.0], [2.0, np.nan]]],
        "88 % of directions were left out",
    ),
    "flat": ([1.0, 1.0, 1.0, UP], "75 % of differences are zero: raise mu, or subtract a constant"),
    "constant": ([3.0, 3.0], "100 % of .* are zero: raise mu, subtract .*check that it depends"),
    "unresolved": (
        [[1e4, 1e4 + 2**-10], [1e4, 1e4 + 2**-9], [1e4, 2e4]],
        "67 % of differences are below the resolution of the values: raise mu",
    ),
    "converged": ([[9.0, 8.0], 1.0, 1.0], "67 % .* zero: the values resolve no further progress"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_verdicts(case):
    values, expected = VERDICTS[case]
    found = zojax.verdict(told(values))
    if expected:
        assert re.search(expected, found), found
    else:
        assert found == ""


def test_a_verdict_under_a_chain_and_in_a_compiled_loop():
    tx = optax.chain(zojax.zeroth_order(estimator=zojax.estimator(mu=1e-9)), optax.sgd(0.1))

    @jax.jit
    def run(params, state):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(None, state, params, value_fn=lambda x: jnp.sum(x**2))
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), length=4)[0]

    _, state = run(jnp.ones(3), tx.init(jnp.ones(3)))
    assert zojax.verdict(state).startswith("100 % of differences are zero")


def test_clipped_gradients_are_named():
    params = jnp.ones(3, jnp.float16)
    loss = lambda x: 1e6 * x[0].astype(jnp.float32)  # noqa: E731
    for inner_dtype, clipped in ((None, 3), (jnp.float32, 0)):
        tx = zojax.zeroth_order(optax.sgd(1e-9), zojax.estimator(mu=0.5), inner_dtype=inner_dtype)
        _, state = tx.update(None, tx.init(params), params, value_fn=loss)
        assert int(state.estimator_state.clipped) == clipped
        said = "3 entries of gradients were clipped to the range of their dtype: pass inner_dtype="
        assert zojax.verdict(state).startswith(said) if clipped else not zojax.verdict(state)


def test_states_that_have_no_verdict_are_refused():
    state = told([UP])
    with pytest.raises(TypeError, match="exactly one zojax.zeroth_order, found 0"):
        zojax.verdict(optax.sgd(0.1).init(jnp.ones(2)))
    with pytest.raises(ValueError, match=r"verdict is of one run, but the state is of \(2,\)"):
        zojax.verdict(jax.tree.map(lambda x: jnp.stack([x, x]), state))
    with pytest.raises(TypeError, match="verdict reads numbers: call it with the state"):
        jax.jit(lambda state: (zojax.verdict(state), 0)[1])(state)
