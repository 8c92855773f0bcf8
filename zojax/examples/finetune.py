"""Fine-tunes a language model with forward passes only: `python -m zojax.examples.finetune`.

SmolLM2-135M-Instruct learns the sentiment of movie reviews. The training step is `zojax.mezo`: two
evaluations of the loss, no backward pass. What is trained by default are shifts after the norms of
the upper layers, as in BitFit (https://arxiv.org/abs/2106.10199): few, strong parameters suit a
method whose noise grows with their number. The layers below run once for every review.

`--data digits` runs the same loop in seconds and downloads nothing. `--weights` and `--task` bring
one's own model and data: a local Hugging Face folder, and a JSONL file of text and label or of prompt and
completion (`python -m zojax.examples.export` makes both). What is trained is then `--params norms`,
`lora` (adapters of rank 8 for queries and values), `prefix` (keys and values of 5 positions before the
text) or `full`. `--objective accuracy` or `f1` trains what has no gradient: right
choices, or the overlap of what the model writes with the completions. With `--log` the run is recorded,
and continues from there if it was cut off, to the bit.

A run that did not help says so at its end, with a remedy. The exit status is 0; 1 if the run diverged; 2 if
arguments or files do not fit.
"""

import argparse
import hashlib
import math
import pathlib
import sys
import time
import warnings
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import zojax
from zojax import lm, trajectory
from zojax.examples import _report
from zojax.examples._digits import digits_task

__all__ = ["main", "make_optimizer", "make_parser"]

DIRECTIONS = {
    "rademacher": zojax.directions.rademacher,
    "normal": zojax.directions.normal,
    "sphere": zojax.directions.sphere,
    "low_rank": zojax.directions.low_rank,
}
OPTIMIZERS = ("mezo", "zo_sgd", "spsa", "adam", "open_es")


class Setting(NamedTuple):
    """Defaults that depend on what is trained, and on what."""

    steps: int
    batch: int
    learning_rate: float
    mu: float
    num_directions: int


SETTINGS = {
    ("reviews", "shifts"): Setting(500, 8, 1e-3, 1e-2, 1),
    ("reviews", "norms"): Setting(600, 8, 1e-3, 1e-2, 1),
    ("reviews", "full"): Setting(100, 16, 2e-5, 1e-3, 1),
    ("digits", "full"): Setting(1000, 64, 1e-1, 1e-2, 16),
    ("jsonl", "norms"): Setting(60, 16, 1e-3, 1e-2, 1),
    ("jsonl", "lora"): Setting(100, 16, 1e-3, 1e-2, 1),
    ("jsonl", "prefix"): Setting(100, 16, 1e-2, 1e-1, 1),
    ("jsonl", "full"): Setting(100, 16, 1e-6, 1e-3, 1),
}
# Accuracy is a step function: only a wide perturbation moves it, and only many examples resolve it.
ACCURACY = {
    ("reviews", "shifts"): Setting(100, 32, 3e-3, 5e-2, 1),
    ("jsonl", "norms"): Setting(60, 32, 3e-3, 5e-2, 1),
}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "bf16": jnp.bfloat16}
OBJECTIVES = {"nll": "negative log-likelihood", "accuracy": "1 - accuracy", "f1": "1 - F1"}


TASKS = {"reviews": lm.reviews_task, "digits": digits_task}
PARAMS = ("shifts", "norms", "lora", "prefix", "full")


