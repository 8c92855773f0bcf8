"""Continues prompts with a model of a local Hugging Face folder or GGUF file.

    python -m zojax.lm generate "The capital of France is"
    python -m zojax.lm generate --weights FOLDER --adapter FOLDER "A fine film." "A dull mess."
    python -m zojax.lm generate --weights FOLDER --temperature 0.8 --top-p 0.95 --json < prompts.txt

All prompts run in one batch. Each line of the standard input is a prompt if none is given.
"""

import argparse
import json
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax.lm import drafts
from zojax.lm._files import shown
from zojax.lm._model import Model
from zojax.lm._smollm2 import smollm2
from zojax.lm.huggingface import load, load_adapter
from zojax.lm.models.decoding import Choice, most_likely, sampler
from zojax.lm.rewards import encode
from zojax.lm.tasks._encoding import with_stop

HELP = "continue prompts"
DRAFTS = {  # (model, prompts) -> a draft
    "none": lambda model, rows: drafts.none(),
    "lookup": lambda model, rows: drafts.lookup(),
    "auto": lambda model, rows: drafts.auto(
        drafts.lookup(), drafts.cost(model, drafts.lookup(), rows)
    ),
}
DRAFT_HELP = "lookup: several tokens a pass; auto: where that is faster, after a measurement"
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("prompts", nargs="*", metavar="PROMPT", help="a text to continue")
    add("--weights", help="a Hugging Face folder or a GGUF file; SmolLM2-135M-Instruct if missing")
    add("--adapter", help="a PEFT folder of LoRA or of a prefix, for --weights")
    add("--dtype", choices=tuple(DTYPES), default="float32", help="of the weights (float32)")
    add("--new", type=int, default=64, help="tokens to generate, at most (64)")
    add("--stop", help="the token that ends a text, by default the model's own")
    add("--temperature", type=float, default=0.0, help="0 takes the likeliest token (0)")
    add("--top-k", type=int, help="sample among so many likeliest tokens")
    add("--top-p", type=float, default=1.0, help="sample among the likeliest of this total (1)")
    add("--seed", type=int, default=0, help="of the samples (0)")
    add("--draft", choices=tuple(DRAFTS), default="none", help=DRAFT_HELP)
    add("--json", action="store_true", help="print a JSON object with prompt and completion a line")


def run(args: argparse.Namespace) -> int:
    """Prints the continued prompts."""
    if args.adapter is not None and args.weights is None:
        raise ValueError(f"--adapter {args.adapter} needs --weights, the folder of its model.")
    if args.new < 1:
        raise ValueError(f"--new must be 1 at least, got {args.new}.")
    choose = _choice(args)
    prompts = args.prompts or [line.rstrip("\n") for line in sys.stdin]
    if not prompts:
        raise ValueError("there is no prompt; give one, or one a line on the standard input.")
    model = smollm2() if args.weights is None else load(args.weights, DTYPES[args.dtype])
    if args.adapter is not None:
        model = load_adapter(args.adapter, model, args.weights)
    model = with_stop(model, args.weights, args.stop)
    tokens, lengths = _encoded(model, prompts)
    draft = DRAFTS[args.draft](model, len(prompts))
    options: dict[str, Any] = dict(stop=model.stop, draft=draft)
    options |= dict(new=args.new, choose=choose, key=jax.random.key(args.seed))
    found = jax.jit(partial(model.decode, **options))(model.params, tokens, lengths)
    for i, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        written = np.asarray(found.tokens)[i, : found.lengths[i]].tolist()
        completion = _completed(model, tokens[i, :length].tolist(), written)
        pair = {"prompt": prompt, "completion": completion}
        print(json.dumps(pair, ensure_ascii=False) if args.json else prompt + completion)
    return 0


def _choice(args: argparse.Namespace) -> Choice:
    if args.temperature < 0:
        raise ValueError(f"--temperature must not be negative, got {args.temperature}.")
    if args.temperature == 0:
        return most_likely
    return sampler(args.temperature, args.top_k, args.top_p)


def _encoded(model: Model, prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens `(B, T)` and lengths `(B,)`; few widths, so that few programs are compiled."""
    tokens, lengths, *_ = encode(model, prompts, prompts)
    for prompt, row in zip(prompts, tokens, strict=True):
        if max(row) >= model.config.vocabulary:
            raise ValueError(f"the prompt {shown(prompt)} has tokens that the model does not know.")
    return tokens, lengths


def _completed(model: Model, prompt: list[int], written: list[int]) -> str:
    """The text after the prompt; a token's text may depend on the one before it."""
    before, whole = model.tokenizer.decode(prompt), model.tokenizer.decode(prompt + written)
    return whole[len(before) :]
