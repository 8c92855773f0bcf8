"""Agreement with `jax.grad` on models of the common frameworks, as the laws say.

With q rademacher directions, E|ghat - g|^2 = (d - 1)|g|^2 / q, with a relative variance of at most
2/q + 2/(d - 1); and g.ghat = mean_i (g.z_i)^2 is |g|^2 with a relative variance below 2/q.
"""

from functools import cache, partial

import equinox as eqx
import flax.linen as linen
import flax.serialization
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import zojax
from tests._laws import fast
from zojax import directions

FEATURES, CLASSES, WIDTH = 8, 4, 96
X = jax.random.normal(jax.random.key(0), (16, FEATURES))
Y = jnp.arange(16) % CLASSES


def cross_entropy(logits):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, Y))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(CLASSES)(jnp.tanh(linen.Dense(WIDTH)(x)))


def flax_linen():
    model = Linen()
    params = jax.jit(model.init)(jax.random.key(1), X)
    return params, lambda params: cross_entropy(model.apply(params, X))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(FEATURES, WIDTH, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs, deterministic=True)
        self.out = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.out(self.dropout(jnp.tanh(self.hidden(x))))


def flax_nnx():
    # The whole state, with the key and the counter of the dropout among its leaves.
    graph, state = nnx.split(nnx.jit(lambda: Nnx(nnx.Rngs(2)))())
    return state, lambda state: cross_entropy(nnx.merge(graph, state)(X))


def equinox():
    make = eqx.filter_jit(partial(eqx.nn.MLP, FEATURES, CLASSES, WIDTH, 1, jnp.tanh))
    model = make(key=jax.random.key(3))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    return params, lambda params: cross_entropy(jax.vmap(eqx.combine(params, static))(X))


def haiku():
    def network(x):
        images = jnp.tile(x[:, None, :, None], (1, 4, 1, 1))
        x = jnp.tanh(hk.Conv2D(8, 3)(images))
        return hk.Linear(CLASSES)(hk.Flatten()(x))

    model = hk.without_apply_rng(hk.transform(network))
    params = jax.jit(model.init)(jax.random.key(4), X)
    return params, lambda params: cross_entropy(model.apply(params, X))


def optax_tutorial():
    """The network of optax's getting-started page: a dict of weights, rows of inputs, relu."""
    keys = jax.random.split(jax.random.key(5))
    params = {
        "hidden": jax.random.normal(keys[0], (FEATURES, 256)) * 0.3,
        "output": jax.random.normal(keys[1], (256, CLASSES)) * 0.1,
    }

    def net(params, x):
        return jax.nn.relu(x @ params["hidden"]) @ params["output"]

    return params, lambda params: cross_entropy(net(params, X))


# How far, relative to its length, a noiseless estimate may be from the gradient: mu^2 times third
# derivatives and rounding over mu for smooth models, steps across kinks for relu.
MODELS = {
    "flax_linen": (flax_linen, 1e-3),
    "flax_nnx": (flax_nnx, 1e-3),
    "equinox": (equinox, 1e-3),
    "haiku": (haiku, 1e-3),
    "optax_tutorial": (optax_tutorial, 3e-2),
}


@cache
def model(name):
    """Parameters, loss, the exact gradient as a vector, d."""
    params, loss = MODELS[name][0]()
    exact = flat(jax.jit(lambda p: floats(jax.grad(loss, allow_int=True)(p)))(params))
    return params, loss, exact, exact.size


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


def flat(grads):
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in floats(grads)])


def estimates(name, direction, num_directions, keys):
    params, loss, *_ = model(name)
    source = zojax.estimator(direction, mu=1e-3, num_directions=num_directions, batch_size=64)
    grad = zojax.grad(loss, source)
    return np.stack([flat(grad(jax.random.key(key), params)) for key in keys])