def make_parser():
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m zojax.examples.finetune",
        description="Fine-tune a model with forward passes only, and compare it with zero-shot.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog="Settings shown as None depend on --data, --params and --objective. "
        "Exit status: 0; 1 if the run diverged; 2 if arguments or files do not fit.",
    )
    add = parser.add_argument
    add(
        "--data",
        choices=tuple(TASKS),
        help="what to learn; reviews, unless --weights is given",
    )
    add("--weights", help="a local Hugging Face folder: llama, qwen2, gpt2 or opt; needs --task")
    add("--task", help="a JSONL file of text and label, or of prompt and completion")
    add("--prompt", help="of --task, with {} for the text")
    add("--stop", help="what ends a completion, one token; by default the model's end of text")
    add(
        "--dtype",
        choices=tuple(DTYPES),
        default="float32",
        help="of --weights; with --params full bf16 rounds small updates away",
    )
    add("--params", choices=PARAMS, help="what to train; lora and prefix need --weights")
    add("--objective", choices=tuple(OBJECTIVES), default="nll", help="what to improve")
    add("--optimizer", choices=OPTIMIZERS, default="mezo", help="how to step")
    add("--direction", choices=tuple(DIRECTIONS), default="rademacher", help="which way to perturb")
    add("--steps", type=int, help="number of training steps")
    add("--batch", type=int, help="examples in a batch")
    add("--learning-rate", type=float, help="first learning rate of a cosine decay to zero")
    add("--mu", type=float, help="size of the perturbation")
    add("--num-directions", type=int, help="directions a step; open_es evaluates twice as many")
    add("--seed", type=int, default=0, help="of directions, batches and initial weights")
    add("--evaluate-on", choices=("held_out", "validation"), default="held_out", help="the split")
    add("--log", help="record every step here, and continue a run that was cut off")
    add("--out", default="zojax-finetune.png", help="where the PNG of the loss curve goes")
    return parser


def settle(args):
    """Fills in the defaults that depend on other arguments."""
    if (args.weights is None) != (args.task is None):
        raise ValueError("--weights and --task go together; give both or neither.")
    if args.weights is not None:
        if args.data is not None:
            raise ValueError(f"--data {args.data} does not go with --weights, which has --task.")
        args.data, args.params = "jsonl", args.params or "norms"
    elif args.dtype != "float32":
        raise ValueError(f"--dtype {args.dtype} is for --weights, which was not given.")
    for name in ("stop", "prompt"):
        if args.weights is None and getattr(args, name) is not None:
            given = getattr(args, name)
            raise ValueError(f"--{name} {given!r} is for --weights, which was not given.")
    if not 0 <= args.seed < 2**31:
        raise ValueError(f"--seed must be from 0 to {2**31 - 1}, got {args.seed}.")
    args.data = args.data or "reviews"
    args.params = args.params or ("shifts" if args.data == "reviews" else "full")
    if (args.data, args.params) not in SETTINGS:
        fitting = ", ".join(params for data, params in SETTINGS if data == args.data)
        task = "--weights" if args.data == "jsonl" else f"--data {args.data}"
        raise ValueError(f"--params {args.params} does not fit {task}; it takes {fitting}.")
    settings = SETTINGS | ACCURACY if args.objective == "accuracy" else SETTINGS
    for name, default in settings[args.data, args.params]._asdict().items():
        if getattr(args, name) is None:
            setattr(args, name, default)
        if not 0 < getattr(args, name) < math.inf:
            option = name.replace("_", "-")
            raise ValueError(
                f"--{option} must be positive, got {getattr(args, name)}; try {default}."
            )
    return args


def make_optimizer(args):
    """The optimizer that the arguments name; the learning rate decays to zero by a cosine."""
    rate = optax.cosine_decay_schedule(args.learning_rate, args.steps)
    direction, count = DIRECTIONS[args.direction](), args.num_directions
    sampling = dict(direction=direction, num_directions=count, key=args.seed)
    estimator = zojax.estimator(direction=direction, mu=args.mu, num_directions=count)
    if args.optimizer == "mezo":
        return zojax.mezo(rate, args.mu, **sampling)
    if args.optimizer == "zo_sgd":
        return zojax.zo_sgd(rate, estimator, momentum=0.9, key=args.seed)
    if args.optimizer == "adam":
        return zojax.zeroth_order(optax.adam(rate), estimator, key=args.seed)
    if args.optimizer == "open_es":
        return zojax.open_es(rate, args.mu, 2 * count, direction=direction, key=args.seed)
    horizon = args.steps / 10  # Spall's advice
    gain = args.learning_rate * (1 + horizon) ** 0.602  # so that the first rate is as asked
    return zojax.spsa(gain, args.mu, horizon, **sampling)


