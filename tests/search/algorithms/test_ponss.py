"""PONSS: the threshold, tournaments, and what they are good for."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import search

N, K = 20, 4
SPACE = search.space(search.subset(N, max_size=K))


def programs(algorithm):
    state = algorithm.init(jax.random.key(0), SPACE, 99)
    return state, *(jax.jit(partial(f, SPACE)) for f in (algorithm.ask, algorithm.tell))


def singleton(i):
    return jnp.zeros(N).at[i].set(1.0)


@pytest.mark.parametrize("noise", ["additive", "multiplicative"])
def test_sets_within_the_threshold_stay_side_by_side(noise):
    state, _, tell = programs(search.ponss(0.2, 3, noise=noise))
    for i, value in enumerate((10.0, 10.1, 16.0)):
        state = tell(state, singleton(i)[None], jnp.array([value]))
    held = np.sort(np.asarray(state.values[1]))[:3]
    # 10 + .2 < 16, and 1.2 x 10 < .8 x 16: the last one is dominated.
    np.testing.assert_allclose(held[:2], [10, 10.1], rtol=1e-6)
    assert np.isinf(held[2])
    state = tell(state, singleton(5)[None], jnp.array([6.0]))  # 1.2 x 6 < .8 x 10
    np.testing.assert_allclose(np.asarray(state.values[1]).min(), 6)
    assert np.isfinite(state.values).sum() == 1


def test_a_set_that_comes_again_is_averaged():
    state, _, tell = programs(search.ponss(0.5, 3))
    for value in (2.0, 3.0, 4.0):
        state = tell(state, singleton(1)[None], jnp.array([value]))
    assert np.isfinite(state.values).sum() == 1
    np.testing.assert_allclose(np.asarray(state.values).min(), 3)


def test_b_plus_one_sets_play_b_rounds_and_one_leaves():
    b = 3
    state, ask, tell = programs(search.ponss(0.9, b))
    for i in range(b + 1):
        state = tell(state, singleton(i)[None], jnp.array([1.0 + 0.01 * i]))
    assert state.tournament.size == 1
    lost = {}
    for round in range(b):
        open_before = set(np.flatnonzero(state.tournament.open))
        assert len(open_before) == b + 1 - round
        players = []
        for _ in range(2):
            x, state = ask(state)
            i = int(np.argmax(x[0]))
            players.append(i)
            state = tell(state, x, jnp.array([5.0 if i == 2 else 1.0]))  # 2 loses whenever it plays
        assert len(set(players)) == 2
        lost[round] = players
    assert state.tournament.size == -1
    left = {int(np.argmax(s)) for s, v in zip(state.sets[1], state.values[1], strict=True) if v < 9}
    assert len(left) == b and 2 not in left
    x, _ = ask(state)  # mutants again
    assert np.isfinite(state.values).sum() == b


def test_a_mean_of_many_is_recommended_rather_than_luck():
    algorithm = search.ponss(0.4, 3)
    state, _, tell = programs(algorithm)
    for value in (9.0, 10.0, 11.0, 10.0):
        state = tell(state, singleton(1)[None], jnp.array([value]))
    state = tell(state, singleton(2)[None], jnp.array([9.5]))
    x, value = algorithm.best(state)
    # 10 + .4 x 10 / 2 is less than 9.5 + .4 x 9.5.
    assert x[1] == 1 and value == 10
    state = tell(state, singleton(2)[None], jnp.array([7.5]))
    assert algorithm.best(state)[0][2] == 1  # 8.5 + .4 x 8.5 / sqrt(2)
