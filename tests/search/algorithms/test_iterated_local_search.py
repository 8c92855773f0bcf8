"""Iterated local search: descents, where they begin, and what they find."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tests.search.engine._helpers import run
from zojax import search
from zojax.search._random import make_random
from zojax.search.algorithms.iterated_local_search import MIXED, OPTIMA, _first_point, _moves


def test_moves_go_to_every_other_option_and_to_neighbouring_integers():
    space = search.space([search.choice([1, 2, 3]), search.integers(5, 9)])
    moves = list(zip(*(part.tolist() for part in _moves(space)), strict=True))
    assert moves == [(0, 1), (0, 2), (1, -1), (1, 1)]


def test_every_remembered_point_is_a_local_optimum():
    space = search.space(search.choice([0, 1], (14,)))
    weights = np.triu(np.random.default_rng(0).normal(size=(14, 14)), 1).astype(np.float32)
    algorithm = search.iterated_local_search()

    def value(x):
        return -jnp.sum(weights * (x[..., :, None] != x[..., None, :]), axis=(-1, -2))

    def step(state, _):
        x, state = algorithm.ask(space, state)
        return algorithm.tell(space, state, x, value(x)), None

    state = algorithm.init(jax.random.key(0), space, 1500)
    state = jax.jit(lambda state: jax.lax.scan(step, state, None, 1500)[0])(state)
    found = np.asarray(state.optima)[np.isfinite(state.values)]
    assert len(found) > 2 and len(np.unique(found, axis=0)) == len(found)
    for x in found:
        neighbours = np.abs(x - np.eye(14))
        assert (np.asarray(value(neighbours)) >= value(x) - 1e-5).all()
    assert (np.diff(state.values[: len(found)]) >= 0).all()


def test_descents_begin_at_random_points_then_at_mixtures_and_mutants():
    space = search.space(search.choice(range(OPTIMA), (24,)))
    optima = jnp.broadcast_to(jnp.arange(OPTIMA, dtype=jnp.float32)[:, None], (OPTIMA, 24))

    def points(n):
        keys = jax.random.split(jax.random.key(0), 2000)
        begin = jax.vmap(lambda key: _first_point(space, make_random(key), optima, n))
        return np.asarray(jax.jit(begin)(keys))

    x = points(OPTIMA)
    counts = np.sort([np.bincount(row.astype(int), minlength=OPTIMA) for row in x], axis=1)
    mixed = counts[:, -3] == 0  # of two optima
    mutated = counts[:, -1] >= 24 - 5
    # A mutant with two equal mutations looks like an uneven mixture.
    even = mixed & (counts[:, -2] > 5)
    assert np.all(mixed | mutated)
    share = MIXED * (1 - 2 * 0.0033)  # a fair coin, 24 times: at most 5 of one side
    assert abs(even.mean() - share) < 5 * np.sqrt(0.24 / 2000)
    assert set(24 - counts[mutated & ~even][:, -1]) <= {2, 3, 4, 5}
    assert len(np.unique(points(3)[:, 0])) == OPTIMA


def test_a_bipartite_graph_is_cut_whole():
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 40)
    edges = (rng.random((40, 40)) < 0.2) & (side[:, None] < side)

    def uncut(x):
        return float(np.sum(edges & (x[:, None] == x)))

    space = search.choice([0, 1], (40,))
    run = partial(search.minimize, uncut, space, budget=1500, jit=False)
    values = [run(search.iterated_local_search(), key=key).best_value for key in range(2)]
    assert values == [0, 0]


def test_the_default_uses_it_where_nothing_has_an_order():
    bits = search.choice([0, 1], (30,))
    found = run(lambda x: float(np.sum(x)), bits, None, budget=900, jit=False)
    assert found.best_value == 0
    (member,) = found.state.members
    assert type(member).__name__ == "LocalSearchState"
