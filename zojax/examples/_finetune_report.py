"""The report of `zojax.examples.finetune`: scores, time, memory and remedies."""

import argparse
import math
import time

import jax

import zojax
from zojax import lm
from zojax.examples import _plots
from zojax.examples._finetune_cost import Cost, measure
from zojax.examples._finetune_options import OBJECTIVES
from zojax.examples._tables import of_bytes, of_seconds, table

COLUMNS = {"nll": ("NLL", 1), "accuracy": ("accuracy", -1), "f1": ("F1", -1)}  # of scores, sign


def report(
    args: argparse.Namespace,
    task: lm.Task,
    tx: zojax.ZerothOrder,
    trained: lm.Trained,
    batch: dict[str, jax.Array],
    start: float,
) -> int:
    """Prints scores, time since `start` and memory, draws the loss curve; returns the exit status."""
    curve = points(task, trained, args.objective)
    cost = measure(task, tx, trained.params, batch, args.objective)
    elapsed = time.perf_counter() - start
    print(describe(args, task, trained, cost, tx.estimator.evaluations, elapsed))
    path = _plots.loss_curve(
        args.out,
        trained.losses,
        curve,
        label=split_of(args),
        start=start_of(args),
        what=OBJECTIVES[args.objective],
        title=f"{args.optimizer} on {name_of(args)}: {args.params}, {args.batch} examples a step",
    )
    print(f"loss curve: {path}")
    text, diverged = verdict(args, curve, trained.state)
    if text:
        print(f"\n{text}")
    return int(diverged)


def points(task: lm.Task, trained: lm.Trained, objective: str) -> dict[int, float]:
    """The objective on the evaluated split, by the number of steps."""
    column, sign = COLUMNS[objective]
    scores = {k: task.scores(x, trained.labels)[""] for k, x in trained.outputs.items()}
    return {k: (sign < 0) + sign * s[column] for k, s in scores.items()}


def verdict(
    args: argparse.Namespace, curve: dict[int, float], state: zojax.ZerothOrderState
) -> tuple[str, bool]:
    """What went wrong, with a remedy; "" for a run that improved the objective. And: did it diverge?

    A run diverged if its last training loss or its objective is not finite, or if the likelihood loss
    more than doubled. `curve` is the objective by the number of steps, see `points`.
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
        more = f"Raise --steps, now {args.steps}, or try other values of --learning-rate."
        return f"{text} {more}", False
    return "", False


def describe(
    args: argparse.Namespace,
    task: lm.Task,
    trained: lm.Trained,
    cost: Cost,
    evaluations: int,
    elapsed: float,
) -> str:
    """The closing report; `evaluations` are those of a step, `elapsed` are seconds."""
    halves = {"uint8": 2}  # entries of 4 bits in a byte
    size = sum(p.size * halves.get(p.dtype.name, 1) for p in jax.tree.leaves(trained.params))
    passes = evaluations * cost.forward_seconds
    rows = task.scores(trained.outputs[0], trained.labels)
    control = "; each best bias is fitted on these same examples" if len(rows) > 1 else ""
    return f"""
{args.optimizer} on {name_of(args)}, {args.params}: {size:,} parameters, {args.steps} steps of \
{args.batch} on {OBJECTIVES[args.objective]}, seed {args.seed}
{split_of(args)}: {len(trained.labels)} examples{control}

{_scores(task, start_of(args), trained)}
time: step {of_seconds(cost.step_seconds)}, {evaluations} forward passes of its batch \
{of_seconds(passes)}, ratio {cost.step_seconds / passes:.2f}
peak memory: step {of_bytes(cost.step_bytes)}, forward pass {of_bytes(cost.forward_bytes)}, \
ratio {cost.step_bytes / cost.forward_bytes:.4g}
evaluations of the loss: {args.steps * evaluations:,}; total time {elapsed:.0f} s"""


def _scores(task: lm.Task, name: str, trained: lm.Trained) -> str:
    """Scores before and after, and the change of NLL against the calibrated control."""
    before, *_, after = (task.scores(x, trained.labels) for x in trained.outputs.values())
    columns = list(before[""])
    rows: list[list[str]] = [["", *columns]]
    for model, scored in ((name, before), ("fine-tuned", after)):
        for suffix, scores in scored.items():
            cells = (_nll(v) if c == "NLL" else f"{v:.1%}" for c, v in scores.items())
            rows.append([suffix or model, *cells])
    *_, control = before
    ratio = after[""]["NLL"] / before[control]["NLL"]
    change = f"{ratio - 1:+.1%}" if ratio < 10 else f"x {ratio:.2g}"
    text = table((-14, *[10] * len(columns)), rows)
    return f"{text}\n\nfine-tuned against {name}{control}: NLL {change}"


def _nll(value: float) -> str:
    """Four decimals, or an exponent if they would not fit a column."""
    return f"{value:.4f}" if value < 1000 else f"{value:.2g}"


def name_of(args: argparse.Namespace) -> str:
    """The name of the data."""
    return args.template or args.data


def start_of(args: argparse.Namespace) -> str:
    """The name of the model before training."""
    return "untrained" if args.data == "digits" else "zero-shot"


def split_of(args: argparse.Namespace) -> str:
    """The name of the evaluated split."""
    return args.evaluate_on.replace("_", "-")
