"""PPOSS: a batch of mutants against the same archive."""

import jax
import jax.numpy as jnp
import numpy as np

from zojax import search


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
