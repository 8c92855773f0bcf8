"""Trains a model on rewards for its own texts, with forward passes only.

    python -m zojax.lm rl --task products --folder run
    python -m zojax.lm rl --task chain_sum --options '{"max_terms": 3}' --folder run --steps 200
    python -m zojax.lm rl --weights FOLDER --data questions.jsonl --reward judge:score --folder run

A population of members continues the same prompts side by side, and a Python function scores the texts.
Questions come from reasoning-gym (the extra rl), or from a JSONL file of prompt and completion. A reward
MODULE:FUNCTION takes the text and the completion, and returns a number.

FOLDER keeps run.log, steps.jsonl, held_out.jsonl and curve.png. The same command continues a run there,
also with more --steps.
"""

import argparse
import importlib
import math
import pathlib
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax import trajectory
from zojax.directions import low_rank
from zojax.lm import rewards
from zojax.lm._adapters import combine, merge, partition
from zojax.lm._files import parse_json
from zojax.lm._model import Model
from zojax.lm._smollm2 import smollm2
from zojax.lm.huggingface import load, save
from zojax.lm.models.decoding import most_likely, sampler
from zojax.lm.rewards._training import DRAFTS, LOG
from zojax.lm.tasks._jsonl import read_jsonl
from zojax.optimizers import eggroll, open_es

