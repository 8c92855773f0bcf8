"""Language models for zeroth-order fine-tuning: models, files, adapters, tasks and training.

A model is a config, a dict of arrays and pure functions, so any zojax optimizer trains it.

- **Models**: `llama` and `gpt`, generation with a cache; `Model` keeps one with its tokenizer.
- **Files**: `load` and `save` local Hugging Face folders without torch; `smollm2` downloads a small model.
- **Trained parts**: `partition` into trained and frozen parameters; `lora` and `prefix` adapters.
- **Tasks**: `jsonl_task` from your own file, `reviews_task`. Objectives may have no gradient: accuracy, F1.
- **Training**: `train`, with a log that continues to the bit after a kill.

The extra `finetune` installs the optional packages. This module imports without them.
"""

from zojax.lm._adapters import combine, lora, partition, prefix
from zojax.lm._model import Model
from zojax.lm._smollm2 import smollm2
from zojax.lm._training import Trained, make_step, train
from zojax.lm.assets import AssetError
from zojax.lm.huggingface import load, save
from zojax.lm.models import gpt, llama
from zojax.lm.models.greedy import generate
from zojax.lm.tasks._batches import balanced, in_order, pad, shuffled
from zojax.lm.tasks._completions import completion_nll, exact, f1, write
from zojax.lm.tasks._jsonl import Rows, read_jsonl
from zojax.lm.tasks._jsonl_task import jsonl_task
from zojax.lm.tasks._reviews import Reviews, Splits, reviews
from zojax.lm.tasks._reviews_task import PROMPT as REVIEW_PROMPT
from zojax.lm.tasks._reviews_task import reviews_task
from zojax.lm.tasks._scores import (
    Score,
    calibrated,
    classification_scores,
    completion_scores,
    score,
)
from zojax.lm.tasks._task import Task, classification, mean_nll

__all__ = [
    "AssetError",
    "Model",
    "REVIEW_PROMPT",
    "Reviews",
    "Rows",
    "Score",
    "Splits",
    "Task",
    "Trained",
    "balanced",
    "calibrated",
    "classification",
    "classification_scores",
    "combine",
    "completion_nll",
    "completion_scores",
    "exact",
    "f1",
    "generate",
    "gpt",
    "in_order",
    "jsonl_task",
    "llama",
    "load",
    "lora",
    "make_step",
    "mean_nll",
    "pad",
    "partition",
    "prefix",
    "read_jsonl",
    "reviews",
    "reviews_task",
    "save",
    "score",
    "shuffled",
    "smollm2",
    "train",
    "write",
]
