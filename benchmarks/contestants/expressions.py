"""One expression under zojax beside its design: values, temporaries, peaks and times, in one process."""

import time
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks import harness, summary, worker
from benchmarks.contestants import Host
from benchmarks.contestants.zoo import COUNTED
from benchmarks.expressions import EXPRESSIONS

ROUNDS = 7
CLOCK = Host(lambda: None, clock=time.process_time)


def build(work):
    expression, found = EXPRESSIONS[work.expression](), {}

    def run():
        key, timers, values = jax.random.key(1), {}, {}
        for name, (program, params) in expression.programs().items():
            args = params, key, expression.x
            compiled = jax.jit(program).lower(*args).compile(compiler_options=COUNTED)
            temporaries = compiled.memory_analysis().temp_size_in_bytes
            found[name] = {"temporaries": temporaries, "peak": worker.peak_bytes(compiled)}
            step = partial(compiled, *args)
            values[name] = step()
            ready = worker.Ready(lambda step=step: jax.block_until_ready(step()), CLOCK)
            timers[name] = partial(harness.often, partial(worker.timed, ready))
        found["error"] = _distance(values["zojax"], values["design"])
        seconds = harness.in_turn(timers, dict.fromkeys(timers, ROUNDS))
        for name, taken in seconds.items():
            found[name]["seconds"] = summary.summary(taken)
        found["time"] = summary.ratio(seconds["zojax"], seconds["design"])

    return Host(run, facts=lambda: found)


def _distance(values, expected) -> float:
    """Of signs, the design is a forward pass, so both values differ by the perturbation."""
    return float(jnp.max(jnp.abs(values - expected)) / jnp.max(jnp.abs(expected)))
