"""POSS and PPOSS: the front against a plain reference, mutation, batches, a small optimum."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.search.engine._helpers import run
from zojax import search
from zojax.search._random import make_random
from zojax.search.algorithms._pareto import mutate

N, K = 12, 3
SPACE = search.space(search.subset(N, max_size=K))


def reference(archive, mask, value):
    """The archive of the paper, a list of (value, size, mask)."""
    new = value, int(mask.sum())
    if not np.isfinite(value) or new[1] >= 2 * K:
        return archive
    if any(a[0] <= new[0] and a[1] <= new[1] and a[:2] != new for a in archive):
        return archive
    return [a for a in archive if not (new[0] <= a[0] and new[1] <= a[1])] + [(*new, mask)]


def test_the_archive_is_that_of_the_paper():
    algorithm = search.poss()
    tell = jax.jit(lambda state, x, v: algorithm.tell(SPACE, state, x, v))
    state, archive = algorithm.init(jax.random.key(0), SPACE, 99), []
    rng = np.random.default_rng(0)
    for _ in range(150):
        mask = np.zeros(N, np.float32)
        mask[rng.choice(N, rng.integers(0, 2 * K + 1), replace=False)] = 1
        value = rng.choice([np.inf, *range(30)]) - mask.sum()  # ties are many
        archive = reference(archive, mask, value)
        state = tell(state, mask[None], jnp.array([value], jnp.float32))
        sizes = np.flatnonzero(np.isfinite(state.values)).tolist()
        kept = {(float(state.values[size]), size): state.sets[size].tolist() for size in sizes}
        assert kept == {a[:2]: a[2].tolist() for a in archive}
        allowed = [a for a in archive if a[1] <= K]
        if allowed:
            assert algorithm.best(state)[1] == min(allowed, key=lambda a: a[:2])[0]
            assert algorithm.best(state)[0].sum() <= K


def test_mutants_flip_a_bit_or_more_and_stay_below_the_limit():
    x = jnp.array([1.0] * 5 + [0.0] * 25)

    def mutants(limit):
        keys = jax.random.split(jax.random.key(0), 4000)
        made = jax.jit(jax.vmap(lambda key: mutate(make_random(key), x, limit)[0]))(keys)
        return np.asarray(made)

    free = mutants(31) != np.asarray(x)
    flips = free.sum(axis=1)
    # Binomial(30, 1/30), and one flip in place of none.
    expected, spread = 1 + (1 - 1 / 30) ** 30, flips.std() / np.sqrt(4000)
    assert flips.min() == 1 and abs(flips.mean() - expected) < 5 * spread
    share = expected / 30
    assert (np.abs(free.mean(axis=0) - share) < 5 * np.sqrt(share / 4000)).all()
    assert mutants(7).sum(axis=1).max() == 6


@pytest.mark.parametrize("batch_size", [1, 4])
def test_it_finds_the_best_regression_on_few_columns(batch_size):
    rng = np.random.default_rng(3)
    columns = rng.normal(size=(60, N))
    columns[:, 3] = columns[:, 0] + columns[:, 1] + 0.1 * columns[:, 2]  # misleads greedy selection
    target = columns[:, 0] + columns[:, 1] + 0.5 * columns[:, 5] + 0.1 * rng.normal(size=60)
    gram, moment = jnp.asarray(columns.T @ columns), jnp.asarray(columns.T @ target)

    def error(mask):
        m = mask.astype(gram.dtype)
        weights = jnp.linalg.solve(gram * m[:, None] * m + jnp.diag(1 - m), moment * m)
        return jnp.asarray(target @ target) - weights @ (moment * m)

    chosen = np.array(list(itertools.combinations(range(N), K)))
    masks = np.eye(N, dtype=np.float32)[chosen].sum(axis=1)
    best = float(jnp.min(jax.jit(jax.vmap(error))(masks)))
    algorithm = search.pposs(batch_size) if batch_size > 1 else search.poss()
    steps = int(2 * np.e * K**2 * N) // batch_size

    def run(key):
        """By ask and tell: `minimize` would list the 299 subsets."""

        def step(state, _):
            x, state = algorithm.ask(SPACE, state)
            return algorithm.tell(SPACE, state, x, jax.vmap(error)(x)), x

        state, x = jax.lax.scan(step, algorithm.init(key, SPACE, 0), None, steps)
        return *algorithm.best(state), x

    chosen, value, x = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), 32))
    found = value < best + 1e-3 * abs(best)
    assert found.sum() >= 8  # of 32 runs; about half of 1,000 do
    assert np.all(chosen.sum(axis=-1) <= K)
    # From the empty set to 2k - 1.
    assert not x[:, 0, 0].any() and x.sum(axis=-1).max() == 2 * K - 1


def test_host_and_device_are_one_line():
    space = search.subset(30, max_size=3)  # 4,526 subsets
    worth = jnp.arange(30) % 7 + 0.5
    for jit in (True, False):
        found = run(lambda mask: -(worth @ mask), space, search.poss(), budget=400, jit=jit)
        assert found.best.dtype == bool and found.best.sum() <= 3
        assert found.evaluations == 400 and found.best_value <= -16


def test_a_batch_is_told_like_its_members_one_by_one():
    space = search.space(search.subset(20, max_size=4))
    batch, single = search.pposs(6), search.poss()
    state = batch.init(jax.random.key(0), space, 99)
    x, asked = jax.jit(lambda s: batch.ask(space, s))(state)
    assert x.shape == (6, 20) and not x[0].any()
    assert len(np.unique(np.asarray(x), axis=0)) > 2
    values = jnp.array([0.0, -2.0, -1.0, jnp.inf, -3.0, -2.0])
    together = jax.jit(lambda *a: batch.tell(space, *a))(asked, x, values)
    tell = jax.jit(lambda *a: single.tell(space, *a))
    alone = asked
    for row, value in zip(x, values, strict=True):
        alone = tell(alone, row[None], value[None])
    jax.tree.map(np.testing.assert_array_equal, together, alone)


def test_a_batch_is_asked_for_like_its_members_one_by_one():
    space = search.space(search.subset(20, max_size=4))
    batch, single = search.pposs(6), search.poss()
    state = batch.init(jax.random.key(0), space, 99)
    x, together = jax.jit(lambda s: batch.ask(space, s))(state)
    ask = jax.jit(lambda s: single.ask(space, s))
    rows, alone = [], state
    for _ in range(6):
        row, alone = ask(alone)
        rows.append(row[0])
    np.testing.assert_array_equal(x, rows)
    jax.tree.map(np.testing.assert_array_equal, together, alone)
