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
        "jax.grad, adam": lambda: optax.adam(rate(1e-3)),
        "jax.grad checkpointed, adam": lambda: optax.adam(rate(1e-3)),
    }[name]()


def stepper(task, name: str, tx):
    """`(params, state, batch) -> (params, state)`."""

    def loss(params, batch, frozen):
        return task.objectives["nll"](params, frozen, batch)

    backward = checkpointed(loss) if "checkpointed" in name else loss

    @jax.jit
    def step(params, state, batch, frozen):
        if name.startswith("jax.grad"):
            grads = jax.grad(backward)(params, batch, frozen)
            updates, state = tx.update(grads, state, params)
        else:
            extras = {"batch": batch, "frozen": frozen}
            updates, state = tx.update(None, state, params, value_fn=loss, **extras)
        return optax.apply_updates(params, updates), state

    return lambda params, state, batch: step(params, state, batch, task.frozen)


def validation_loss(task, data: str):
    """`params -> mean negative log-likelihood` of validation rows, a few batches of reviews."""
    return loss_on(task, task.split("validation")[: 4 if data == "reviews" else None])


def loss_on(task, batches):
    """`params -> mean negative log-likelihood` of some batches."""
    forward, labels = jax.jit(task.outputs), np.concatenate([b["label"] for b in batches])

    def loss(params) -> float:
        logits = np.concatenate([forward(params, task.frozen, b) for b in batches])
        return float(lm.mean_nll(jnp.asarray(logits), jnp.asarray(labels)))

    return loss


def curve(task, name, tx, work) -> dict:
    """Trains. The first step of each shape of batch compiles, unclocked."""
    step, validation = stepper(task, name, tx), validation_loss(task, work.data)
    per_step = PER_STEP.get(name, 2)
    steps = max(1, work.evaluations // per_step)
    batches = task.batches(0, 8 if work.data == "reviews" else 64)
    params, state, seconds, seen = task.params, tx.init(task.params), 0.0, set()
    marks = set(np.linspace(0, steps, work.points + 1).astype(int)[1:].tolist())
    at, clock, losses = [0], [0.0], [validation(params)]
    for count in range(1, steps + 1):
        batch = next(batches)
        shape = str(jax.tree.map(jnp.shape, batch))
        if shape not in seen:
            seen.add(shape)
            jax.block_until_ready(step(params, state, batch))
        start = time.perf_counter()
        params, state = jax.block_until_ready(step(params, state, batch))
        seconds += time.perf_counter() - start
        if count in marks:
            at.append(count * per_step)
            clock.append(seconds)
            losses.append(validation(params))
    return {"evaluations": at, "clock": clock, "validation loss": losses}
