"""A task from your own model and pairs.

A label is predicted by the first token of its name. A completion is written after its prompt.
"""

import numpy as np
from jax.typing import DTypeLike

from zojax.lm._adapters import MEZO, Adapter
from zojax.lm._files import FilePath
from zojax.lm._model import Model
from zojax.lm.huggingface import load
from zojax.lm.tasks._assembly import assemble, split_rows
from zojax.lm.tasks._encoding import is_encoder, mask_of, with_stop
from zojax.lm.tasks._examples import Example
from zojax.lm.tasks._jsonl import LABELLED, WRITTEN, Rows, read_jsonl
from zojax.lm.tasks._task import Task
from zojax.lm.tasks._texts import of_texts
from zojax.lm.tasks._words import of_words

_PROMPTS = {LABELLED: "{}\nLabel:", WRITTEN: "{}"}
_KINDS = {LABELLED: of_words, WRITTEN: of_texts}


def jsonl_task(
    weights: FilePath,
    path: FilePath,
    params: str,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
    prompt: str | None = None,
    stop: str | None = None,
    adapter: Adapter = MEZO,
) -> Task:
    r"""Learns the second field of each row of a file from the first.

    Args:
      weights: a local Hugging Face folder, see `load`. Encoders take labels only.
      path: a JSONL, CSV, TSV or Parquet file, see `read_jsonl`.
      params: the trained part, see `partition`.
      seed: of the adapters. Pretrained weights and split are fixed.
      dtype: of all weights.
      prompt: a template with one `{}` for the text or prompt, and one `{mask}` for a model that fills
        masks; other braces stand for themselves. None: `"{}\nLabel:"` for labels, with ` {mask}` at its
        end for masks, and `"{}"` for completions.
      stop: the token that ends a completion, as text. None: the model's own end of text.
      adapter: sizes of LoRA and prefix.

    Raises:
      ValueError: if a file is missing or wrong; labels begin with the same token; `stop` is not one
        token; `prompt` has no place for the text; or a text has no token, an unknown token, or too many
        tokens.
      ModuleNotFoundError: without the extra `finetune`.
    """
    rows = read_jsonl(path)
    model = with_stop(load(weights, dtype), weights, stop)
    examples = _examples(model, rows, prompt)
    split, kind = split_rows(len(examples)), _KINDS[rows.fields]
    return assemble(model, examples, split, kind, path, params, seed, adapter)


def _examples(model: Model, rows: Rows, prompt: str | None) -> list[Example]:
    template = _PROMPTS[rows.fields] if prompt is None else prompt
    if is_encoder(model) and model.config.labels is None:
        template = f"{template} {{mask}}" if prompt is None else template
        template = template.replace("{mask}", mask_of(model))
    if template.count("{}") != 1:
        raise ValueError(f"prompt must have one {{}} for the text, got {template!r}.")
    prompts = [template.replace("{}", text) for text in rows.inputs]
    if rows.fields == WRITTEN:
        texts = zip(prompts, rows.outputs, strict=True)
        return [Example(prompt, (text,), (0,)) for prompt, text in texts]
    names = sorted(set(rows.outputs))
    words = tuple(f" {name}" for name in names)
    labels = zip(prompts, rows.outputs, strict=True)
    return [Example(prompt, words, (names.index(name),)) for prompt, name in labels]
