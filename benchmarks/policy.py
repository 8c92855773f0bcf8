"""Environment steps a second of OpenES, beside evosax's on the same policy, episodes and population.

    python -m pip install ".[bench]"
    python -m benchmarks.policy

Ours: ask, play, tell in one compiled generation, as `zojax.examples.policy` does. evosax's Open_ES with
Adam does the same. Pendulum's episodes all have 200 steps, so that both play as many.
"""

import argparse
import statistics
from functools import partial

import jax
import optax

import zojax
from benchmarks.measure import against, interleaved, positive, save
from zojax import directions, rollouts
from zojax.examples import _control

LEARNING_RATE, MU = 0.03, 0.1


def player(task, episodes):
    return partial(rollouts.play, task.environment, task.act, episodes=episodes)


def ours(task, population, episodes, generations, direction):
    tx = zojax.open_es(LEARNING_RATE, MU, population, 0.0, direction)
    params = task.init(jax.random.key(0))
    carry = rollouts.Carry(params, tx.init(params), rollouts.no_statistics(task.size))
    keys = jax.random.split(jax.random.key(1), generations)
    generation = rollouts.make_generation(player(task, episodes), tx)
    run = jax.jit(partial(jax.lax.scan, generation))
    return lambda: run(carry, keys)[1]


def theirs(task, population, episodes, generations):
    from evosax.algorithms import Open_ES

    params = task.init(jax.random.key(0))
    algorithm = Open_ES(
        population,
        params,
        optimizer=optax.adam(LEARNING_RATE),
        std_schedule=optax.constant_schedule(MU),
    )
    settings = algorithm.default_params
    state = algorithm.init(jax.random.key(0), params, settings)
    keys = jax.random.split(jax.random.key(1), generations)

    def generation(carry, key):
        state, seen = carry
        ask, play, tell = jax.random.split(key, 3)
        policies, state = algorithm.ask(ask, state, settings)
        played = jax.vmap(lambda p: player(task, episodes)(p, seen, play))(policies)
        returns = played.returns.mean(axis=1)
        state, _ = algorithm.tell(tell, policies, -returns, state, settings)
        new = jax.tree.map(lambda leaf: leaf.sum(axis=0), played.statistics)
        return (state, rollouts.merge(seen, new)), (returns.mean(), played.lengths.sum())

    run = jax.jit(partial(jax.lax.scan, generation))
    return lambda: run((state, rollouts.no_statistics(task.size)), keys)[1]


def measure(name, population, episodes, hidden, generations, rounds) -> list[dict]:
    task = _control.make(name, hidden)
    work = task, population, episodes, generations
    contestants = {
        "zojax, dense": ours(*work, directions.normal()),
        "zojax, low rank": ours(*work, directions.low_rank()),
        "evosax Open_ES": theirs(*work),
    }
    steps = {who: int(run()[1].sum()) for who, run in contestants.items()}
    seconds = interleaved(contestants, rounds)
    rates = {who: [steps[who] / s for s in taken] for who, taken in seconds.items()}
    rows = []
    for who in rates:
        rows.append(
            {
                "environment": name,
                "policy": "x".join(map(str, hidden)),
                "population": population,
                "episodes": episodes,
                "by": who,
                "steps / s": statistics.median(rates[who]),
                **against("evosax", rates[who], rates["evosax Open_ES"]),
            }
        )
    return rows


WORK = [
    ("pendulum", 256, 4, (32, 32), 3),
    ("pendulum", 256, 1, (128, 128), 3),
    ("cartpole", 256, 4, (32, 32), 3),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=positive, default=15)
    arguments = parser.parse_args()
    save("policy", [row for work in WORK for row in measure(*work, arguments.rounds)])


if __name__ == "__main__":
    main()
