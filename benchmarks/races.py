"""The small works of the race of methods: losses that differ in what makes them hard."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import models, store
from zojax.examples import _mlp
from zojax.examples._race import Work, digits, nll, on_data

CHARACTERS = 96


def transformer(
    length: int = 16,
    batch: int = 8,
    mu: float = 1e-3,
    layers: int = 2,
    width: int = 32,
    vocabulary: int = CHARACTERS,
    heads: int | None = None,
) -> Work:
    """Next characters of this repository's licence, on lines of 16 characters."""
    text = np.frombuffer(store.ROOT.joinpath("LICENSE").read_bytes(), np.uint8) % CHARACTERS
    rows = jnp.asarray(text[: len(text) // length * length].reshape(-1, length), jnp.int32)
    rows = jax.random.permutation(jax.random.key(0), rows)
    validation, test, train = jnp.split(rows, (100, 200))
    shape = dict(layers=layers, width=width, hidden=4 * width, heads=heads or width // 8)
    model = models.transformer(**shape, vocabulary=vocabulary)

    def init(key):
        leaves, treedef = jax.tree.flatten(model.params)
        keys = jax.random.split(key, len(leaves))
        params = treedef.unflatten(map(_normal_or_ones, keys, leaves))
        # Tokens that never occur leave the scale of the embedding as it is.
        return params | {"embed": params["embed"] * (vocabulary / CHARACTERS) ** 0.5}

    def loss(params, batch):
        return model.loss(params, tokens=batch)

    return on_data(init, loss, (test, validation, train), batch, mu)


def _normal_or_ones(key, shape):
    """Matrices are normal with variance 1 / fan-in; gains (D,) or (layers, D) are one."""
    if len(shape.shape) < 2 or shape.shape[0] < 8 and len(shape.shape) == 2:
        return jnp.ones(shape.shape)
    return jax.random.normal(key, shape.shape) * shape.shape[-2] ** -0.5


def quantised(params, x, labels):
    """Cross-entropy of the network with its weights rounded to 3 bits, eight levels from -1 to .75."""
    rounded = jax.tree.map(lambda w: jnp.clip(jnp.round(4 * w), -4, 3) / 4, params)
    return nll(rounded, x, labels)


def error_rate(params, x, labels):
    """The share of wrong answers."""
    return jnp.mean(jnp.argmax(_mlp.forward(params, x), axis=1) != labels)


def stock(mu: float = 0.1, days: int = 30, shops: int = 16) -> Work:
    """A stock of goods with seasonal random demand; a network decides each day's integer order.

    The mean cost of a day for each shop: 1 a unit in stock, 4 a unit that is missing, 2 a delivery. Orders
    arrive after two days. Every evaluation draws its own demand, so equal points have different values.
    """

    def cost(params, key):
        demands = jax.random.poisson(
            key, 5 + 3 * jnp.sin(jnp.arange(days) / 5)[:, None], (days, shops)
        )

        def day(carry, today):
            (goods, coming, due), (demand, season) = carry, today
            goods = goods + due
            seen = jnp.stack([goods, coming, jnp.full(shops, season)], axis=-1) / 10
            order = jnp.round(jnp.clip(10 * _mlp.forward(params, seen)[:, 0], 0, 30))
            left = goods - demand
            paid = jnp.maximum(left, 0) + 4 * jnp.maximum(-left, 0) + 2 * (order > 0)
            return (jnp.maximum(left, 0), order, coming), paid.mean()

        start = (jnp.full(shops, 10.0), jnp.zeros(shops), jnp.zeros(shops))
        season = 10 * jnp.sin(jnp.arange(days) / 5)
        return jax.lax.scan(day, start, (demands.astype(jnp.float32), season))[1].mean()

    def loss(params, batch):
        """The demand depends on the bits of the point, as that of a simulator without seeds."""
        bits = jax.lax.bitcast_convert_type(params[0]["weight"].sum(), jnp.int32)
        return cost(params, jax.random.fold_in(batch, bits))

    def mean_cost(seed, params):
        return jax.vmap(partial(cost, params))(jax.random.split(jax.random.key(seed), 16)).mean()

    return Work(
        lambda key: _mlp.init(key, (3, 16, 1)),
        loss,
        lambda key: key,
        partial(mean_cost, 1),
        partial(mean_cost, 2),
        mu,
    )


WORKS: dict[str, Callable[[], Work]] = {
    "digits": digits,
    "equal layers": partial(digits, widths=(64, 32, 32, 32, 32, 10)),
    "transformer": transformer,
    "3 bits": partial(digits, 0.1, loss=quantised),
    "error rate": partial(digits, 0.1, loss=error_rate),
    "stock": stock,
}
