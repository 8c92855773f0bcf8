"""Generations of OpenES on a control task: ask, play, tell in one program; evosax's Open_ES likewise.

A step is a few generations, and its amount the environment steps that they took.
"""

from functools import partial

import jax
import optax

import zojax
from benchmarks.contestants import Host
from zojax import directions, rollouts
from zojax.examples import _control

LEARNING_RATE, MU = 0.03, 0.1


def build(work, direction=None):
    task = _control.make(work.environment, tuple(work.hidden))
    run = _ours(task, work, getattr(directions, direction)()) if direction else _evosax(task, work)
    return Host(lambda: jax.block_until_ready(run()), amount=int(run()[1].sum()))


def _player(task, work):
    return partial(rollouts.play, task.environment, task.act, episodes=work.episodes)


def _ours(task, work, direction):
    tx = zojax.open_es(LEARNING_RATE, MU, work.population, 0.0, direction)
    params = task.init(jax.random.key(0))
    carry = rollouts.Carry(params, tx.init(params), rollouts.no_statistics(task.size))
    keys = jax.random.split(jax.random.key(1), work.generations)
    generation = rollouts.make_generation(_player(task, work), tx)
    run = jax.jit(partial(jax.lax.scan, generation))
    return lambda: run(carry, keys)[1]


def _evosax(task, work):
    from evosax.algorithms import Open_ES

    params, player = task.init(jax.random.key(0)), _player(task, work)
    optimizer, radius = optax.adam(LEARNING_RATE), optax.constant_schedule(MU)
    algorithm = Open_ES(work.population, params, optimizer=optimizer, std_schedule=radius)
    settings = algorithm.default_params
    state = algorithm.init(jax.random.key(0), params, settings)
    keys = jax.random.split(jax.random.key(1), work.generations)

    def generation(carry, key):
        state, seen = carry
        ask, play, tell = jax.random.split(key, 3)
        policies, state = algorithm.ask(ask, state, settings)
        played = jax.vmap(lambda p: player(p, seen, play))(policies)
        returns = played.returns.mean(axis=1)
        state, _ = algorithm.tell(tell, policies, -returns, state, settings)
        new = jax.tree.map(lambda leaf: leaf.sum(axis=0), played.statistics)
        return (state, rollouts.merge(seen, new)), (returns.mean(), played.lengths.sum())

    run = jax.jit(partial(jax.lax.scan, generation))
    return lambda: run((state, rollouts.no_statistics(task.size)), keys)[1]