def make_task(args):
    """The task that the arguments name."""
    if args.data == "jsonl":
        given = args.weights, args.task, args.params, args.seed, DTYPES[args.dtype]
        task = lm.jsonl_task(*given, prompt=args.prompt, stop=args.stop)
    else:
        task = TASKS[args.data](args.params, args.seed)
    if args.objective not in task.objectives:
        raise ValueError(
            f"--objective {args.objective} does not fit this task; it has {list(task.objectives)}."
        )
    return task


def note_of(args):
    """What a log must have in common with the run that continues it."""
    of_task = ("data", "weights", "task", "prompt", "stop", "params", "objective", "batch", "seed")
    of_steps = ("optimizer", "direction", "steps", "learning_rate", "mu", "num_directions")
    note = {name: getattr(args, name) for name in (*of_task, *of_steps)}
    if args.log is not None and args.task is not None:
        note["digest of --task"] = digest_of(args.task)
    if args.log is not None and args.weights is not None:  # of all, also what is not trained
        files = sorted(pathlib.Path(args.weights).glob("*.safetensors"))
        note["digest of --weights"] = " ".join(map(digest_of, files))
    return note


def digest_of(path):
    """32 hexadecimal digits of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def check_log(log, tx, params, note):
    """Refuses the log of another run before anything is trained."""
    logged = logged_note(log)
    if logged is not None and (not isinstance(logged, dict) or "data" not in logged):
        raise ValueError(f"{log} was not recorded by this command. Choose another path.")
    for name, value in note.items():
        then = value if logged is None else logged.get(name, value)  # older logs have fewer names
        if then != value:
            option = name if "--" in name else f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{log} is of another run: its {option} is {then!r}, not {value!r}. Choose another "
                "path, or go on with what it has."
            )
    trajectory.Recorder(log, tx, params, note=note).close()


def logged_note(log):
    """The note of a log; None where there is nothing, or what the recorder will refuse."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of what was cut off, as the recorder does
            return trajectory.load(log).header["note"] or {}
    except (OSError, ValueError):
        return None


def measure(task, tx, params, batch, objective="nll"):
    """Time and memory of one step, and of one evaluation of the objective on the same batch.

    Returns:
      Dict of `step_seconds`, `forward_seconds`, `step_bytes` and `forward_bytes`.
    """
    carry = jax.tree.map(lambda x: x.copy(), (params, tx.init(params)))
    loss = task.objectives[objective]
    step = lm.make_step(loss, tx).lower(*carry, task.frozen, batch).compile()
    forward = jax.jit(loss).lower(params, task.frozen, batch).compile()

    def run_step():
        nonlocal carry
        carry = step(*carry, task.frozen, batch)
        return carry

    run_forward = partial(forward, params, task.frozen, batch)
    step_seconds, forward_seconds = _report.seconds([run_step, run_forward])
    return {
        "step_seconds": step_seconds,
        "forward_seconds": forward_seconds,
        "step_bytes": _report.peak_bytes(step),
        "forward_bytes": _report.peak_bytes(forward),
    }


def table(task, name, result):
    """Scores before and after as text, and how far the NLL fell below the calibrated control."""
    before, *_, after = (task.scores(x, result.labels) for x in result.outputs.values())
    columns = before[""]
    lines = [f"{'':14} " + " ".join(f"{c:>9}" for c in columns)]
    for model, rows in ((name, before), ("fine-tuned", after)):
        for suffix, scores in rows.items():
            cells = (f"{of_nll(v):>9}" if c == "NLL" else f"{v:9.1%}" for c, v in scores.items())
            lines.append(f"{suffix if suffix else model:14} " + " ".join(cells))
    *_, control = before
    ratio = after[""]["NLL"] / before[control]["NLL"]
    change = f"{ratio - 1:+.1%}" if ratio < 10 else f"x {ratio:.2g}"
    return "\n".join([*lines, "", f"fine-tuned against {name}{control}: NLL {change}"])


def of_nll(value):
    """Four decimals, or two digits and the exponent where they would not fit a column."""
    return f"{value:.4f}" if value < 1000 else f"{value:.2g}"


def points(task, result, objective):
    """The objective on the evaluated split, by the number of steps."""
    column, sign = {"nll": ("NLL", 1), "accuracy": ("accuracy", -1), "f1": ("F1", -1)}[objective]
    scores = {k: task.scores(x, result.labels)[""] for k, x in result.outputs.items()}
    return {k: (sign < 0) + sign * s[column] for k, s in scores.items()}


