"""One method of the race on SmolLM2 and movie reviews; one step is all its trials and runs.

Trials on a quarter of the evaluations choose the rate by the validation loss, then the seeds train.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from benchmarks.contestants import once
from benchmarks.contestants.race import shared
from zojax import lm
from zojax.examples._methods import METHODS
from zojax.examples._race import RATES, Work, drawn, race
from zojax.lm import assets
from zojax.lm.tasks import _reviews

TRIALS = RATES[2:-1:2]  # 1e-4 to 1e-1, decades
MU, LONGEST = 1e-2, 20


def build(work):
    def run():
        start = time.process_time()
        on_validation, on_held_out = works(work.trained, work.reviews, work.batch)
        make, few = METHODS[work.method], work.evaluations // 4
        trials = race(on_validation, make, few, TRIALS, [0], points=1)
        rate = TRIALS[trials.best()]
        seeds = range(work.seeds)
        runs = race(on_held_out, make, work.evaluations, [rate], seeds, points=work.points)
        found = {"trained": work.trained, "rate": rate}
        found["by rate"] = trials.validation[:, 0, -1].tolist()
        found["test"] = runs.validation[0, :, -1].tolist()
        return found | shared(work.method, on_held_out, runs, start)

    return once(run)


def works(trained: str, reviews: int, batch: int) -> tuple[Work, Work]:
    """The same training twice, observed on validation and on held-out reviews."""
    task = lm.reviews_task(trained, longest=LONGEST)
    train, *observed = outputs_below(task, reviews)
    # Half of each label, as the batches of the task: negative reviews come first.
    pairs = jax.tree.map(lambda x: jnp.stack(jnp.split(x, 2), axis=1), train)

    nll = task.objectives["nll"]

    def loss(frozen, params, batch):
        return nll(params, frozen, batch)

    def draw(pairs, key):
        return jax.tree.map(jnp.concatenate, drawn(key, pairs, batch // 2))

    def observed_loss(frozen, part, params):
        return nll(params, frozen, part)

    def on(part):
        return Work(
            lambda key: task.params,
            Partial(loss, task.frozen),
            Partial(draw, pairs),
            Partial(observed_loss, task.frozen, part),
            lambda params: jnp.zeros(()),
            MU,
        )

    validation, held_out = map(on, observed)
    return validation, held_out


def outputs_below(task: lm.Task, reviews: int) -> list[dict]:
    """A batch of each split after the frozen layers, kept in a file for the other methods."""

    def make(_, folder):
        batches = [[next(task.batches(0, reviews))], *map(task.split, ("validation", "held_out"))]
        named = {
            f"{split} {name}": np.concatenate([batch[name] for batch in batches[split]])
            for split in range(3)
            for name in batches[split][0]
        }
        np.savez(folder / names[0], **named)

    names = [f"reviews-{LONGEST}-{reviews}.npz"]
    with np.load(assets.derived(_reviews.ARCHIVE, names, make)[0]) as found:
        parts = ("hidden", "position", "label")
        return [{name: jnp.asarray(found[f"{i} {name}"]) for name in parts} for i in range(3)]
