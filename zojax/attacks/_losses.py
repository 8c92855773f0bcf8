"""Class losses: functions of the logits z and a class c, negative once c is not predicted.

Untargeted attacks lower the loss of the true class; targeted attacks raise the loss of their target.
Losses compare logits, never probabilities: probabilities that round to 1 have no differences left.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.attacks._attack import ClassLoss

SCORES = ("logits", "probabilities")
OUTPUTS = (*SCORES, "labels")
_RULED_OUT = -1e30  # far below any logit, and differences of it are finite
_TOLERANCE = 0.05  # of the sum of probabilities, which a model may round


def margin(logits: jax.Array, label: jax.Array) -> jax.Array:
    """z_c - max_{j != c} z_j, the loss of Carlini and Wagner."""
    return logits[label] - jnp.max(_others(logits, label))


def log_odds(logits: jax.Array, label: jax.Array) -> jax.Array:
    """log(p_c / (1 - p_c)): increases with the probability p_c, and never saturates."""
    return logits[label] - jax.nn.logsumexp(_others(logits, label))


def decision(logits: jax.Array, label: jax.Array) -> jax.Array:
    """1 where the class is predicted, else -1: all that a label tells."""
    return jnp.where(jnp.argmax(logits) == label, 1.0, -1.0)


def of_label(predicted: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits of two classes, "the label" and "another", and the first class; NaN for a negative label."""
    logits = jnp.where(predicted == label, jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
    return jnp.where(predicted >= 0, logits, jnp.nan), jnp.where(label >= 0, 0, -1)


class RowSums(NamedTuple):
    """The sum and the least entry of each row of scores: arrays of JAX, or of NumPy on the host."""

    total: Any
    least: Any

    @classmethod
    def of(cls, outputs: Any) -> "RowSums":
        return cls(outputs.sum(axis=-1), outputs.min(axis=-1))

    @property
    def improper(self) -> Any:
        """Whether a row cannot be probabilities; False for NaN."""
        return (self.least < 0) | (abs(self.total - 1) > _TOLERANCE)


def as_logits(outputs: jax.Array, output: str) -> jax.Array:
    """Float32 logits. Logarithms of probabilities are logits of the same probabilities.

    Improper probabilities and rows of -inf become NaN, which is never adversarial. A single logit of -inf
    rules its class out; it becomes a large negative number, which can be compared.
    """
    outputs = jnp.asarray(outputs, jnp.float32)
    if output == "probabilities":
        logits = jnp.log(jnp.maximum(outputs, jnp.finfo(jnp.float32).tiny))
        return jnp.where(RowSums.of(outputs).improper[..., None], jnp.nan, logits)
    ruled_out = jnp.isneginf(outputs)
    logits = jnp.where(ruled_out, _RULED_OUT, outputs)
    return jnp.where(jnp.all(ruled_out, axis=-1, keepdims=True), jnp.nan, logits)


def judge(
    logits: jax.Array, label: jax.Array, targeted: np.bool_ | jax.Array, loss: ClassLoss
) -> tuple[jax.Array, jax.Array]:
    """(loss, is adversarial) of one image; inf, False for scores not finite or without the class."""
    value = loss(logits, label)
    hit = jnp.argmax(logits) == label
    known = (label >= 0) & (label < logits.shape[0])
    usable = known & jnp.all(jnp.isfinite(logits)) & jnp.isfinite(value)
    value = jnp.where(targeted, -value, value)
    return jnp.where(usable, value, jnp.inf), usable & (hit == targeted)


def _others(logits, label):
    return jnp.where(jnp.arange(logits.shape[0]) == label, -jnp.inf, logits)