def verdict(args, curve, state):
    """Whether the run went wrong, and the remedy: what the split shows, then what the state does.

    Args:
      args: the settled arguments.
      curve: the objective by the number of steps, see `points`.
      state: the optimizer's last state.

    Returns:
      `(text, diverged)`; "" where the run improved the objective. A run diverged if its last training
      loss or the objective is no number, or if a likelihood loss more than doubled.
    """
    before, *_, after = curve.values()
    what, rate = OBJECTIVES[args.objective], args.learning_rate
    if not math.isfinite(before):
        return f"before training the {what} was {before}: the model and the task do not fit.", True
    if not math.isfinite(after) or (args.objective == "nll" and after > 2 * before):
        text = f"diverged: {what} {before:.2g} before, {after:.2g} after."
        return f"{text} Lower --learning-rate, now {rate:g}; try {rate / 10:g}.", True
    if seen := zojax.verdict(state):
        return f"{seen}.", math.isnan(float(state.value))
    if after >= before:
        text = f"not improved: {what} {before:.4g} before, {after:.4g} after."
        return (
            f"{text} Raise --steps, now {args.steps}, or try other values of --learning-rate.",
            False,
        )
    return "", False


def start_of(args):
    """The name of the model before training."""
    return "untrained" if args.data == "digits" else "zero-shot"


def describe(args, task, result, measured, per_step, elapsed):
    """The closing report as text; `per_step` is the number of evaluations in a step."""
    split = args.evaluate_on.replace("_", "-")
    size = sum(p.size for p in jax.tree.leaves(result.params))
    step, passes = measured["step_seconds"], per_step * measured["forward_seconds"]
    held, forward = measured["step_bytes"], measured["forward_bytes"]
    control = (
        "; each best bias is fitted on these same examples" if "accuracy" in task.objectives else ""
    )
    return f"""
{args.optimizer} on {args.data}, {args.params}: {size:,} parameters, {args.steps} steps of \
{args.batch} on {OBJECTIVES[args.objective]}, seed {args.seed}
{split}: {len(result.labels)} examples{control}

{table(task, start_of(args), result)}
time: step {_report.of_seconds(step)}, {per_step} forward passes of its batch \
{_report.of_seconds(passes)}, ratio {step / passes:.2f}
peak memory: step {_report.of_bytes(held)}, forward pass {_report.of_bytes(forward)}, \
ratio {held / forward:.4g}
evaluations of the loss: {args.steps * per_step:,}; total time {elapsed:.0f} s"""


def main(argv=None):
    """Runs the command line; returns the exit status."""
    start = time.perf_counter()
    parser = make_parser()
    args = parser.parse_args(argv)
    with _report.refusing(parser, "matplotlib", "tqdm"):
        _report.require_picture(args.out)
        args = settle(args)
        task = make_task(args)
        batches = task.batches(args.seed, args.batch)
        tx = make_optimizer(args)
        note = note_of(args)
        if args.log is not None:
            check_log(args.log, tx, task.params, note)
    evaluated = task.split(args.evaluate_on)
    result = lm.train(task, tx, args.steps, batches, evaluated, args.log, args.objective, note)
    if said := zojax.verdict(result.state):
        print(f"warning: {said}", file=sys.stderr)
    label, what = args.evaluate_on.replace("_", "-"), OBJECTIVES[args.objective]
    curve = points(task, result, args.objective)
    measured = measure(task, tx, result.params, next(batches), args.objective)
    elapsed = time.perf_counter() - start
    print(describe(args, task, result, measured, tx.estimator.evaluations, elapsed))
    title = f"{args.optimizer} on {args.data}: {args.params}, {args.batch} examples a step"
    words = dict(label=label, start=start_of(args), what=what, title=title)
    print(f"loss curve: {_report.plot(args.out, result.losses, curve, **words)}")
    text, diverged = verdict(args, curve, result.state)
    if text:
        print(f"\n{text}")
    return int(diverged)


if __name__ == "__main__":
    sys.exit(main())
