"""A user's program, which `mypy --strict` checks against zojax's types."""

from typing import NamedTuple, assert_type

import jax
import jax.numpy as jnp
import optax

import zojax
from zojax import directions, search, shaping, stencils, trajectory


class Params(NamedTuple):
    w: jax.Array
    b: jax.Array


def loss(params: Params, x: jax.Array, scale: float = 1.0) -> jax.Array:
    return scale * jnp.mean((x @ params.w + params.b) ** 2)


def loss_and_errors(params: Params, x: jax.Array) -> tuple[jax.Array, dict[str, int]]:
    return loss(params, x), {"errors": 0}


def train(path: str, x: jax.Array) -> Params:
    params = Params(jnp.ones((3, 1)), jnp.zeros(1))
    estimator = zojax.estimator(
        directions.low_rank(1), stencils.central(), shaping.none(), mu=1e-2, num_directions=4
    )
    value, grads = zojax.value_and_grad(loss, estimator)(jax.random.key(0), params, x, scale=2.0)
    assert_type(value, jax.Array)
    (_, errors), _ = zojax.value_and_grad(loss_and_errors, has_aux=True)(1, params, x)
    assert_type(errors, dict[str, int])
    tx = zojax.zeroth_order(optax.adam(1e-3), estimator, key=0)
    state = tx.init(grads)
    with trajectory.Recorder(path, tx, params) as recorder:
        updates, state = tx.update(None, state, params, value_fn=loss, x=x)
        params = zojax.apply_updates(params, updates)
        recorder.append(state, params)
    assert_type(state, zojax.ZerothOrderState)
    result = zojax.minimize(lambda p: loss(p, x), params, zojax.mezo(1e-2), num_steps=10)
    print(result.best_value + 1, zojax.verdict(result.state), grads)
    found = search.minimize(lambda p: float(p["a"]), {"a": search.uniform(0, 1)}, budget=10, key=0)
    print(found.best_value + 1)
    several = search.minimize(
        lambda p: (p, -p), search.uniform(0, 1), objectives=2, budget=9, key=0
    )
    assert_type(several.front, search.Front)
    assert_type(several.hypervolume([2, 0]), float)
    tuner = search.ask_tell(search.uniform(0, 1), budget=9, key=0)
    candidate, asked = tuner.ask(tuner.init())
    print(tuner.best(tuner.tell(asked, candidate, 1.0)))
    return params
