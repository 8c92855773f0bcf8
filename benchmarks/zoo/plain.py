"""Layers that are written in JAX itself: experts, quantised and masked weights, parameters in one array."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from benchmarks.models import Model
from benchmarks.zoo.data import distance, normal

EXPERTS, WIDTH, HIDDEN = 8, 128, 256


def _params():
    return {
        "router": normal(WIDTH, EXPERTS) / WIDTH**0.5,
        "up": normal(EXPERTS, WIDTH, HIDDEN, seed=1) / WIDTH**0.5,
        "down": normal(EXPERTS, HIDDEN, WIDTH, seed=2) / HIDDEN**0.5,
    }


def ragged() -> Model:
    """Sorted tokens and lax.ragged_dot, as in MaxText and Mixtral."""

    def loss(params, x):
        gates = jax.nn.softmax(x @ params["router"])
        best = jnp.argmax(gates, axis=-1)
        order, sizes = jnp.argsort(best), jnp.bincount(best, length=EXPERTS)
        y = jax.nn.gelu(lax.ragged_dot(x[order], params["up"], sizes))
        y = lax.ragged_dot(y, params["down"], sizes)
        return distance(y * jnp.max(gates, axis=-1)[order, None])

    return Model(loss, _params(), {"x": normal(64, WIDTH)})


def switch() -> Model:
    """Dispatch and combine by one-hot products, as in Switch transformers."""

    def loss(params, x):
        gates = jax.nn.softmax(x @ params["router"])
        chosen = jax.nn.one_hot(jnp.argmax(gates, axis=-1), EXPERTS)
        place = jnp.cumsum(chosen, axis=0) * chosen - 1
        slots = chosen[..., None] * jax.nn.one_hot(jnp.max(place, axis=-1), 16)[:, None]
        y = jnp.einsum("tec,td->ecd", slots, x)
        y = jnp.einsum("ecf,efd->ecd", jax.nn.gelu(y @ params["up"]), params["down"])
        return distance(
            jnp.einsum("tec,ecd->td", slots, y) * jnp.max(gates, axis=-1, keepdims=True)
        )

    return Model(loss, _params(), {"x": normal(64, WIDTH)})


def hash_routed() -> Model:
    """ragged_dot with a fixed route: tokens and group sizes do not depend on parameters."""
    weights, sizes = _params(), jnp.array([4, 12, 8, 8, 0, 16, 9, 7])

    def loss(params, x):
        y = jax.nn.gelu(lax.ragged_dot(x, params["up"], sizes))
        return distance(lax.ragged_dot(y, params["down"], sizes))

    return Model(loss, {k: weights[k] for k in ("up", "down")}, {"x": normal(64, WIDTH)})


def int8() -> Model:
    """Integer weights with perturbed scales of their columns, as in W8A16 inference."""
    quantised = jnp.round(40 * normal(2, 256, 256)).astype(jnp.int8)

    def loss(params, x):
        for weight, scale in zip(quantised, params["scales"], strict=True):
            x = jnp.tanh(x @ (weight.astype(x.dtype) * scale))
        return distance(x)

    return Model(loss, {"scales": jnp.full((2, 256), 2e-3)}, {"x": normal(32, 256)})


def masked() -> Model:
    """A causal mixing matrix under tril, a sparse weight under where."""
    params = {"mix": normal(32, 32) / 6, "dense": normal(256, 256, seed=1) / 16}
    kept = normal(256, 256, seed=2) > 0

    def loss(params, x):
        y = jnp.tril(params["mix"]) @ x
        return distance(y @ jnp.where(kept, params["dense"], 0))

    return Model(loss, params, {"x": normal(4, 32, 256)})


def fused_qkv() -> Model:
    """Queries, keys and values by one product with three concatenated weights."""
    params = {name: normal(256, 256, seed=i) / 16 for i, name in enumerate("qkvo")}

    def loss(params, x):
        fused = x @ jnp.concatenate([params[name] for name in "qkv"], axis=1)
        q, k, v = (y.reshape(*x.shape[:2], 8, 32) for y in jnp.split(fused, 3, axis=-1))
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        return distance(y.reshape(x.shape) @ params["o"])

    return Model(loss, params, {"x": normal(2, 32, 256)})


def _dense(params, x):
    for weight in params[:-1]:
        x = jnp.tanh(x @ weight)
    return distance(x @ params[-1])


def flat_vector() -> Model:
    """All weights in one vector, unravelled in the loss."""
    flat, unravel = ravel_pytree(list(normal(3, 256, 256) / 16))
    return Model(lambda params, x: _dense(unravel(params), x), flat, {"x": normal(32, 256)})


def sliced() -> Model:
    """Layers by static slices of one array (3, 256, 256)."""
    return Model(
        lambda params, x: _dense([params[0], params[1], params[2]], x),
        normal(3, 256, 256) / 16,
        {"x": normal(32, 256)},
    )