HELP = "train on rewards for generated text"
METHODS = {"eggroll": eggroll, "open_es": open_es}
PARTS = "norms", "lora", "full"
OTHER = (  # a text that no task is about
    "The river rises in the hills north of the town and reaches the sea after forty miles. In spring the "
    "meadows along its banks are under water for weeks, and the road to the old mill is closed. People "
    "here say that the mill was built by two brothers who could not agree on anything but the price of "
    "flour. Today it is a museum. Visitors can see the wheel, the stones and a small collection of tools, "
    "and on Sundays the owner bakes bread in the oven behind the house. Most of them come by train."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument_group("model").add_argument
    add("--weights", help="a Hugging Face folder or a GGUF file; SmolLM2-135M-Instruct if missing")
    add("--params", choices=PARTS, default="norms", help="what is trained (norms)")
    add("--last", type=int, default=6, help="last layers that are trained; 0 for all (6)")
    add("--save", help="a new folder for the trained model; needs --weights")
    add = parser.add_argument_group("questions and reward").add_argument
    add("--task", help=f"of reasoning-gym, such as {', '.join(rewards.GYM)}")
    add("--options", type=_json, help="its difficulty, a JSON object")
    add("--partial", action="store_true", help="rewards parts of an answer, too, as the task does")
    add("--data", help="a JSONL file of prompt and completion, in the place of --task")
    add("--reward", help="MODULE:FUNCTION, of text and completion, for --data (equal first lines)")
    add("--template", help="of a prompt, with {} for the question (a chat; {} for --data)")
    add("--format", help="a regular expression; a text that matches gets --format-weight more")
    add("--format-weight", type=float, default=0.1, help="reward of the format (0.1)")
    add("--held-out", type=int, default=128, help="questions to evaluate (128)")
    add = parser.add_argument_group("training").add_argument
    add("--folder", required=True, help="keeps the run")
    add("--steps", type=int, default=100, help="of the run (100)")
    add("--method", choices=tuple(METHODS), default="eggroll", help="optimizer (eggroll)")
    add("--population", type=int, default=16, help="members of a step (16)")
    add("--prompts", type=int, default=8, help="prompts of a step (8)")
    add("--new", type=int, default=8, help="tokens of a text, at most (8)")
    add("--mu", type=float, default=0.04, help="radius of the population (0.04)")
    add("--learning-rate", type=float, default=0.005, help="(0.005)")
    add("--temperature", type=float, default=0.0, help="of training texts; 0: the likeliest (0)")
    add("--draft", choices=DRAFTS, default="none", help="of several tokens a pass (none)")
    add("--every", type=int, default=10, help="steps between evaluations (10)")
    add("--seed", type=int, default=0, help="of directions and questions (0)")


def run(args: argparse.Namespace) -> int:
    """Trains, prints a line for each evaluation and step, and draws the curve."""
    _check(args)
    folder = pathlib.Path(args.folder).expanduser()
    note = _note(args)
    trajectory.require_note(folder / LOG, note, lambda name: f"--{name.replace('_', '-')}")
    model = smollm2() if args.weights is None else load(args.weights)
    if model.tokenizer is None:
        raise ValueError(f"{args.weights} has no tokenizer.json.")
    choose = most_likely if args.temperature == 0 else sampler(args.temperature)
    options = dict(every=args.every, draft=args.draft, choose=choose, note=note, report=_print)
    problem = _problem(args, model)
    trained = rewards.train(problem, _optimizer(args), args.steps, folder, **options)
    print(_shares(trained.steps))
    name = f"{args.method} on {args.task or args.data}"
    print(f"picture: {rewards.draw(folder / 'curve.png', {name: [trained.held_out]})}")
    if args.save is not None:
        merged = merge(combine(trained.params, problem.frozen))
        source = None if args.weights.endswith(".gguf") else args.weights
        save(args.save, model._replace(params=merged), source)
        print(f"model: {args.save}")
    return 0


def _check(args: argparse.Namespace) -> None:
    if (args.task is None) == (args.data is None):
        raise ValueError("give either --task or --data.")
    for name in ("reward",) if args.data is None else ("options",):
        if getattr(args, name) is not None:
            raise ValueError(f"--{name} belongs to --{'data' if args.data is None else 'task'}.")
    if args.reward is not None:
        _imported(args.reward)  # before a model is loaded
    if args.save is not None and args.weights is None:
        raise ValueError(f"--save {args.save} needs --weights, the folder of its model.")
    counts = "steps", "population", "prompts", "new", "held_out", "every"
    for name in (*counts, "mu", "learning_rate"):
        if not 0 < getattr(args, name) < math.inf:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be positive, got {getattr(args, name)}.")
    if args.last < 0:
        raise ValueError(f"--last must not be negative, got {args.last}.")
    if not 0 <= args.temperature < math.inf:
        raise ValueError(f"--temperature must not be negative, got {args.temperature}.")


def _note(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that a continued run must repeat."""
    names = (
        "task data options partial reward template format format_weight weights params last "
        "method population prompts new mu learning_rate temperature seed"
    )
    return {name: getattr(args, name) for name in names.split()}


def _problem(args: argparse.Namespace, model: Model) -> rewards.Problem:
    arrays = model._replace(params=jax.tree.map(jnp.asarray, model.params))
    last = min(args.last, model.config.layers - 1) or None
    params, frozen = partition(arrays, args.params, args.seed, last=last)
    questions = _gym(args, model) if args.data is None else _rows(args, model)
    reward = questions.reward
    if args.format is not None:
        reward = rewards.weighted((1.0, reward), (args.format_weight, rewards.matches(args.format)))
    prompts = rewards.batches(questions.train, args.prompts, args.seed)
    ids = model.tokenizer.encode(OTHER).ids
    other = np.array(ids[: len(ids) // 2 * 2]).reshape(2, -1)
    data = questions.held_out, other
    return rewards.Problem(model, params, frozen, reward, prompts, args.new, *data)


def _gym(args: argparse.Namespace, model: Model) -> rewards.Gym:
    options = {"held_out": args.held_out, "seed": args.seed}
    options |= {"template": args.template or rewards.GYM_TEMPLATE, "partial": args.partial}
    return rewards.gym(model, args.task, args.options, **options)


def _rows(args: argparse.Namespace, model: Model) -> rewards.Gym:
    """The questions of a JSONL file; the last ones are held out."""
    rows, template = read_jsonl(args.data), args.template or "{}"
    if len(rows.inputs) <= args.held_out:
        raise ValueError(
            f"{args.data} has {len(rows.inputs)} rows, and --held-out {args.held_out} leaves none "
            "to train on."
        )
    score = _is_equal if args.reward is None else _imported(args.reward)
    texts = [template.replace("{}", text) for text in rows.inputs]
    parts = slice(None, -args.held_out), slice(-args.held_out, None)
    train, held_out = (rewards.encode(model, texts[k], rows.outputs[k]) for k in parts)
    return rewards.Gym(train, held_out, rewards.each(score, catch=Exception))


def _is_equal(text: str, completion: str) -> float:
    return float(rewards.first_line(text) == rewards.first_line(completion))


def _imported(name: str) -> Any:
    """The function MODULE:FUNCTION; the current folder is searched first."""
    if not re.fullmatch(r"[\w.]+:\w+", name):
        raise ValueError(f"--reward must be MODULE:FUNCTION, got {name!r}.")
    module, function = name.split(":")
    sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), function)
    except AttributeError as error:
        raise ValueError(f"--reward: {error}.") from error
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--reward {name}: {error}; start in the folder of {module}.py, or install it."
        ) from error


def _optimizer(args: argparse.Namespace) -> Any:
    rate, mu, count = args.learning_rate, args.mu, args.population
    sampling = dict(direction=low_rank(), batch_size=(count + 1) // 2, key=args.seed)
    if args.method == "eggroll":
        return eggroll(rate, mu, count, **sampling)
    return open_es(rate, mu, count, 0.0, **sampling)


def _print(row: dict[str, Any]) -> None:
    if "solved" in row:
        drift = f", drift {row['drift']:.4f}" if "drift" in row else ""
        text = f"held out: reward {row['reward']:.3f}, solved {row['solved']:.1%}"
        print(f"{text}, {row['length']:.1f} tokens{drift}; {row['texts'][0]!r}", flush=True)
        return
    seconds = row["write"] + row["judge"] + row["update"]
    failed = f", {row['failed']} rewards failed" if row["failed"] else ""
    equal = ", all members equal: nothing to learn" if row["best"] == 0 else ""
    print(
        f"step {row['step'] + 1}: reward {row['reward']:.3f}, best member {row['best']:.3f}, "
        f"{row['length']:.1f} tokens, {seconds:.1f} s{failed}{equal}",
        flush=True,
    )


def _shares(rows: list[dict[str, Any]]) -> str:
    """The share of generation in a step, without and with drafts; first steps compile and do not count."""
    lines = []
    for is_drafted, name in ((False, "one token a pass"), (True, "drafts")):
        timed = [row for row in rows if row["draft"] is is_drafted][1:]
        if timed:
            write = np.median([row["write"] for row in timed])
            share = np.median(
                [row["write"] / (row["write"] + row["judge"] + row["update"]) for row in timed]
            )
            passes = np.mean([row["forwards"] for row in timed])
            lines.append(
                f"{name}: {write:.2f} s to generate, {share:.0%} of a step, {passes:.1f} passes a text"
            )
    return "\n".join(lines)


def _json(text: str) -> dict:
    try:
        found = parse_json(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"must be an object, got {text}")
    return found
