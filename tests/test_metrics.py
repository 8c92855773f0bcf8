"""Metrics in the state: their definitions, and that the step's program does not change."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.interpreters import partial_eval

import zojax


def loss(x):
    return jnp.where(x[0] > 1.05, jnp.nan, jnp.sum(jnp.round(x[:2])) + x[2] ** 2)


N, X = 4, jnp.array([1.0, 0.2, 3.0])
ESTIMATOR = zojax.estimator(mu=0.1, num_directions=N)


def test_metrics_are_what_they_say():
    tx = zojax.with_metrics(zojax.zeroth_order(optax.sgd(0.1), ESTIMATOR, key=5))
    state, before = tx.init(X), None
    assert all(np.isnan(x) for x in (state.metrics.c_norm, state.metrics.alignment))
    for count in range(3):
        key = jax.random.fold_in(state.rng_key, count)
        found = ESTIMATOR.estimate(key, loss, X)
        _, state = tx.update(None, state, X, value_fn=loss)
        c = np.nan_to_num(np.asarray(found.coefficients, np.float64))
        metrics = state.metrics
        np.testing.assert_allclose(metrics.c_norm, np.linalg.norm(c), rtol=1e-6)
        assert int(metrics.nonfinite) == N - int(found.used)
        assert int(metrics.flat) == int(found.flat)
        if c.any():
            np.testing.assert_allclose(
                metrics.effective, (c**2).sum() ** 2 / (c**4).sum(), rtol=1e-5
            )
        grads = np.asarray(found.grads, np.float64)
        if before is not None and grads.any() and before.any():
            cosine = grads @ before / np.linalg.norm(grads) / np.linalg.norm(before)
            np.testing.assert_allclose(metrics.alignment, cosine, rtol=1e-4)
        else:
            assert np.isnan(metrics.alignment)
        before = grads


def dense(x):
    return jnp.sum(x**2)


@pytest.mark.parametrize("make", [zojax.mezo, zojax.zo_adam], ids=lambda make: make.__name__)
def test_off_the_program_is_that_without_metrics(make):
    """The program with metrics, without its metrics, is the program of the bare optimizer."""
    bare = make(0.1)
    tx, state = zojax.with_metrics(bare), bare.init(X)
    assert (
        state.metrics == () and len(jax.tree.leaves(tx.init(X))) == len(jax.tree.leaves(state)) + 5
    )

    def step(tx, state):
        updates, state = tx.update(None, state, X, value_fn=dense)
        return updates, state._replace(metrics=())

    plain, more = (jax.make_jaxpr(lambda s, tx=tx: step(tx, s))(state).jaxpr for tx in (bare, tx))
    kept, used = partial_eval.dce_jaxpr(more, [True] * len(more.outvars), instantiate=True)
    expected, _ = partial_eval.dce_jaxpr(plain, [True] * len(plain.outvars), instantiate=True)
    assert str(kept) == str(expected)
    assert len(more.eqns) > len(plain.eqns)


def test_an_adaptive_direction_has_no_alignment_and_chains_are_refused():
    tx = zojax.with_metrics(zojax.conmezo(0.1))
    state = tx.init(X)
    for _ in range(2):
        _, state = tx.update(None, state, X, value_fn=dense)
    assert np.isnan(state.metrics.alignment) and state.metrics.c_norm > 0
    with pytest.raises(TypeError, match="wrap the part of a chain that estimates"):
        zojax.with_metrics(optax.chain(zojax.mezo(0.1)))
