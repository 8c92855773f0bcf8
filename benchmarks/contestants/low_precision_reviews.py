"""SmolLM2 on short reviews in one of the precisions; one step is the whole training.

The optimizers are those of `zojax.examples.finetune`, at its default rates.
"""

import time
from itertools import islice

import jax
import jax.numpy as jnp

import zojax
from benchmarks.contestants import once
from benchmarks.contestants.training import loss_on
from benchmarks.worker import peak_bytes
from zojax import lm
from zojax.examples import finetune
from zojax.examples._finetune_options import make_parser

LONGEST, BATCH = 16, 4  # tokens of a review; reviews


def build(work):
    return once(lambda: trained(**vars(work)))


def trained(weights: str, evaluations: int, seed: int) -> dict:
    """Losses before and after a training, seconds of a step and its peak."""
    params = weights if weights in ("scales", "integers") else "full"
    steps = evaluations // (8 if weights == "integers" else 2)
    given = ["--params", params, "--steps", str(steps), "--batch", str(BATCH)]
    given += ["--seed", str(seed)]
    tx = finetune.make_optimizer(finetune.settle(make_parser().parse_args(given)))
    task = lm.reviews_task(params, longest=LONGEST)
    if weights == "bfloat16":
        tx = zojax.stochastic_rounding(tx)
        task = task._replace(params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), task.params))
    loss, step = loss_on(task, task.split("held_out")), lm.make_step(task.objectives["nll"], tx)
    before, batches = loss(task.params), list(islice(task.batches(seed, BATCH), steps))
    carry = jax.tree.map(jnp.copy, (task.params, tx.init(task.params)))
    peak = peak_bytes(step.lower(*carry, task.frozen, batches[0]).compile())
    seconds = []
    for batch in batches:
        start = time.process_time()
        carry = jax.block_until_ready(step(*carry, task.frozen, batch))
        seconds.append(time.process_time() - start)
    size = sum(x.nbytes for x in jax.tree.leaves((task.params, task.frozen)))
    return {
        "weights": weights,
        "steps": steps,
        "before": before,
        "after": loss(carry[0]),
        "cpu_seconds": sorted(seconds)[steps // 2],
        "parameters": size,
        "peak": peak,
    }
