"""What attacks minimise: functions of the logits z and a class c, negative once c is not predicted.

An untargeted attack lowers them for the true class; a targeted one raises them for its target. Each is
computed so that it keeps its relative precision where the model is certain: a probability that rounds
to 1 has no differences left.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

OUTPUTS = ("logits", "probabilities")
_RULED_OUT = -1e30  # far below any logit, and differences of it are finite
_TOLERANCE = 0.05  # of the sum of probabilities, which a model may round
ClassLoss = Callable[[jax.Array, jax.Array], jax.Array]


def margin(logits: jax.Array, label: jax.Array) -> jax.Array:
    """z_c - max_{j != c} z_j, the loss of Carlini and Wagner."""
    return logits[label] - jnp.max(_others(logits, label))


def log_odds(logits: jax.Array, label: jax.Array) -> jax.Array:
    """log(p_c / (1 - p_c)): increasing in the probability p_c, and never saturated."""
    return logits[label] - jax.nn.logsumexp(_others(logits, label))


class Shares(NamedTuple):
    """The sum and the least entry of each row of scores."""

    total: jax.Array | np.ndarray
    least: jax.Array | np.ndarray

    @classmethod
    def of(cls, outputs: jax.Array | np.ndarray) -> "Shares":
        return cls(outputs.sum(axis=-1), outputs.min(axis=-1))

    @property
    def improper(self) -> jax.Array | np.ndarray:
        """Whether a row cannot be probabilities; False for NaN."""
        return (self.least < 0) | (abs(self.total - 1) > _TOLERANCE)


def as_logits(outputs: jax.Array, output: str) -> jax.Array:
    """Float32 logits; the logarithms of probabilities are logits of the same probabilities.

    NaN, which is never adversarial, for rows that are no probabilities, and for rows of -inf. A logit of
    -inf beside others, as a class that is ruled out has it, becomes one that can be compared.
    """
    outputs = jnp.asarray(outputs, jnp.float32)
    if output == "probabilities":
        logits = jnp.log(jnp.maximum(outputs, jnp.finfo(jnp.float32).tiny))
        return jnp.where(Shares.of(outputs).improper[..., None], jnp.nan, logits)
    ruled_out = jnp.isneginf(outputs)
    logits = jnp.where(ruled_out, _RULED_OUT, outputs)
    return jnp.where(jnp.all(ruled_out, axis=-1, keepdims=True), jnp.nan, logits)


def judge(
    logits: jax.Array, label: jax.Array, targeted: bool, loss: ClassLoss
) -> tuple[jax.Array, jax.Array]:
    """The loss of one image's logits, and whether it is adversarial.

    inf and False if the scores are unusable: not all finite, or without the label's class.
    """
    value = loss(logits, label)
    hit = jnp.argmax(logits) == label
    known = (label >= 0) & (label < logits.shape[0])
    usable = known & jnp.all(jnp.isfinite(logits)) & jnp.isfinite(value)
    value, wanted = (-value, hit) if targeted else (value, ~hit)
    return jnp.where(usable, value, jnp.inf), usable & wanted


def _others(logits, label):
    return jnp.where(jnp.arange(logits.shape[0]) == label, -jnp.inf, logits)
