"""Generation: one text, or any of several answers."""

import jax.numpy as jnp
import numpy as np

from zojax.lm._adapters import combine
from zojax.lm._files import FilePath
from zojax.lm._model import Model
from zojax.lm.tasks import _completions
from zojax.lm.tasks._answers import answer_score
from zojax.lm.tasks._encoding import Tokens
from zojax.lm.tasks._examples import Example
from zojax.lm.tasks._fields import Fields, completions_of
from zojax.lm.tasks._scores import completion_scores


def of_texts(model: Model, examples: list[Example], tokens: Tokens, path: FilePath) -> Fields:
    """Generation of one text, with the model's stop at its end; scores count tokens."""
    label = completions_of(model, examples, [[e.target] for e in examples], path)[:, 0]

    def nll(params, frozen, batch):
        found = _completions.completion_nll(model, combine(params, frozen), batch)
        return jnp.sum(found) / jnp.sum(batch["label"] >= 0)

    def f1(params, frozen, batch):
        written = _completions.write(model, combine(params, frozen), batch)
        return 1 - jnp.mean(_completions.f1(written, batch["label"], model.stop))

    def judged(params, frozen, batch):
        whole, label = combine(params, frozen), batch["label"]
        written = _completions.write(model, whole, batch)
        columns = (
            jnp.sum(_completions.completion_nll(model, whole, batch), axis=1),
            jnp.sum(label >= 0, axis=1),
            _completions.f1(written, label, model.stop),
            _completions.exact(written, label, model.stop),
        )
        return jnp.stack(columns, axis=1)

    return Fields(label, {}, {"nll": nll, "f1": f1}, judged, completion_scores, label.shape[1])


def of_answers(model: Model, examples: list[Example], tokens: Tokens, path: FilePath) -> Fields:
    """Generation of any of several answers; scores count words, see `answer_score`."""
    found = of_texts(model, examples, tokens, path)

    def written(params, frozen, batch):
        whole = combine(params, frozen)
        nll = jnp.sum(_completions.completion_nll(model, whole, batch), axis=1)
        tokens = jnp.sum(batch["label"] >= 0, axis=1)
        columns = jnp.stack([nll, tokens, batch["row"]], axis=1)
        return jnp.concatenate([columns, _completions.write(model, whole, batch)], axis=1)

    def scores(outputs: np.ndarray, labels: np.ndarray | None = None):
        del labels
        nll, tokens, rows = outputs[:, :3].T
        texts = [[int(t) for t in row if t >= 0] for row in outputs[:, 3:]]
        pairs = [
            answer_score(model.tokenizer.decode(text), examples[int(i)].completions)
            for i, text in zip(rows, texts, strict=True)
        ]
        f1, exact = map(float, np.mean(pairs, axis=0))
        return {"": {"NLL": float(nll.sum() / tokens.sum()), "F1": f1, "exact": exact}}

    rows = np.arange(len(examples), dtype=np.int32)
    return found._replace(extras={"row": rows}, outputs=written, scores=scores)
