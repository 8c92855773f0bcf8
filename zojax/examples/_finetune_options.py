"""The command line of `zojax.examples.finetune`: its arguments and their defaults."""

import argparse
from typing import NamedTuple

import jax.numpy as jnp
import optax

import zojax
from zojax import lm
from zojax.examples import _command
from zojax.examples._digits import digits_task

TASKS = {"reviews": lm.reviews_task, "digits": digits_task}
PARAMS = ("shifts", "norms", "lora", "prefix", "full", "scales", "integers")
OPTIMIZERS = ("mezo", "zo_sgd", "spsa", "adam", "open_es")
OF_BLOCKS = {"scales": "qzo", "integers": "qes"}  # by the part of quantised weights that they train
OBJECTIVES = {"nll": "negative log-likelihood", "accuracy": "1 - accuracy", "f1": "1 - F1"}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "bf16": jnp.bfloat16}
DIRECTIONS = {
    "rademacher": zojax.directions.rademacher,
    "normal": zojax.directions.normal,
    "sphere": zojax.directions.sphere,
    "low_rank": zojax.directions.low_rank,
}


def _cosine(rate: float, horizon: int) -> optax.Schedule:
    decay = optax.cosine_decay_schedule(rate, horizon)
    return lambda count: decay(count % horizon)


SCHEDULES = {"cosine": _cosine, "constant": lambda rate, horizon: optax.constant_schedule(rate)}


class StepDefaults(NamedTuple):
    """Defaults that depend on the task, the trained parameters and the objective."""

    steps: int
    batch: int
    learning_rate: float
    mu: float
    num_directions: int


DEFAULTS = {
    ("reviews", "shifts"): StepDefaults(500, 8, 1e-3, 1e-2, 1),
    ("reviews", "norms"): StepDefaults(600, 8, 1e-3, 1e-2, 1),
    ("reviews", "lora"): StepDefaults(500, 8, 1e-3, 1e-2, 1),
    ("reviews", "full"): StepDefaults(100, 16, 2e-5, 1e-3, 1),
    ("reviews", "scales"): StepDefaults(100, 16, 1e-7, 1e-4, 1),
    ("reviews", "integers"): StepDefaults(20, 16, 8e-3, 1e-3, 4),
    ("digits", "full"): StepDefaults(1000, 64, 1e-1, 1e-2, 16),
    ("jsonl", "norms"): StepDefaults(60, 16, 1e-3, 1e-2, 1),
    ("jsonl", "lora"): StepDefaults(100, 16, 1e-3, 1e-2, 1),
    ("jsonl", "prefix"): StepDefaults(100, 16, 1e-2, 1e-1, 1),
    ("jsonl", "full"): StepDefaults(100, 16, 1e-6, 1e-3, 1),
}
# Accuracy is a step function: it needs a wide perturbation and many examples.
ACCURACY_DEFAULTS = {
    ("reviews", "shifts"): StepDefaults(100, 32, 3e-3, 5e-2, 1),
    ("jsonl", "norms"): StepDefaults(60, 32, 3e-3, 5e-2, 1),
}


def make_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = _command.make_parser(
        "finetune",
        "Fine-tune a model with forward passes only, and compare it with zero-shot.",
        "Settings shown as None depend on --data, --params and --objective. "
        "Exit status: 0; 1 if the run diverged; 2 if arguments or files do not fit.",
    )
    add = parser.add_argument_group("model and data").add_argument
    add("--data", choices=tuple(TASKS), help="what to learn; reviews, unless --weights is given")
    add("--weights", metavar="FOLDER", help="a Hugging Face folder or GGUF file; needs --task")
    add("--task", help="JSONL, CSV, TSV or Parquet: text and label, or prompt and completion")
    names = ", ".join(lm.templates.TEMPLATES)
    add("--template", metavar="NAME", help=f"--task has the columns of a public dataset: {names}")
    add("--held-out", metavar="FILE", help="held-out rows, of --template; else 20 %% of --task")
    add("--shots", type=int, help="training rows of each label, of --template; all by default")
    add("--prompt", help="of --task, with {} for the text, and {mask} for a masked model")
    add("--stop", help="what ends a completion, one token; by default the model's end of text")
    lossy = "of --weights; with --params full bf16 rounds small updates away"
    add("--dtype", choices=tuple(DTYPES), default="float32", help=lossy)
    add, own = parser.add_argument_group("what to train").add_argument, lm.Adapter()
    of_blocks = "lora and prefix need --weights; scales and integers are those of 4-bit reviews"
    add("--params", choices=PARAMS, help=f"what to train; {of_blocks}")
    add("--rank", type=int, default=own.rank, help="of lora")
    add("--alpha", type=float, default=own.alpha, help="of lora, its scale times the rank")
    add("--targets", nargs="+", metavar="NAME", default=list(own.targets), help="matrices of lora")
    add("--positions", type=int, default=own.positions, help="of prefix")
    add("--objective", choices=tuple(OBJECTIVES), default="nll", help="what to improve")
    add = parser.add_argument_group("steps").add_argument
    of_blocks = "mezo; qzo for scales, qes for integers"
    add("--optimizer", choices=(*OPTIMIZERS, *OF_BLOCKS.values()), help=f"how to step; {of_blocks}")
    add("--direction", choices=tuple(DIRECTIONS), default="rademacher", help="which way to perturb")
    add("--steps", type=int, help="number of training steps; more than before extend a run")
    add("--batch", type=int, help="examples in a batch")
    add("--learning-rate", type=float, help="the first learning rate")
    add("--schedule", choices=tuple(SCHEDULES), default="cosine", help="of the rate; not of spsa")
    add("--horizon", type=int, help="steps of a cosine to zero, which then begins again; --steps")
    add("--mu", type=float, help="size of the perturbation; of qes in units of the integers")
    add("--num-directions", type=int, help="directions a step; open_es and qes take twice as many")
    add("--seed", type=int, default=0, help="of directions, batches and initial weights")
    add = parser.add_argument_group("files").add_argument
    add("--evaluate-on", choices=("held_out", "validation"), default="held_out", help="the split")
    add("--evaluate-every", type=int, help="steps between evaluations; half of --steps by default")
    add("--log", metavar="FILE", help="record every step here, and continue a run: 5 bytes a step")
    add("--checkpoint", metavar="FILE", help="keep the trained part here, and continue a run")
    add("--csv", metavar="FILE", help="log losses and scores to this file")
    add("--tensorboard", metavar="FOLDER", help="log to this folder; needs the extra tensorboard")
    add("--wandb", metavar="PROJECT", help="log to Weights & Biases; needs the extra wandb")
    add("--metrics", action="store_true", help="log |c|, flat and effective directions, alignment")
    add("--save", metavar="FOLDER", help="write the trained --weights, with adapters merged")
    add("--save-adapter", metavar="FOLDER", help="write the trained lora or prefix, as PEFT does")
    return parser