# Each model takes seconds to compile, and tests/implicit has one of each framework.
@pytest.mark.parametrize("name", fast(["optax_tutorial"], MODELS))
def test_the_mean_over_directions_converges_to_jax_grad(name):
    *_, exact, d = model(name)
    assert 1000 < d < 5000
    squared, cosines = np.sum(exact**2), []
    all_estimates = estimates(name, directions.rademacher(), 128, range(16))
    for count in (1, 16):
        q, mean = 128 * count, np.mean(all_estimates[:count], axis=0)
        ratio = np.sum((mean - exact) ** 2) / ((d - 1) * squared / q)
        assert abs(ratio - 1) < 5 * np.sqrt(2 / q + 2 / (d - 1))
        assert abs(mean @ exact / squared - 1) < 5 * np.sqrt(2 / q)
        cosines.append(mean @ exact / np.sqrt(np.sum(mean**2) * squared))
    assert cosines[0] < 0.5 < cosines[1]


@pytest.mark.parametrize("name", fast(["optax_tutorial"], MODELS))
def test_a_full_hadamard_frame_is_jax_grad(name):
    *_, exact, d = model(name)
    padded = 1 << (d - 1).bit_length()
    error = estimates(name, directions.hadamard(), padded, [0])[0] - exact
    assert np.linalg.norm(error) < MODELS[name][1] * np.linalg.norm(exact)


def test_a_full_orthogonal_frame_is_jax_grad():
    """On the head alone: a mask leaves the other layers out."""
    params, loss, *_ = model("optax_tutorial")
    head = params["output"][:64]

    def of_head(head):
        return loss(params | {"output": params["output"].at[:64].set(head)})

    exact = flat(jax.jit(jax.grad(of_head))(head))
    source = zojax.estimator(directions.orthogonal(), mu=1e-3, num_directions=exact.size)
    error = flat(zojax.grad(of_head, source)(0, head)) - exact
    assert np.linalg.norm(error) < 0.01 * np.linalg.norm(exact)


@pytest.mark.parametrize("name", fast(["equinox"], ["flax_nnx", "equinox"]))
def test_trains_parameters_that_are_modules(name):
    params, loss, *_ = model(name)
    tx = zojax.zeroth_order(
        optax.adam(0.01), zojax.estimator(num_directions=32, batch_size=32), key=0
    )
    result = zojax.minimize(loss, params, tx, 60, chunk_size=60)
    assert result.history[-1] < 0.7 * result.history[0]
    assert jax.tree.structure(result.params) == jax.tree.structure(params)


def test_flax_variables_and_modules_are_trees_of_their_arrays():
    tx = zojax.zo_sgd(0.1)
    layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    arrays = {"w": layer.kernel[...], "b": layer.bias[...]}
    wrapped = {"w": layer.kernel, "b": layer.bias}

    def step(params, loss):
        updates, _ = tx.update(None, tx.init(params), params, value_fn=loss)
        return jax.tree.leaves(zojax.apply_updates(params, updates))

    expected = step(arrays, lambda p: jnp.sum((p["w"] + p["b"]) ** 2))
    found = step(wrapped, lambda p: jnp.sum((p["w"][...] + p["b"][...]) ** 2))
    of_module = step(layer, lambda m: jnp.sum((m.kernel[...] + m.bias[...]) ** 2))
    for leaf, other, third in zip(expected, found, of_module, strict=True):
        np.testing.assert_allclose(other, leaf, rtol=1e-6)
        np.testing.assert_allclose(third, leaf, rtol=1e-6)


def save_with_flax(state, path):
    path.write_bytes(flax.serialization.to_bytes(state))
    return flax.serialization.from_bytes(state, path.read_bytes())


def save_with_equinox(state, path):
    eqx.tree_serialise_leaves(path, state)
    return eqx.tree_deserialise_leaves(path, state)


@pytest.mark.parametrize("save", [save_with_flax, save_with_equinox])
def test_frameworks_save_a_state_with_raw_key_data(save, tmp_path):
    tx, params = zojax.zo_sgd(0.1, momentum=0.9, key=3), jnp.ones(3)

    def bowl(x):
        return jnp.sum(x**2)

    def step(state):
        return tx.update(None, state, params, value_fn=bowl)

    _, state = step(tx.init(params))
    raw = state._replace(rng_key=jax.random.key_data(state.rng_key))
    updates, after = step(save(raw, tmp_path / "state"))
    expected, _ = step(state)
    np.testing.assert_array_equal(updates, expected)
    assert int(after.count) == 2
