"""One expression under zojax beside its design: values, temporaries, peaks and times, in one process."""

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks import summary, worker
from benchmarks.contestants import once
from benchmarks.contestants.zoo import COUNTED, cpu_seconds
from benchmarks.expressions import EXPRESSIONS


def build(work):
    expression = EXPRESSIONS[work.expression]()

    def run():
        found, steps, values = {}, {}, {}
        for name, (program, params) in expression.programs().items():
            args = params, jax.random.key(1), expression.x
            compiled = jax.jit(program).lower(*args).compile(compiler_options=COUNTED)
            temporaries = compiled.memory_analysis().temp_size_in_bytes
            found[name] = {"temporaries": temporaries, "peak": worker.peak_bytes(compiled)}
            run = partial(compiled, *args)
            steps[name] = lambda run=run: jax.block_until_ready(run())
            values[name] = steps[name]()
        found["error"] = _distance(values["zojax"], values["design"])
        seconds = cpu_seconds(steps, rounds=7)
        for name, taken in seconds.items():
            found[name]["seconds"] = summary.summary(taken)
        return found | {"time": summary.ratio(seconds["zojax"], seconds["design"])}

    return once(run)


def _distance(values, expected) -> float:
    """Of signs, the design is a forward pass, so both values differ by the perturbation."""
    return float(jnp.max(jnp.abs(values - expected)) / jnp.max(jnp.abs(expected)))
