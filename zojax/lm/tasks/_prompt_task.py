"""A task from your own model, a file of a public dataset, and its template."""

import numpy as np
from jax.typing import DTypeLike

from zojax.lm._adapters import MEZO, Adapter
from zojax.lm._files import FilePath
from zojax.lm._model import Model
from zojax.lm.huggingface import load
from zojax.lm.tasks._assembly import Rows, assemble, split_rows
from zojax.lm.tasks._candidates import of_candidates
from zojax.lm.tasks._encoding import continuations, is_encoder, mask_of, with_stop
from zojax.lm.tasks._examples import Example, read_examples, shots_of, with_demonstrations
from zojax.lm.tasks._task import Task
from zojax.lm.tasks._texts import of_answers
from zojax.lm.tasks._words import of_words
from zojax.lm.templates import TEMPLATES, Template

KINDS = {"words": of_words, "candidates": of_candidates, "answers": of_answers}


def prompt_task(
    weights: FilePath,
    path: FilePath,
    template: str | Template,
    params: str,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
    held_out: FilePath | None = None,
    shots: int | None = None,
    in_context: int = 0,
    stop: str | None = None,
    adapter: Adapter = MEZO,
) -> Task:
    r"""The task of a template, on your own file.

    | kind | trained on | scores |
    |---|---|---|
    | `words` | the likelihood of the label's word among all words | accuracy |
    | `candidates` | the likelihood of the right candidate's tokens | accuracy |
    | `answers` | the likelihood of the first answer's tokens | F1 and exact match |

    Encoders with a head for masks read the word at the template's mask. Encoders with a head for labels
    read the prompt alone.

    Args:
      weights: a local Hugging Face folder, see `load`.
      path: a JSONL, CSV, TSV or Parquet file with the template's columns, see `read_table`.
      template: a name in `zojax.lm.templates.TEMPLATES`, or a template of your own.
      params: the trained part, see `partition`.
      seed: of adapters, shots and demonstrations. Pretrained weights and split are fixed.
      dtype: of all weights.
      held_out: a file of held-out rows; None: 20 % of the rows of `path`. Of the remaining rows, a quarter
        is for validation.
      shots: training rows of each label; in all for candidates and answers. None: all rows.
      in_context: training rows that stand solved before each prompt.
      stop: the token that ends an answer, as text. None: a line break, or else the model's own end.
      adapter: sizes of LoRA and prefix.

    Raises:
      ValueError: for an unknown template; a file that is missing or wrong; a missing column or an unknown
        label; too few rows for `shots` or `in_context`; words that begin with the same token; or a text
        that is too long.
      ModuleNotFoundError: without the extra `finetune`.
    """
    name, template = _named(template)
    model = with_stop(load(weights, dtype), weights, stop)
    if stop is None and template.kind == "answers":
        model = _with_line_break(model)
    mask = None
    if is_encoder(model) and model.config.labels is None and template.mask:
        mask = mask_of(model)
    examples = read_examples(path, name, template, mask)
    rows = split_rows(len(examples))
    if held_out is not None:
        more = read_examples(held_out, name, template, mask)
        own = np.concatenate(rows)
        quarter = len(own) // 4
        rows = Rows(len(own) + np.arange(len(more)), own[:quarter], own[quarter:])
        examples = examples + more
    if shots is not None:
        rows = rows._replace(train=shots_of(examples, rows.train, shots, seed))
    if in_context:
        chosen = _demonstrations(model, examples, rows.train, in_context, seed)
        examples = with_demonstrations(examples, chosen)
    return assemble(model, examples, rows, KINDS[template.kind], path, params, seed, adapter)


def _named(template: str | Template) -> tuple[str, Template]:
    if not isinstance(template, str):
        return "the template", template
    if template not in TEMPLATES:
        raise ValueError(f"template must be one of {', '.join(TEMPLATES)}, got {template!r}.")
    return template, TEMPLATES[template]


def _with_line_break(model: Model) -> Model:
    """The model with a line break as its stop, if that is one token."""
    (ids,) = continuations(model, ["a"], ["\n"])
    return model._replace(stop=ids[0]) if len(ids) == 1 else model


def _demonstrations(
    model: Model, examples: list[Example], train: np.ndarray, count: int, seed: int
) -> list[Example]:
    if is_encoder(model):
        raise ValueError("in_context is for decoders: an encoder reads one prompt.")
    if not 0 < count <= len(train):
        raise ValueError(f"in_context must be from 0 to {len(train)} training rows, got {count}.")
    return [examples[i] for i in np.random.default_rng(seed).choice(train, count, replace=False)]
