"""ASRACOS: several points under way, told in any order."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zojax import search

SPACE = search.space({"x": search.uniform(0, 1), "k": search.choice(range(40))})
ALGORITHM = search.asracos(in_flight=4)
ASK = jax.jit(lambda state: ALGORITHM.ask(SPACE, state))
TELL = jax.jit(lambda state, x, v: ALGORITHM.tell(SPACE, state, x, v))
START = jax.jit(lambda key: ALGORITHM.init(key, SPACE, 50))


def value_of(x):
    return float(np.sum(np.abs(np.asarray(x) - 0.3)))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-4, 3), min_size=10, max_size=60), st.integers(0, 3))
def test_any_interleaving_of_asks_and_tells(moves, seed):
    """A move below 0 asks, another one tells the pending point of that rank."""
    state, pending, told = START(jax.random.key(seed)), [], []
    for move in moves:
        if move < 0 and len(pending) < 4:
            x, state = ASK(state)
            assert x.tolist() not in [p.tolist() for p in pending]
            pending.append(x)
        elif pending:
            x = pending.pop(max(move, 0) % len(pending))
            told.append(value_of(x))
            state = TELL(state, x, jnp.array([told[-1]]))
        rows = np.asarray(state.pending)
        waiting = rows[~np.isnan(rows).any(axis=1)].tolist()
        assert sorted(waiting) == sorted(p[0].tolist() for p in pending)
        assert np.sum(np.asarray(state.asked) >= 0) == len(pending)
    if told:
        np.testing.assert_allclose(ALGORITHM.best(state)[1], min(told), rtol=1e-6)


def test_one_at_a_time_it_is_sracos():
    def fun(p):
        return jnp.abs(p["x"] - 0.3) + p["k"] % 7

    runs = [search.minimize(fun, SPACE, a, budget=60, key=0) for a in (ALGORITHM, search.sracos())]
    np.testing.assert_array_equal(runs[0].history.values, runs[1].history.values)


def test_threads_that_finish_in_any_order():
    at_once, most = [], []

    def fun(p):
        at_once.append(p)
        most.append(len(at_once))
        number = len(most)
        time.sleep(random.random() / 200)
        at_once.remove(p)
        if number == 10:
            raise RuntimeError("no value here")
        return abs(p["x"] - 0.3) + p["k"] % 7

    with ThreadPoolExecutor(4) as pool, pytest.warns(UserWarning, match="no value here"):
        found = search.minimize(fun, SPACE, ALGORITHM, budget=80, key=0, jit=False, executor=pool)
    assert found.evaluations == 80 == len(most)
    assert 2 <= max(most) <= 4
    np.testing.assert_allclose(found.best_value, np.min(found.history.values), rtol=1e-6)
    assert found.best_value < 1


def test_one_ask_too_many_replaces_the_oldest():
    state = START(jax.random.key(0))
    asked = []
    for _ in range(5):
        x, state = ASK(state)
        asked.append(x[0].tolist())
    assert sorted(np.asarray(state.pending).tolist()) == sorted(asked[1:])
    before = state.pending
    state = TELL(state, jnp.asarray([asked[0]]), jnp.array([1.0]))  # known, but not under way
    np.testing.assert_array_equal(state.pending, before)
    assert ALGORITHM.best(state)[1] == 1
