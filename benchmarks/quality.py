"""What a step is worth: cosine to the true gradient, and loss against evaluations and seconds.

    python -m benchmarks.quality

Cosines: a small MLP of 2,410 parameters, means over keys, the more the fewer directions, and cosine^2 is a
mean of the squares with its standard error. Loss curves:
SmolLM2-135M on the reviews of `zojax.examples.finetune`, the same batches for all, loss on the validation
split (evaluated outside the time). Rates are those of the example for mezo, and were not tuned for the
others.
"""

import argparse
import fnmatch
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zojax
from benchmarks import page, works
from benchmarks.measure import interleaved, save, saved
from benchmarks.rivals.backpropagation import checkpointed
from zojax import directions, lm
from zojax.examples.finetune import TASKS

MASK = [(True, False), (True, False)]  # weights, not biases
DIRECTIONS = {
    "rademacher": directions.rademacher(),
    "normal": directions.normal(),
    "sphere": directions.sphere(),
    "coordinate": directions.coordinate(),
    "orthogonal": directions.orthogonal(),
    "hadamard": directions.hadamard(),
    "low_rank": directions.low_rank(),
    "masked": directions.masked(directions.rademacher(), MASK),
    "sparse": directions.sparse(0.1),
}


def cosine(a, b) -> jax.Array:
    dot = optax.tree.vdot(a, b)
    return dot / jnp.maximum(optax.tree.norm(a) * optax.tree.norm(b), 1e-30)


def worth(each: list[float], evaluations: int, seconds: float) -> dict:
    """Of a step, from the cosines of several keys; a mean of squares, which noise does not cancel in."""
    square = statistics.mean(c * c for c in each)
    return {
        "cosine": statistics.mean(each),
        "cosine^2": square,
        "standard error": statistics.stdev(c * c for c in each) / len(each) ** 0.5,
        "cosine^2 / evaluation": square / evaluations,
        "ms": 1e3 * seconds,
        "cosine^2 / second": square / seconds,
    }


def keys_for(directions: int) -> int:
    """Enough that noise is some 2 % of a cosine^2: of one key it is sqrt(2 / directions)."""
    return max(64, 4096 // directions)


def cosines(counts: list[int], rounds: int) -> list[dict]:
    """One row a direction and a number of directions."""
    work = works.make("mlp", {"batch": 32, "widths": (64, 32, 10)}, 2)
    params, batch = works.fill(work.params, scale=0.2), works.fill(work.batch, 1, scale=1.0)
    loss = partial(work.loss, batch=batch)
    exact = jax.grad(loss)(params)
    rows = []
    for n in counts:
        runs, found = {}, {}
        for name, direction in DIRECTIONS.items():
            estimator = zojax.estimator(direction, num_directions=n)
            run = jax.jit(lambda key, e=estimator: e.estimate(key, loss, params).grads)
            many = jax.jit(partial(jax.lax.map, lambda key, r=run: cosine(r(key), exact)))
            found[name] = many(jax.random.split(jax.random.key(1), keys_for(n))).tolist()
            runs[name] = partial(run, jax.random.key(0))
        for name, taken in interleaved(runs, rounds).items():
            row = {"direction": name, "directions": n, "evaluations": 2 * n}
            rows.append(row | worth(found[name], 2 * n, statistics.median(taken)))
    return rows


# --- loss curves --------------------------------------------------------------------------------------


def optimizers(evaluations: int) -> dict:
    """name: (transformation, evaluations a step); None for backpropagation."""

    def rate(first, per_step):
        return optax.cosine_decay_schedule(first, max(1, evaluations // per_step))

    def estimator(n):
        return zojax.estimator(mu=1e-2, num_directions=n)

    signs = directions.rademacher()
    spsa = zojax.spsa(
        1e-3 * (1 + evaluations / 20) ** 0.602, 1e-2, evaluations / 20, direction=signs
    )
    return {
        "mezo": (zojax.mezo(rate(1e-3, 2), 1e-2), 2),
        # A momentum of 0.9 adds ten steps up: a tenth of the rate.
        "zo_sgd, momentum": (zojax.zo_sgd(rate(1e-4, 2), estimator(1), momentum=0.9), 2),
        "spsa": (spsa, 2),
        "adam, 4 directions": (zojax.zeroth_order(optax.adam(rate(1e-3, 8)), estimator(4)), 8),
        "open_es, 16": (zojax.open_es(rate(1e-3, 16), 1e-2, 16, 0.0, signs), 16),
        "ars, 8 directions": (zojax.ars(rate(2e-3, 16), 1e-2, 8, direction=signs), 16),
        "jax.grad, adam": (optax.adam(rate(1e-3, 2)), 2),
        "jax.grad checkpointed, adam": (optax.adam(rate(1e-3, 2)), 2),
    }


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
            updates, state = tx.update(
                None, state, params, value_fn=loss, batch=batch, frozen=frozen
            )
        return optax.apply_updates(params, updates), state

    return lambda params, state, batch: step(params, state, batch, task.frozen)


def curve(task, name, tx, per_step, evaluations, points, size, evaluated) -> dict:
    """Trains; validation loss at `points` places. The first step of each shape compiles, unclocked.

    A gradient counts as two evaluations: a forward and a backward pass, though it takes some three.
    """
    forward, step = jax.jit(task.outputs), stepper(task, name, tx)

    def validation(params):
        logits = np.concatenate([forward(params, task.frozen, b) for b in evaluated])
        labels = np.concatenate([b["label"] for b in evaluated])
        return float(lm.mean_nll(jnp.asarray(logits), jnp.asarray(labels)))

    steps, batches = max(1, evaluations // per_step), task.batches(0, size)
    params, state, seconds, seen = task.params, tx.init(task.params), 0.0, set()
    marks = set(np.linspace(0, steps, points + 1).astype(int)[1:].tolist())
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
    print(f"{name}: {losses[0]:.4f} to {losses[-1]:.4f} in {seconds:.1f} s", flush=True)
    return {"optimizer": name, "evaluations": at, "seconds": clock, "validation loss": losses}


def curves(data: str, evaluations: int, points: int, pattern: str) -> list[dict]:
    task = TASKS[data]("shifts" if data == "reviews" else "full", 0)
    size, evaluated = (8, task.split("validation")[:4]) if data == "reviews" else (64, None)
    evaluated = evaluated or task.split("validation")
    return [
        curve(task, name, tx, per_step, evaluations, points, size, evaluated)
        for name, (tx, per_step) in optimizers(evaluations).items()
        if fnmatch.fnmatch(name, pattern)
    ]


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=480, help="of a curve")
    parser.add_argument("--part", choices=("cosine", "loss"), help="only one of the two")
    parser.add_argument("--optimizers", default="*", help="pattern; the others' curves stay")
    parser.add_argument("--quick", action="store_true", help="few directions; digits, not SmolLM2")
    arguments = parser.parse_args(argv)
    quick = arguments.quick
    if arguments.part != "loss":
        save("cosine", cosines([4], 3) if quick else cosines([1, 16, 256], 15))
    if arguments.part != "cosine" and not quick:
        rows = curves("reviews", arguments.evaluations, 8, arguments.optimizers)
        again = [row["optimizer"] for row in rows]
        rows = [r for r in saved("quality") if r["optimizer"] not in again] + rows
        save("quality", rows, show=lambda rows: [page.ends(row) for row in rows])


if __name__ == "__main__":
    main()
