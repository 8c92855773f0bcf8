"""Processor time to trace, lower and compile the step of another contestant, every time anew."""

import importlib
import time

import jax

from benchmarks.contestants import CONTESTANTS, Host


def build(work, of):
    entry = CONTESTANTS[of]
    module = importlib.import_module(f"benchmarks.contestants.{entry.module}")
    program = module.build(work, **entry.settings)
    carry = jax.eval_shape(program.start, work.params)

    def run():
        jax.clear_caches()
        jax.jit(program.step, donate_argnums=0).lower(carry, work.batch).compile()

    return Host(run, clock=time.process_time)
