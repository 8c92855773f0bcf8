"""Trains a `Task` with a zeroth-order optimizer; with a log or a checkpoint, the run can be continued.

task = lm.jsonl_task("folder", "task.jsonl", "norms")
tx = zojax.mezo(1e-3, 1e-2)
trained = lm.train(task, tx, 60, task.batches(0, 16), task.split("held_out"), log="run.log")
"""

import math
import pathlib
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from zojax import trajectory
from zojax._checks import require_count
from zojax._transform import ZerothOrder, metrics_of
from zojax.lm import _checkpoint
from zojax.lm._checkpoint import Checkpoint
from zojax.lm._extras import require
from zojax.lm._files import FilePath
from zojax.lm._trained import Trained, TrainProgress
from zojax.lm.tasks._task import Batch, Task


def make_step(loss: Callable[..., jax.Array], tx: ZerothOrder) -> Any:
    """One compiled step on an objective: `(params, state, frozen, batch) -> (params, state)`."""

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, frozen, batch):
        updates, state = tx.update(None, state, params, value_fn=loss, frozen=frozen, batch=batch)
        return optax.apply_updates(params, updates), state

    return step


def train(
    task: Task,
    tx: ZerothOrder,
    steps: int,
    batches: Iterator[Batch],
    evaluated: list[Batch],
    log: FilePath | None = None,
    objective: str = "nll",
    note: Any = None,
    every: int | None = None,
    checkpoint: FilePath | None = None,
    callback: Callable[[TrainProgress], Any] | None = None,
) -> Trained:
    """Trains `steps` steps and evaluates before, in between and after.

    With a log or a checkpoint, the run continues where it was cut off, to the bit. More `steps` than
    before extend it. A log takes 5 bytes a step and replays; a checkpoint takes the size of the trained
    part and its state, and is read at once.

    Args:
      batches: an iterator of training batches. A continued run skips those already taken.
      evaluated: the batches of a split.
      log: the path of a trajectory. It is recorded, and continued if it exists.
      objective: one of `task.objectives`.
      note: kept in a new log or checkpoint.
      every: steps between evaluations; None evaluates half-way.
      checkpoint: a path, written at each evaluation, and continued if it exists.
      callback: called with a `TrainProgress` after every step and before the first, such as a
        `zojax.logging.csv`; its result is ignored.

    Raises:
      ValueError: for the log or checkpoint of another run or of a longer one, for both at once, and
        for `every` below 1.
      ModuleNotFoundError: without the extra `finetune`.

    Your own task needs logits and batches:

    >>> import itertools, jax.numpy as jnp, zojax
    >>> from zojax import lm
    >>> x = jax.random.normal(jax.random.key(0), (64, 3))
    >>> batch = {"x": x, "label": (x[:, 0] > 0).astype(jnp.int32)}
    >>> fields = lm.classification(lambda params, frozen, batch: batch["x"] @ params)
    >>> repeat, split = lambda seed, size: itertools.repeat(batch), lambda name: [batch]
    >>> task = lm.Task(jnp.zeros((3, 2)), {}, *fields, repeat, split)
    >>> trained = lm.train(task, zojax.mezo(1.0, key=0), 30, repeat(0, 64), split("held_out"))
    >>> task.scores(trained.outputs[30], trained.labels)[""]["accuracy"] > 0.9
    True
    """
    if log is not None and checkpoint is not None:
        raise ValueError(f"give a log or a checkpoint, not both, got {log} and {checkpoint}.")
    if every is not None:
        require_count("every", every)
    step, evaluate = make_step(task.objectives[objective], tx), _evaluation(task, evaluated)
    stops = {0, steps // 2, steps} if every is None else {*range(0, steps, every), steps}
    labels = np.concatenate([batch["label"] for batch in evaluated])
    params = jax.tree.map(lambda x: x.copy(), task.params)  # the step donates its arguments
    opened = nullcontext() if log is None else trajectory.Recorder(log, tx, params, note=note)
    with opened as recorder:
        if recorder is not None and recorder.past is not None:
            run = _replayed(recorder.past, tx, params, sorted(stops), evaluate)
        else:
            run = _kept(checkpoint, params, tx.init(params))
        params, state, losses, outputs = run
        if len(losses) > steps:
            raise ValueError(f"{log or checkpoint} has {len(losses)} steps, more than {steps}.")
        for _ in losses:
            next(batches)

        def report(count: int) -> None:
            scores = {}
            if count in stops and count not in outputs:
                outputs[count] = evaluate(params)
                scores = task.scores(outputs[count], labels)[""]
            if callback is not None:
                metrics = metrics_of(state) if count else {}
                callback(TrainProgress(count, losses[-1] if count else math.nan, scores, metrics))
            if checkpoint is not None and count in stops:
                _checkpoint.write(checkpoint, Checkpoint(params, state, losses, outputs), note)

        if not losses:
            report(0)
        options = dict(total=steps, initial=len(losses), unit="step", file=sys.stderr)
        with require("tqdm").tqdm(**options) as bar:
            for count in range(len(losses) + 1, steps + 1):
                params, state = step(params, state, task.frozen, next(batches))
                if recorder is not None:
                    recorder.append(state, params)
                losses.append(float(state.value))
                bar.set_postfix(loss=f"{_mean(losses[-20:]):.4g}", refresh=False)
                bar.update()
                report(count)
        if recorder is not None and recorder.steps:
            recorder.seal(params)  # more steps may follow in a later process
    if steps not in outputs:
        outputs[steps] = evaluate(params)
    return Trained(params, losses, dict(sorted(outputs.items())), labels, state)


def _kept(checkpoint: FilePath | None, params: Any, state: Any) -> Checkpoint:
    """The run of a checkpoint; a new one without."""
    if checkpoint is None or not pathlib.Path(checkpoint).expanduser().exists():
        return Checkpoint(params, state, [], {})
    return _checkpoint.read(checkpoint, params, state)


def _replayed(past, tx: ZerothOrder, params: Any, stops: list[int], evaluate) -> Checkpoint:
    """The run of a log; evaluations of its past are made again. Losses are not in a log."""
    outputs = {}
    for count in stops:
        if count <= past.steps:
            part = trajectory.truncate(past, count)
            outputs[count] = evaluate(trajectory.replay(params, tx, part) if count else params)
    params, state = trajectory.resume(params, tx, past)
    return Checkpoint(params, state, [math.nan] * int(state.count), outputs)


def _evaluation(task: Task, evaluated: list[Batch]) -> Callable[[Any], np.ndarray]:
    """A function from parameters to the task's outputs on all batches."""
    forward, tqdm = jax.jit(task.outputs), require("tqdm")

    def evaluate(params):
        options = dict(leave=False, file=sys.stderr, unit="batch", delay=1)
        bar = tqdm.tqdm(evaluated, "evaluating", **options)
        return np.concatenate([forward(params, task.frozen, batch) for batch in bar])

    return evaluate


def _mean(losses: list[float]) -> float:
    """The mean without NaN; NaN if there is nothing else."""
    known = [loss for loss in losses if not math.isnan(loss)]
    return sum(known) / len(known) if known else math.nan
