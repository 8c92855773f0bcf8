"""Scikit-learn's 8 x 8 digits with a small multilayer perceptron, from random weights."""

import jax
import numpy as np

from zojax import lm
from zojax.examples import _mlp


def shuffled_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images `(1797, 64)` from 0 to 1, float32, and labels `(1797,)`, int32, always in the same order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)


def digits_task(params: str, seed: int) -> lm.Task:
    """A task without any download; `params` can only be "full", and `seed` decides the initial weights."""
    if params != "full":
        raise ValueError(f"params must be 'full' for the digits, got {params!r}.")
    x, y = shuffled_digits()
    held_out, validation, train = np.split(np.arange(len(y)), (400, 600))
    splits = {"held_out": held_out, "validation": validation}

    def take(indices):
        return {"x": x[indices], "label": y[indices]}

    def batches(seed, size):
        rng = np.random.default_rng(seed)
        while True:
            yield take(rng.choice(train, size))

    def split(name):
        return [take(splits[name])]

    def logits(params, frozen, batch):
        return _mlp.forward(params, batch["x"])

    weights = _mlp.init(jax.random.key(seed), (64, 32, 10))
    return lm.Task(weights, {}, *lm.classification(logits), batches, split)
