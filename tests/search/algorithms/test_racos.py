"""RACOS: sets that stay as they are within a round."""

import jax
import jax.numpy as jnp
import numpy as np

from zojax import search


def test_rounds_keep_the_best_of_old_and_new():
    space = search.space(search.uniform(0, 1, (2,)))
    algorithm = search.racos(num_positives=2)
    state = algorithm.init(jax.random.key(0), space, 50)
    total = len(state.values)
    ask, tell = (jax.jit(lambda *a, f=f: f(space, *a)) for f in (algorithm.ask, algorithm.tell))
    rng = np.random.default_rng(0)
    kept = []
    for length in [total] + 3 * [total - 2]:
        new = []
        for i in range(length):
            x, state = ask(state)
            np.testing.assert_array_equal(np.sort(state.values)[: len(kept)], kept)
            new.append(np.float32(rng.random()))
            state = tell(state, x, jnp.array([new[-1]]))
            assert state.left == (total - 2 if i == length - 1 else length - 1 - i)
        kept = np.sort([*kept, *new])[:total]
        np.testing.assert_array_equal(state.values, kept)
        assert algorithm.best(state)[1] == kept[0]
