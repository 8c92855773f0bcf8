"""One training run as a function of its hyper-parameters, compiled once for all candidates.

All shapes are those of the widest and deepest network. A narrower network masks units: a masked unit is
zero and gets no gradient. A shallower one skips layers. So candidates run side by side under `vmap`.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax import search
from zojax.lm import mean_nll

DATA = ("digits", "breast_cancer")
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": jax.nn.gelu, "sine": jnp.sin}
WIDEST, DEEPEST, BATCH = 32, 3, 32
SPACE = {
    "learning_rate": search.log_uniform(1e-4, 10.0),
    "weight_decay": search.log_uniform(1e-6, 1.0),
    "dropout": search.uniform(0.0, 0.8),
    "widths": search.log_integers(2, WIDEST, shape=DEEPEST),
    "depth": search.integers(1, DEEPEST),
    "activation": search.choice(range(len(ACTIVATIONS))),
}


Part = tuple[np.ndarray, np.ndarray]


class Data(NamedTuple):
    """Standardised rows `(N, n)` and integer labels `(N,)` of three parts."""

    train: Part
    validation: Part
    test: Part


class Losses(NamedTuple):
    """Mean negative log-likelihood in nats of two parts, and the test part's share of wrong answers."""

    validation: jax.Array
    test: jax.Array
    error: jax.Array


def load(name: str) -> Data:
    """One of `DATA`: half for training, which standardises all, a quarter each for validation and test."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    parts = np.split(order, [len(x) // 2, len(x) * 3 // 4])
    rows = x[parts[0]]
    x = ((x - rows.mean(0)) / np.maximum(rows.std(0), 1e-6)).astype(np.float32)
    x = np.clip(x, -5, 5)  # some pixels are never lit in the training part
    return Data(*((x[part], y[part].astype(np.int32)) for part in parts))


def init(key: jax.Array, inputs: int, classes: int, point: Any) -> list[dict]:
    """Weights of the widest network, with the variance for the widths of `point`; zero biases."""
    pairs = itertools.pairwise([inputs, *[WIDEST] * DEEPEST, classes])
    fans = [inputs, *point["widths"]]
    keys = jax.random.split(key, len(fans))
    return [
        {"weight": jax.random.normal(k, (n, m)) / jnp.sqrt(fan), "bias": jnp.zeros(m)}
        for k, (n, m), fan in zip(keys, pairs, fans, strict=True)
    ]


def forward(layers: list[dict], point: Any, x: Any, key: jax.Array | None = None) -> jax.Array:
    """Logits `(B, classes)` for `x` `(B, inputs)`; a key applies dropout to the last hidden layer."""
    *hidden, last = layers
    for i, layer in enumerate(hidden):
        y = x @ layer["weight"] + layer["bias"]
        y = jax.lax.switch(point["activation"], list(ACTIVATIONS.values()), y)
        y = jnp.where(jnp.arange(WIDEST) < point["widths"][i], y, 0)
        x = y if i == 0 else jnp.where(i < point["depth"], y, x)
    if key is not None:
        kept = 1 - point["dropout"]
        x = jnp.where(jax.random.bernoulli(key, kept, x.shape), x / kept, 0)
    return x @ last["weight"] + last["bias"]


def make_training(data: Data, steps: int) -> Callable[[Any, jax.Array], Losses]:
    """`(point, key) -> Losses`: stochastic gradient descent with momentum 0.9 and a rate decaying to zero.

    The key decides the initial weights and the batches. Runs that diverge give nan or huge losses.
    """
    data, classes = jax.tree.map(jnp.asarray, data), int(data.train[1].max()) + 1
    x, y = data.train

    def training(point, key):
        init_key, step_key = jax.random.split(key)
        layers = init(init_key, x.shape[1], classes, point)
        rate = optax.cosine_decay_schedule(1.0, steps)
        tx = optax.chain(
            optax.add_decayed_weights(point["weight_decay"]),
            optax.sgd(lambda step: point["learning_rate"] * rate(step), momentum=0.9),
        )

        def step(carry, key):
            layers, state = carry
            row_key, drop_key = jax.random.split(key)
            rows = jax.random.randint(row_key, (BATCH,), 0, len(x))
            loss = lambda p: mean_nll(forward(p, point, x[rows], drop_key), y[rows])  # noqa: E731
            updates, state = tx.update(jax.grad(loss)(layers), state, layers)
            return (optax.apply_updates(layers, updates), state), None

        keys = jax.random.split(step_key, steps)
        (layers, _), _ = jax.lax.scan(step, (layers, tx.init(layers)), keys)
        parts = data.validation, data.test
        logits = [forward(layers, point, part[0]) for part in parts]
        wrong = jnp.argmax(logits[1], axis=1) != data.test[1]
        nlls = (mean_nll(out, part[1]) for out, part in zip(logits, parts, strict=True))
        return Losses(*nlls, jnp.mean(wrong))

    return training
