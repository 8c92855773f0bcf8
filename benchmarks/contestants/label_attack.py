"""Attacks from labels by zojax and by ART: the median distance after equal numbers of queries.

Each image is attacked anew for each budget. The distance is that of the nearest adversarial image that the
model saw, for both. ART's attacks run with their defaults until the model has answered the budget; GeoDA,
which plans its iterations, is told the budget, or 1,000: it fails on fewer. Images are clipped to [0, 1]
before the model sees them.
"""

import tempfile
from contextlib import chdir, suppress

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contestants import once
from benchmarks.contestants.attack import answers, classifier, lengths, network
from zojax import attacks
from zojax.examples import _cnn


class Spent(Exception):
    """The budget is spent."""


class Watched:
    """Labels for ART, one-hot, while the budget lasts; keeps the least distance of an adversarial image."""

    def __init__(self, predict, x, y, norm, budget):
        self.predict, self.x, self.y, self.norm = predict, x, y, norm
        self.left, self.distance = budget, np.inf

    def __call__(self, images):
        images = np.clip(np.asarray(images, np.float32).reshape(-1, 28, 28), 0, 1)[: self.left]
        if not len(images):
            raise Spent
        self.left -= len(images)
        labels = answers(self.predict, images)
        found = lengths(images - self.x, self.norm)[labels != self.y]
        self.distance = min([self.distance, *found])
        if not self.left:
            raise Spent
        return np.eye(10, dtype=np.float32)[labels]


def build(work, by):
    params, x, y = network(work.data, work.images, work.epochs)

    def label_fn(images):
        return jnp.argmax(_cnn.forward(params, images), axis=1)

    def by_zojax(budget):
        attack = getattr(attacks, work.name)
        result = attack(0, label_fn, x, y, norm=work.norm, budget=budget)
        return np.where(result.success, lengths(result.adversarial - x, work.norm), np.inf)

    predict = jax.jit(label_fn)

    def by_art(budget):
        np.random.seed(0)
        return [art_attack(work, predict, x[i], y[i], budget) for i in range(len(x))]

    def run():
        attack = by_zojax if by == "zojax" else by_art
        return {"distances": {str(b): float(np.median(attack(b))) for b in work.budgets}}

    return once(run, len(x))


def art_attack(work, predict, x, y, budget):
    model = Watched(predict, x, y, work.norm, budget)
    # GeoDA writes a file into the current folder.
    with tempfile.TemporaryDirectory() as folder, chdir(folder), suppress(Spent):
        attack = _art(work, classifier(model), budget)
        attack.generate(x[None, ..., None], np.eye(10, dtype=np.float32)[[y]])
    return model.distance


def _art(work, classifier, budget):
    from art.attacks import evasion

    norm = {"linf": np.inf, "l2": 2}[work.norm]
    if work.name == "hop_skip_jump":
        return evasion.HopSkipJump(classifier, norm=norm, max_iter=budget, verbose=False)
    if work.name == "geoda":
        np.mat = np.asmatrix  # NumPy 2 has no `mat`, which ART 1.20 uses
        return evasion.GeoDA(classifier, norm=norm, max_iter=max(budget, 1000), verbose=False)
    return evasion.SignOPTAttack(classifier, targeted=False, query_limit=budget, verbose=False)
