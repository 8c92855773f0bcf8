"""Multiple choice between texts."""

import jax.numpy as jnp
import numpy as np

from zojax.lm._adapters import combine
from zojax.lm._files import FilePath
from zojax.lm._model import Model
from zojax.lm.tasks._completions import completion_nll
from zojax.lm.tasks._encoding import Tokens
from zojax.lm.tasks._examples import Example
from zojax.lm.tasks._fields import Fields, completions_of
from zojax.lm.tasks._scores import choice_scores


def of_candidates(model: Model, examples: list[Example], tokens: Tokens, path: FilePath) -> Fields:
    """Multiple choice by the mean log-likelihood of each candidate's tokens."""
    texts = [list(example.completions) for example in examples]
    label = completions_of(model._replace(stop=None), examples, texts, path)
    right = np.zeros(label.shape[:2], bool)
    for row, example in zip(right, examples, strict=True):
        row[list(example.right)] = True

    def of_each(params, frozen, batch):
        """Negative log-likelihoods and numbers of tokens, `(B, C)`."""
        rows, count, size = batch["label"].shape
        repeated = {name: jnp.repeat(batch[name], count, axis=0) for name in ("tokens", "position")}
        repeated["label"] = batch["label"].reshape(rows * count, size)
        found = completion_nll(model, combine(params, frozen), repeated)
        return found.sum(1).reshape(rows, count), jnp.sum(batch["label"] >= 0, axis=2)

    def nll(params, frozen, batch):
        first = jnp.argmax(batch["right"], axis=1)[:, None, None]
        label = jnp.take_along_axis(batch["label"], first, axis=1)[:, 0]
        found = completion_nll(model, combine(params, frozen), {**batch, "label": label})
        return jnp.sum(found) / jnp.sum(label >= 0)

    def judged(params, frozen, batch):
        total, tokens = of_each(params, frozen, batch)
        mean = jnp.where(tokens > 0, total / jnp.maximum(tokens, 1), jnp.inf)
        first = jnp.argmax(batch["right"], axis=1)[:, None]
        hits = jnp.take_along_axis(batch["right"], jnp.argmin(mean, axis=1)[:, None], axis=1)
        columns = [jnp.take_along_axis(x, first, axis=1) for x in (total, tokens)]
        return jnp.concatenate([*columns, hits], axis=1).astype(jnp.float32)

    def accuracy(params, frozen, batch):
        return 1 - jnp.mean(judged(params, frozen, batch)[:, 2])

    objectives = {"nll": nll, "accuracy": accuracy}
    return Fields(label, {"right": right}, objectives, judged, choice_scores, label.shape[2])
