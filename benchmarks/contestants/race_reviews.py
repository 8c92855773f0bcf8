"""One method of the race on SmolLM2 and movie reviews; one step is all its trials and runs.

Trials on a quarter of the evaluations choose the rate by the validation loss, then each seed trains.
"""

import time
from functools import lru_cache
from itertools import islice

import jax
import numpy as np
import optax

from benchmarks.contestants import once
from benchmarks.contestants.training import loss_on
from zojax import lm
from zojax.examples._methods import METHODS, evaluations
from zojax.examples._race import RATES

TRIALS = RATES[::2]  # 1e-5 to 1, decades
MU, BATCH = 1e-2, 8


def build(work):
    def run():
        start = time.process_time()
        steps = work.evaluations // evaluations(METHODS[work.method])
        train = trainer(work, steps)
        trials = [train(rate, 0, steps // 4, "validation") for rate in TRIALS]
        best = int(np.argmin(np.where(np.isfinite(trials), trials, np.inf)))
        test = [train(TRIALS[best], seed, steps, "held_out") for seed in range(work.seeds)]
        settings = {"params": work.params, "method": work.method, "rate": TRIALS[best]}
        seconds = time.process_time() - start
        return settings | {"by rate": trials, "test": test, "cpu_seconds": seconds}

    return once(run)


def trainer(work, most: int):
    """`(rate, seed, steps, split) -> loss`, after a training whose rate decays to 0 by a cosine."""
    task, make = lm.reviews_task(work.params), METHODS[work.method]
    parts = {name: task.split(name)[: work.batches] for name in ("validation", "held_out")}
    losses = {name: loss_on(task, part) for name, part in parts.items()}

    def loss(params, batch, frozen):
        return task.objectives["nll"](params, frozen, batch)

    @jax.jit
    def step(params, state, key, rate, batch, frozen):
        extras = {"value_fn": loss, "batch": batch, "frozen": frozen}
        updates, state = make(MU, key).update(None, state, params, **extras)
        return jax.tree.map(lambda p, u: p + rate * u, params, updates), state

    @lru_cache
    def batches(seed):  # the frozen layers take longer than a trial
        return list(islice(task.batches(seed, BATCH), most))

    def train(rate, seed, steps, split):
        params, key = task.params, jax.random.key(seed)
        state, decay = make(MU, key).init(params), optax.cosine_decay_schedule(rate, steps)
        for i, batch in enumerate(batches(seed)[:steps]):
            params, state = step(params, state, key, decay(i), batch, task.frozen)
        return losses[split](params)

    return train
