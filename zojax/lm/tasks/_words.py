"""Classification: a word for each label, after the prompt or at its mask."""

import numpy as np

from zojax.lm._adapters import combine
from zojax.lm._files import FilePath, shown
from zojax.lm._model import Model
from zojax.lm.tasks._encoding import Tokens, continuations, is_encoder, mask_of
from zojax.lm.tasks._examples import Example
from zojax.lm.tasks._fields import Fields
from zojax.lm.tasks._task import classification


def of_words(model: Model, examples: list[Example], tokens: Tokens, path: FilePath) -> Fields:
    """Classification by the first token of each word, by the word at a mask, or by an encoder's head."""
    prompt, words, _ = examples[0]
    label = np.array([example.right[0] for example in examples], np.int32)
    if len(words) < 2:
        raise ValueError(f"{path}: a task needs 2 labels at least, got {shown(list(words))}.")
    extras = {}
    if is_encoder(model) and model.config.labels is not None:
        if model.config.labels != len(words):
            raise ValueError(
                f"{path}: the model has {model.config.labels} labels, the task {len(words)}: "
                f"{shown([word.strip() for word in words])}. Take a model for filling masks."
            )

        def logits(params, frozen, batch):
            return model.module.classify(model.config, combine(params, frozen), batch["tokens"])

    else:
        if is_encoder(model):
            extras = {"position": _masks(model, tokens, path)}
            prompt = ""
        rows = _first_tokens(model, prompt, words, path)

        def logits(params, frozen, batch):
            whole, positions = combine(params, frozen), batch["position"]
            return model.forward(whole, batch["tokens"], positions=positions, rows=rows)

    return Fields(label, extras, *classification(logits), 0)


def _first_tokens(model: Model, prompt: str, words: tuple[str, ...], path: FilePath) -> np.ndarray:
    names = [word.strip() for word in words]
    found = continuations(model, [prompt] * len(words), words)
    if not all(found) or not all(names):
        raise ValueError(f"{path}: labels must be names of a token at least, got {shown(names)}.")
    first = [ids[0] for ids in found]
    if len(set(first)) < len(first):
        raise ValueError(
            f"{path}: the labels {shown(names)} must begin with different tokens, got {shown(first)}."
        )
    return np.array(first)


def _masks(model: Model, tokens: Tokens, path: FilePath) -> np.ndarray:
    """The position of the mask in each row."""
    mask = model.tokenizer.token_to_id(mask_of(model))
    for ids in tokens:
        if ids.count(mask) != 1:
            raise ValueError(
                f"{path}: a prompt of an encoder must have one mask, got {ids.count(mask)}; put {{mask}} "
                "into the prompt once, and no mask into the texts."
            )
    return np.array([ids.index(mask) for ids in tokens], np.int32)
