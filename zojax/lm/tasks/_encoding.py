"""Texts to tokens, checked against the model before anything is compiled."""

from collections.abc import Sequence

from zojax.lm._files import FilePath, refusing, shown
from zojax.lm._model import Model

Tokens = list[list[int]]
_CANNOT = "tokenizer.json cannot encode the texts of the task"


def is_encoder(model: Model) -> bool:
    """Whether a model fills masks or classifies, and writes nothing."""
    return not hasattr(model.module, "extend")


def mask_of(model: Model) -> str:
    """The text of the mask token; raises ValueError for a tokenizer without one."""
    for text in ("[MASK]", "<mask>"):
        if model.tokenizer.token_to_id(text) is not None:
            return text
    raise ValueError("tokenizer.json has neither [MASK] nor <mask>; take that of a masked model.")


def with_stop(model: Model, weights: FilePath, stop: str | None) -> Model:
    """The model with another token that ends a text."""
    if model.tokenizer is None:
        raise ValueError(f"{weights} has no tokenizer.json.")
    if stop is None:
        return model
    with refusing(f"tokenizer.json cannot encode {shown(stop)}"):
        ids = model.tokenizer.encode(stop, add_special_tokens=False).ids
    if len(ids) != 1:
        raise ValueError(
            f"stop must be one token of the model, got {shown(stop)}, which is {shown(ids)}."
        )
    _check_known(model, ids)
    return model._replace(stop=ids[0])


def encoded(model: Model, texts: Sequence[str]) -> Tokens:
    """The tokens of prompts, with the special tokens of the model."""
    with refusing(_CANNOT):
        return [e.ids for e in model.tokenizer.encode_batch(list(texts))]


def continuations(model: Model, prompts: Sequence[str], completions: Sequence[str]) -> Tokens:
    """The tokens of completions after their prompts, without special tokens.

    A tokenizer may put a space before a text of its own. After a prompt it does not.
    """
    whole = [prompt + text for prompt, text in zip(prompts, completions, strict=True)]
    with refusing(_CANNOT):
        begun, both, alone = (
            [e.ids for e in model.tokenizer.encode_batch(list(texts), add_special_tokens=False)]
            for texts in (prompts, whole, completions)
        )
    pairs = zip(begun, both, alone, strict=True)
    found = [b[len(a) :] if b[: len(a)] == a else own for a, b, own in pairs]
    _check_known(model, [token for ids in found for token in ids])
    return found


def check(
    model: Model, texts: Sequence[str], tokens: Tokens, room: int | None, path: FilePath
) -> None:
    """Raises ValueError for a text without a token, with an unknown one, or with too many."""
    for text, ids in zip(texts, tokens, strict=True):
        where = f"{path}: the text {shown(text)}"
        if not ids:
            raise ValueError(f"{where} and its prompt have no token; leave it out.")
        if room is not None and len(ids) > room:
            raise ValueError(
                f"{where} has {len(ids)} tokens, but the model has room for {room} beside its prefix and "
                "the completion; shorten it or leave it out."
            )
    _check_known(model, [max(ids) for ids in tokens])


def _check_known(model: Model, tokens: Sequence[int]) -> None:
    token, known = max(tokens, default=0), model.config.vocabulary
    if token >= known:
        raise ValueError(
            f"tokenizer.json makes token {token}, but the model has a vocabulary of {known}: "
            "they do not belong together."
        )
