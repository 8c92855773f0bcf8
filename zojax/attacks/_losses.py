"""What attacks minimise: functions of the logits z and a class c, negative once c is not predicted.

An untargeted attack lowers them for the true class; a targeted one raises them for its target. Each is
computed so that it keeps its relative precision where the model is certain: a probability that rounds
to 1 has no differences left.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

OUTPUTS = ("logits", "probabilities")
_RULED_OUT = -1e30  # far below any logit, and differences of it are finite
ClassLoss = Callable[[jax.Array, jax.Array], jax.Array]


def margin(logits: jax.Array, label: jax.Array) -> jax.Array:
    """z_c - max_{j != c} z_j, the loss of Carlini and Wagner."""
    return logits[label] - jnp.max(_others(logits, label))


def log_odds(logits: jax.Array, label: jax.Array) -> jax.Array:
    """log(p_c / (1 - p_c)): increasing in the probability p_c, and never saturated."""
    return logits[label] - jax.nn.logsumexp(_others(logits, label))


def as_logits(outputs: jax.Array, output: str) -> jax.Array:
    """Float32 logits; the logarithms of probabilities are logits of the same probabilities.

    NaN, which is never adversarial, for what cannot be probabilities: one below 0, or all of them 0. A
    logit of -inf, as a class that is ruled out has it, becomes one that can be compared.
    """
    outputs = jnp.asarray(outputs, jnp.float32)
    if output == "probabilities":
        logits = jnp.log(jnp.maximum(outputs, jnp.finfo(jnp.float32).tiny))
        possible = (outputs >= 0) & jnp.any(outputs > 0, axis=-1, keepdims=True)
        return jnp.where(possible, logits, jnp.nan)
    return jnp.where(jnp.isneginf(outputs), _RULED_OUT, outputs)


def judge(
    logits: jax.Array, label: jax.Array, targeted: bool, loss: ClassLoss
) -> tuple[jax.Array, jax.Array]:
    """The loss of one image's logits, and whether it is adversarial; inf and False if not finite."""
    value = loss(logits, label)
    hit = jnp.argmax(logits) == label
    finite = jnp.all(jnp.isfinite(logits)) & jnp.isfinite(value)
    value, wanted = (-value, hit) if targeted else (value, ~hit)
    return jnp.where(finite, value, jnp.inf), finite & wanted


def _others(logits, label):
    return jnp.where(jnp.arange(logits.shape[0]) == label, -jnp.inf, logits)
