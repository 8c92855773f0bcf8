"""Value suppression, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import search

SPACE = search.space(search.uniform(0, 1, (2,)))


def test_positives_are_evaluated_again_when_nothing_enters():
    times, idle, blend = 3, 4, 0.25
    algorithm = search.ssracos(times=times, idle=idle, blend=blend, num_positives=2)
    state = algorithm.init(jax.random.key(0), SPACE, 50)
    ask = jax.jit(lambda state: algorithm.ask(SPACE, state))
    tell = jax.jit(lambda state, x, v: algorithm.tell(SPACE, state, x, jnp.array([v])))

    def evaluate(value):
        nonlocal state
        x, state = ask(state)
        state = tell(state, x, value)
        return x[0].tolist()

    first, second = evaluate(1.0), evaluate(2.0)
    for _ in range(idle):
        evaluate(9.0)
    # Each positive is evaluated `times` times, the best first, though others come in between in rank.
    assert [evaluate(v) for v in (5.0, 6.0, 7.0)] == [first] * times
    assert [evaluate(v) for v in (2.0, 3.0, 4.0)] == [second] * times
    values = np.asarray(state.inner.values)[np.asarray(state.inner.positives)]
    expected = [2 * (1 - blend) + 3 * blend, 1 * (1 - blend) + 6 * blend]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    x, mean = algorithm.best(state)  # the least mean, not the least value
    assert mean == 3 and x.tolist() == second
    # Suppressed once, they are left alone.
    assert all(evaluate(9.0) not in (first, second) for _ in range(2 * idle + 2))
    # What enters later is suspected anew.
    newcomer = evaluate(0.5)
    for _ in range(idle):
        evaluate(9.0)
    assert [evaluate(1.0) for _ in range(times)] == [newcomer] * times
    assert algorithm.best(state)[1] == 1


@pytest.mark.slow  # how well it does: 400,000 evaluations
def test_it_finds_better_points_than_sracos_where_values_are_noisy():
    space = search.space(search.uniform(-1, 1, (10,)))

    def true_value(x):
        return jnp.sum((x - 0.2) ** 2)

    def run(algorithm, key):
        def step(state, i):
            x, state = algorithm.ask(space, state)
            value = true_value(x[0]) + 0.5 * jax.random.normal(jax.random.fold_in(key, i))
            return algorithm.tell(space, state, x, value[None]), None

        state, _ = jax.lax.scan(step, algorithm.init(key, space, 4000), jnp.arange(4000))
        return true_value(algorithm.best(state)[0])

    keys = jax.random.split(jax.random.key(0), 48)
    plain, suppressed = (
        np.asarray(jax.jit(lambda keys, a=a: jax.lax.map(lambda key: run(a, key), keys))(keys))
        for a in (search.sracos(), search.ssracos(times=50, idle=200))
    )
    gap = plain.mean() - suppressed.mean()
    assert gap > 2.5 * np.sqrt((plain.var() + suppressed.var()) / 48)
