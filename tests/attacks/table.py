"""The law table of attacks: one row for every public attack, and the small model that they attack."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import attacks

SIZE, CLASSES, BUDGET = 6, 3, 120
X = jax.random.uniform(jax.random.key(1), (7, SIZE, SIZE))
HIDDEN = jax.random.normal(jax.random.key(2), (1, SIZE * SIZE, 8)) / 6
READOUT = jax.random.normal(jax.random.key(3), (1, 8, CLASSES))


def model(images):
    """A small network; elementwise sums, so that a row is computed alike in batches of any size."""
    flat = images.reshape(images.shape[0], -1, 1) - 0.5
    return jnp.sum(jnp.tanh(3 * jnp.sum(flat * HIDDEN, axis=1))[..., None] * READOUT, axis=1)


Y = jnp.argmax(model(X), axis=1)


def on_the_host(model):
    """`model` for NumPy images. Padding to multiples of 16 images keeps its compiled operations few."""

    def scores(images):
        padded = np.pad(images, [(0, -len(images) % 16)] + [(0, 0)] * (images.ndim - 1))
        return np.array(model(jnp.asarray(padded))[: len(images)])

    return scores


class Row(NamedTuple):
    """An attack's function, the factory of its rounds, and settings with which it succeeds."""

    function: Callable[..., attacks.Result]
    factory: Callable[..., attacks.Attack]
    norm: str
    eps: float
    settings: dict = {}

    @property
    def reach(self):
        """The largest distance of a query. Attacks from labels start anywhere in [0, 1]."""
        return np.inf if self.rounds().from_labels else self.eps

    def run(self, model=model, x=X, y=Y, *, key=5, eps=None, budget=BUDGET, **options):
        eps = self.eps if eps is None else eps
        settings = self.settings | options
        return self.function(key, model, x, y, eps, self.norm, budget, **settings)

    def rounds(self) -> attacks.Attack:
        return self.factory(self.norm, **self.settings)


square_attack = functools.partial(attacks.square_attack, budget=BUDGET)
ATTACKS = {
    "square_linf": Row(attacks.square, square_attack, "linf", 0.2),
    "square_l2": Row(attacks.square, square_attack, "l2", 0.8),
    "simba_l2": Row(attacks.simba, attacks.simba_attack, "l2", 0.8),
    "simba_linf": Row(attacks.simba, attacks.simba_attack, "linf", 0.2),
    "simba_dct": Row(attacks.simba_dct, attacks.simba_attack, "l2", 0.8, {"frequencies": 1.0}),
    "nes": Row(attacks.nes, attacks.nes_attack, "linf", 0.2, {"num_directions": 5}),
    "zo_sign_sgd": Row(
        attacks.zo_sign_sgd, attacks.zo_sign_sgd_attack, "l2", 0.8, {"learning_rate": 0.2}
    ),
    "zoo": Row(
        attacks.zoo, attacks.zoo_attack, "l2", 0.8, {"coordinates": 4, "learning_rate": 0.2}
    ),
    "bandits": Row(attacks.bandits, attacks.bandits_attack, "linf", 0.2),
    "spsa": Row(attacks.spsa, attacks.spsa_attack, "linf", 0.2, {"num_directions": 5}),
    "hop_skip_jump": Row(
        attacks.hop_skip_jump, attacks.hop_skip_jump_attack, "linf", 0.2, {"num_directions": 10}
    ),
    "sign_opt": Row(attacks.sign_opt, attacks.sign_opt_attack, "l2", 0.8, {"num_directions": 20}),
    "geoda": Row(
        attacks.geoda, attacks.geoda_attack, "l2", 0.8, {"num_directions": 20, "frequencies": 1.0}
    ),
}


@functools.cache
def attacked(name, **options):
    """The result of a row, computed once."""
    return ATTACKS[name].run(**options)
