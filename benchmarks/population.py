"""Populations of low-rank members against plain batched inference on as many examples.

    python -m benchmarks.population

Evaluation alone starts from drawn factors; a generation draws them, evaluates, shapes and updates.
"""

import argparse
import statistics

import jax
import jax.numpy as jnp
import optax

import zojax
from benchmarks.measure import against, interleaved, positive, random_like, save
from benchmarks.models import Model, mlp, transformer
from zojax import directions, implicit, shaping

MU = 1e-2


def _repeat(model: Model, members: int) -> dict:
    """Data for every direction: the batch, with a leading axis of directions."""
    return {
        name: jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype)
        for name, leaf in model.batch.items()
    }


def contestants(model: Model, pairs: int, direction) -> dict:
    """Antithetic pairs, every pair with a batch of its own."""
    params, batch = random_like(model.params), random_like(_repeat(model, pairs), key=1)
    key = jax.random.key(0)
    like = jax.eval_shape(lambda: params)
    # Inference sees as many examples as the population: both members of a pair count.
    merged = {k: jnp.concatenate([x, x]).reshape(-1, *x.shape[2:]) for k, x in batch.items()}
    inference = jax.jit(lambda p, b: model.loss(p, **b))

    @jax.jit
    def draw(key):
        frame = direction.frame(key, pairs, like)
        return jax.vmap(lambda i: direction.draw(frame, i, like))(jnp.arange(pairs))

    @jax.jit
    def evaluate(params, noise, batch):
        def pair(z, b):
            at = lambda o: implicit.evaluate(lambda p: model.loss(p, **b), params, z, o * MU)  # noqa: E731
            return jax.vmap(at)(jnp.array([1.0, -1.0]))

        return jax.vmap(pair)(noise, batch)

    estimator = zojax.estimator(
        direction,
        shaping=shaping.standardize(),
        mu=MU,
        num_directions=pairs,
        in_axes=dict.fromkeys(batch, 0),
    )
    tx = zojax.zeroth_order(optax.sgd(1e-3), estimator)
    state = tx.init(params)

    @jax.jit
    def generation(params, state, batch):
        updates, state = tx.update(None, state, params, value_fn=model.loss, **batch)
        return optax.apply_updates(params, updates), state

    noise = draw(key)
    return {
        "inference": lambda: inference(params, merged),
        "zojax, evaluation alone": lambda: evaluate(params, noise, batch),
        "zojax, generation": lambda: generation(params, state, batch),
    }


WORK = {
    "MLP, 256 members, 1 example": (lambda: mlp(batch=1), 128),
    "MLP, 256 members, 32 examples": (lambda: mlp(batch=32), 128),
    "transformer D 256, 64 directions, 32 tokens": (
        lambda: transformer(
            batch=1, length=32, layers=4, width=256, hidden=1024, vocabulary=2048, heads=4
        ),
        64,
    ),
}


def measure(name: str, rounds: int) -> list[dict]:
    make, pairs = WORK[name]
    seconds = interleaved(contestants(make(), pairs, directions.low_rank()), rounds)
    rows = []
    for label, taken in seconds.items():
        rows.append(
            {
                "work": name,
                "contestant": label,
                "ms": 1e3 * statistics.median(taken),
                **against("inference", taken, seconds["inference"]),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=positive, default=31)
    arguments = parser.parse_args()
    save("population", [row for name in WORK for row in measure(name, arguments.rounds)])


if __name__ == "__main__":
    main()
