"""Validation loss against evaluations and seconds; one step is the whole training.

The same batches for all; the loss is evaluated outside the time. A gradient counts as two evaluations, a
forward and a backward pass, although it takes some three. Rates are the example's for mezo, and were not
tuned for the others.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zojax
from benchmarks.contestants import once
from benchmarks.contestants.backpropagation import checkpointed
from zojax import directions, lm
from zojax.examples._methods import backpropagation
from zojax.examples.finetune import TASKS

PER_STEP = {"adam, 4 directions": 8, "open_es, 16": 16, "ars, 8 directions": 16}  # else 2


def build(work, name):
    def run():
        task = TASKS[work.data]("shifts" if work.data == "reviews" else "full", 0)
        return curve(task, name, optimizer(name, work.evaluations), work)

    return once(run)


def optimizer(name: str, evaluations: int) -> optax.GradientTransformation:
    def rate(first):
        steps = evaluations // PER_STEP.get(name, 2)
        return optax.cosine_decay_schedule(first, max(1, steps))

    def estimator(n):
        return zojax.estimator(mu=1e-2, num_directions=n)

    signs, late = directions.rademacher(), evaluations / 20
    return {
        "mezo": lambda: zojax.mezo(rate(1e-3), 1e-2),
        # A momentum of 0.9 adds ten steps up: a tenth of the rate.
        "zo_sgd, momentum": lambda: zojax.zo_sgd(rate(1e-4), estimator(1), momentum=0.9),
        "spsa": lambda: zojax.spsa(1e-3 * (1 + late) ** 0.602, 1e-2, late, direction=signs),
        "adam, 4 directions": lambda: zojax.zeroth_order(optax.adam(rate(1e-3)), estimator(4)),
        "open_es, 16": lambda: zojax.open_es(rate(1e-3), 1e-2, 16, 0.0, signs),
        "ars, 8 directions": lambda: zojax.ars(rate(2e-3), 1e-2, 8, direction=signs),
        "jax.grad, adam": lambda: backpropagation(optax.adam(rate(1e-3)), lambda loss: loss),
        "jax.grad checkpointed, adam": lambda: backpropagation(
            optax.adam(rate(1e-3)), checkpointed
        ),
    }[name]()


def loss_on(task, batches):
    """`params -> mean negative log-likelihood` of some batches."""
    forward, labels = jax.jit(task.outputs), np.concatenate([b["label"] for b in batches])

    def loss(params) -> float:
        logits = np.concatenate([forward(params, task.frozen, b) for b in batches])
        return float(lm.mean_nll(jnp.asarray(logits), jnp.asarray(labels)))

    return loss


def curve(task, name, tx, work) -> dict:
    """Trains. The first step of each shape of batch compiles, unclocked."""
    is_large, step = work.data == "reviews", lm.make_step(task.objectives["nll"], tx)
    validation = loss_on(task, task.split("validation")[: 4 if is_large else None])
    per_step = PER_STEP.get(name, 2)
    steps = max(1, work.evaluations // per_step)
    batches = task.batches(0, 8 if is_large else 64)
    carry, seconds, seen = jax.tree.map(jnp.copy, (task.params, tx.init(task.params))), 0.0, set()
    marks = set(np.linspace(0, steps, work.points + 1).astype(int)[1:].tolist())
    at, clock, losses = [0], [0.0], [validation(task.params)]
    for count in range(1, steps + 1):
        batch = next(batches)
        shape = str(jax.tree.map(jnp.shape, batch))
        if shape not in seen:
            seen.add(shape)
            jax.block_until_ready(step(*jax.tree.map(jnp.copy, carry), task.frozen, batch))
        start = time.perf_counter()
        carry = jax.block_until_ready(step(*carry, task.frozen, batch))
        seconds += time.perf_counter() - start
        if count in marks:
            at.append(count * per_step)
            clock.append(seconds)
            losses.append(validation(carry[0]))
    return {"evaluations": at, "clock": clock, "validation loss": losses}
