"""`Task`: parameters, objectives and batches of one fine-tuning problem."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax.lm.tasks._scores import classification_scores

Batch = dict[str, Any]


class Task(NamedTuple):
    """One fine-tuning problem.

    Attributes:
      params: the trained pytree.
      frozen: the pytree of all other parameters.
      objectives: dict from a name to `(params, frozen, batch) -> ()`, minimised. `"nll"` is
        differentiable; `"accuracy"` and `"f1"`, one minus these scores, are not.
      outputs: `(params, frozen, batch) -> (B, K)` float32, from which a split is scored: logits, or the
        columns of `completion_scores`.
      scores: `(outputs, labels) ->` rows of a table: dict from a row's name to its scores by column.
      batches: `(seed, size) ->` an endless iterator of training batches: dicts of arrays with
        `"label"`. Few shapes occur, so few programs are compiled.
      split: `(name) ->` a list of batches; `"held_out"` for reporting, `"validation"` for choosing
        settings.
    """

    params: Any
    frozen: Any
    objectives: dict[str, Callable[..., jax.Array]]
    outputs: Callable[..., jax.Array]
    scores: Callable[[np.ndarray, np.ndarray], dict[str, dict[str, float]]]
    batches: Callable[[int, int], Iterator[Batch]]
    split: Callable[[str], list[Batch]]


def mean_nll(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean negative log-likelihood of `labels` `(B,)` under `logits` `(B, C)`.

    >>> float(mean_nll(jnp.zeros((3, 2)), jnp.array([0, 1, 1]))).__round__(4)
    0.6931
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def classification(logits: Callable[..., jax.Array]) -> tuple[dict, Callable, Callable]:
    """The fields `objectives`, `outputs` and `scores` of a `Task` that chooses one of C classes.

    `logits(params, frozen, batch)` has the shape (B, C).
    """

    def nll(params, frozen, batch):
        return mean_nll(logits(params, frozen, batch), batch["label"])

    def accuracy(params, frozen, batch):
        choices = jnp.argmax(logits(params, frozen, batch), axis=1)
        return 1 - jnp.mean((choices == batch["label"]).astype(jnp.float32))

    return {"nll": nll, "accuracy": accuracy}, logits, classification_scores
