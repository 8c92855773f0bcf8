"""Trains a `Task` with a zeroth-order optimizer; with a log, a run that was cut off continues.

task = lm.jsonl_task("folder", "task.jsonl", "norms")
tx = zojax.mezo(1e-3, 1e-2)
trained = lm.train(task, tx, 60, task.batches(0, 16), task.split("held_out"), log="run.log")
"""

import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from zojax import trajectory
from zojax._transform import ZerothOrder, ZerothOrderState
from zojax.lm._extras import require
from zojax.lm.tasks._task import Batch, Task


class Trained(NamedTuple):
    """The result of `train`.

    Attributes:
      params: the trained pytree.
      losses: the training loss of every step, the mean over its evaluations. Steps of an earlier
        process are NaN.
      outputs: dict from a number of steps to the task's outputs on the evaluated split.
      labels: `(N, ...)`, of the evaluated split.
      state: the optimizer's last state.
    """

    params: Any
    losses: list[float]
    outputs: dict[int, np.ndarray]
    labels: np.ndarray
    state: ZerothOrderState


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
    log: str | PathLike | None = None,
    objective: str = "nll",
    note: Any = None,
) -> Trained:
    """Trains `steps` steps and evaluates before, half-way and after.

    Args:
      batches: an iterator of training batches. A continued run skips those already taken.
      evaluated: the batches of a split.
      log: the path of a trajectory. It is recorded, and continued if it exists.
      objective: one of `task.objectives`.
      note: kept in a new log.

    Raises:
      ValueError: for the log of another run.
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
    step, evaluate = make_step(task.objectives[objective], tx), _evaluation(task, evaluated)
    params = jax.tree.map(lambda x: x.copy(), task.params)  # the step donates its arguments
    state = tx.init(params)
    outputs = {0: evaluate(params)}
    recorder = None if log is None else trajectory.Recorder(log, tx, params, note=note)
    if recorder is not None and (past := recorder.past) is not None:
        if past.steps >= steps // 2:
            half = trajectory.truncate(past, steps // 2)
            outputs[steps // 2] = evaluate(trajectory.replay(params, tx, half))
        params, state = trajectory.resume(params, tx, past)
    losses = [math.nan] * int(state.count)
    for _ in losses:
        next(batches)
    options = dict(total=steps, initial=len(losses), unit="step", file=sys.stderr)
    with require("tqdm").tqdm(**options) as bar:
        for count in range(len(losses) + 1, steps + 1):
            params, state = step(params, state, task.frozen, next(batches))
            if recorder is not None:
                recorder.append(state, params)
            losses.append(float(state.value))
            bar.set_postfix(loss=f"{_mean(losses[-20:]):.4g}", refresh=False)
            bar.update()
            if count in (steps // 2, steps):
                outputs[count] = evaluate(params)
    if recorder is not None:
        if recorder.steps:
            recorder.seal(params)  # more steps may follow in a later process
        recorder.close()
    if steps not in outputs:
        outputs[steps] = evaluate(params)
    labels = np.concatenate([batch["label"] for batch in evaluated])
    return Trained(params, losses, outputs, labels, state)


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
