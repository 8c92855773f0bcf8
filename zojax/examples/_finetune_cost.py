"""Time and memory of a training step, beside one evaluation of its loss."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

import zojax
from zojax import lm


class Cost(NamedTuple):
    """Median seconds and peak bytes of one step, and of one evaluation of its loss."""

    step_seconds: float
    forward_seconds: float
    step_bytes: int
    forward_bytes: int


def measure(task: lm.Task, tx: zojax.ZerothOrder, params, batch, objective: str = "nll") -> Cost:
    """Measures one step and one evaluation of the objective on the same batch."""
    loss = task.objectives[objective]
    carry = jax.tree.map(lambda x: x.copy(), (params, tx.init(params)))
    step = lm.make_step(loss, tx).lower(*carry, task.frozen, batch).compile()
    forward = jax.jit(loss).lower(params, task.frozen, batch).compile()

    def run_step():
        nonlocal carry
        carry = step(*carry, task.frozen, batch)
        return carry

    run_forward = partial(forward, params, task.frozen, batch)
    step_seconds, forward_seconds = _seconds([run_step, run_forward])
    return Cost(step_seconds, forward_seconds, _peak_bytes(step), _peak_bytes(forward))


def _peak_bytes(compiled: Any) -> int:
    """Arguments, outputs and temporaries; a donated argument that became an output counts once."""
    memory = compiled.memory_analysis()
    total = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    return total + memory.output_size_in_bytes - memory.alias_size_in_bytes


def _seconds(functions: list[Callable[[], Any]], repeats: int = 7) -> list[float]:
    """Median wall times, after one call each; in turn, so that a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, record in zip(functions, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function())
            record.append(time.perf_counter() - start)
    return [statistics.median(record[1:]) for record in times]
