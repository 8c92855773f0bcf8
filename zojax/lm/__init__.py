"""Language models for zeroth-order fine-tuning: models, files, adapters, tasks and training.

A model is a config, a dict of arrays and pure functions, so any zojax optimizer trains it.

- **Models**: `llama` and `gpt`; `Model` keeps one with its tokenizer.
- **Generation**: `generate`, greedy or by a `sampler`, with `drafts` of several tokens a forward pass.
- **Files**: `load` and `save` local Hugging Face folders without torch, `save_adapter` for PEFT; `smollm2`
  downloads a small model.
- **Trained parts**: `partition` into trained and frozen parameters; `lora` and `prefix` adapters.
- **Tasks**: `jsonl_task` from your own pairs, `prompt_task` from a public dataset's columns and one of the
  `templates`, `reviews_task`. Objectives may have no gradient: accuracy, F1.
- **Training**: `train`, with a log that continues to the bit after a kill.
- **Rewards**: `rewards` trains on scores of generated text.

The extra `finetune` installs the optional packages. This module imports without them.
"""

from zojax.lm import drafts as drafts
from zojax.lm import rewards as rewards
from zojax.lm import templates as templates
from zojax.lm._adapters import Adapter as Adapter
from zojax.lm._adapters import combine as combine
from zojax.lm._adapters import lora as lora
from zojax.lm._adapters import merge as merge
from zojax.lm._adapters import partition as partition
from zojax.lm._adapters import prefix as prefix
from zojax.lm._checkpoint import checkpoint_note as checkpoint_note
from zojax.lm._model import Model as Model
from zojax.lm._smollm2 import smollm2 as smollm2
from zojax.lm._trained import Trained as Trained
from zojax.lm._trained import TrainProgress as TrainProgress
from zojax.lm._training import make_step as make_step
from zojax.lm._training import train as train
from zojax.lm.assets import AssetError as AssetError
from zojax.lm.huggingface import load as load
from zojax.lm.huggingface import load_adapter as load_adapter
from zojax.lm.huggingface import save as save
from zojax.lm.huggingface import save_adapter as save_adapter
from zojax.lm.models import bert as bert
from zojax.lm.models import gpt as gpt
from zojax.lm.models import llama as llama
from zojax.lm.models.decoding import Decoded as Decoded
from zojax.lm.models.decoding import decode as decode
from zojax.lm.models.decoding import decode_members as decode_members
from zojax.lm.models.decoding import generate as generate
from zojax.lm.models.decoding import most_likely as most_likely
from zojax.lm.models.decoding import sampler as sampler
from zojax.lm.models.quantized import Quantized as Quantized
from zojax.lm.tasks._answers import answer_score as answer_score
from zojax.lm.tasks._batches import balanced as balanced
from zojax.lm.tasks._batches import in_order as in_order
from zojax.lm.tasks._batches import pad as pad
from zojax.lm.tasks._batches import shuffled as shuffled
from zojax.lm.tasks._completions import completion_nll as completion_nll
from zojax.lm.tasks._completions import exact as exact
from zojax.lm.tasks._completions import f1 as f1
from zojax.lm.tasks._completions import write as write
from zojax.lm.tasks._jsonl import Rows as Rows
from zojax.lm.tasks._jsonl import read_jsonl as read_jsonl
from zojax.lm.tasks._jsonl_task import jsonl_task as jsonl_task
from zojax.lm.tasks._prompt_task import prompt_task as prompt_task
from zojax.lm.tasks._reviews import Reviews as Reviews
from zojax.lm.tasks._reviews import Splits as Splits
from zojax.lm.tasks._reviews import reviews as reviews
from zojax.lm.tasks._reviews_task import REVIEW_PROMPT as REVIEW_PROMPT
from zojax.lm.tasks._reviews_task import reviews_task as reviews_task
from zojax.lm.tasks._scores import Score as Score
from zojax.lm.tasks._scores import calibrated as calibrated
from zojax.lm.tasks._scores import choice_scores as choice_scores
from zojax.lm.tasks._scores import classification_scores as classification_scores
from zojax.lm.tasks._scores import completion_scores as completion_scores
from zojax.lm.tasks._scores import score as score
from zojax.lm.tasks._table import read_table as read_table
from zojax.lm.tasks._task import Task as Task
from zojax.lm.tasks._task import classification as classification
from zojax.lm.tasks._task import mean_nll as mean_nll

_FOLDERS = ("assets", "commands", "huggingface", "models", "tasks")
__all__ = [name for name in dir() if not name.startswith("_") and name not in _FOLDERS]
