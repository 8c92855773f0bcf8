"""Streams of random words: uniform, and independent between keys, draws and purposes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import search
from zojax.search import _random

N = 1 << 14


def first_words(key):
    return _random.words(_random.make_random(key), 4)


def sampled(key):
    return _random.sample_unit(key, (4,))


def of_children(key):
    return jax.vmap(first_words)(_random.split(key, 2)).reshape(-1)


def draws(key):
    first, random = _random.draw(_random.make_random(key), 2)
    second, _ = _random.draw(random, 2)
    return jnp.concatenate([first, second])


def unit(words):
    return words if jnp.issubdtype(words.dtype, jnp.floating) else _random.to_unit(words)


KEYS = {
    "of successive integers": lambda: jax.vmap(jax.random.key)(jnp.arange(N)),
    "split of one": lambda: _random.split(7, N),
    "split by jax": lambda: jax.random.split(jax.random.key(7), N),
    "of another kind": lambda: jax.vmap(lambda i: jax.random.key(i, impl="rbg"))(jnp.arange(N)),
}


@pytest.mark.parametrize("keys", KEYS)
def test_numbers_are_uniform_and_independent(keys):
    keys = KEYS[keys]()
    parts = [unit(jax.vmap(f)(keys)) for f in (draws, sampled, of_children)]
    u = jnp.concatenate(parts, axis=1, dtype=jnp.float32)
    # Draws, a sample and children of the same keys, and of the next keys: nothing knows of another.
    u = np.asarray(u, np.float64) - 0.5
    neighbours = np.concatenate([u[1:], u[:-1]], axis=1)
    correlations = np.corrcoef(neighbours, rowvar=False) - np.eye(neighbours.shape[1])
    assert np.abs(correlations).max() < 5 / np.sqrt(N)
    np.testing.assert_allclose(u.mean(0), 0, atol=5 * np.sqrt(1 / 12 / N))
    np.testing.assert_allclose((u**2).mean(0), 1 / 12, rtol=5 * np.sqrt(0.8 / N))
    for column in u.T:
        counts = np.histogram(column, 64, (-0.5, 0.5))[0]
        assert np.sum((counts - N / 64) ** 2 / (N / 64)) < 63 + 5 * np.sqrt(2 * 63)


def test_different_keys_have_different_streams():
    keys = jax.vmap(jax.random.key)(jnp.arange(1 << 16))
    seeds = np.asarray(jax.vmap(lambda key: _random.make_random(key).seed)(keys), np.uint64)
    assert len(np.unique(seeds[:, 0] << np.uint64(32) | seeds[:, 1])) == len(seeds)


def test_in_float64_every_integer_of_a_large_range_is_drawn():
    with jax.enable_x64(True):
        space = search.space(search.integers(0, 2**30))
        found = np.asarray(space.sample(0, 4000), np.int64).ravel()
        drawn, _ = _random.draw(_random.make_random(0), 4000)
        wide = search.space(search.integers(0, 2**52 - 1)).sample(0, 100)
    assert (np.bincount(found % 64, minlength=64) > 0).all()
    assert drawn.dtype == np.float64 and (np.asarray(drawn) * 2**32 % 1 > 0).mean() > 0.9
    assert np.gcd.reduce(np.asarray(wide, np.int64).ravel()) == 1


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_evaluations_have_keys_of_the_users_kind_that_are_not_split_from_the_users_own(impl):
    key, seen = jax.random.key(3, impl=impl), []

    def fun(x, key):
        seen.append(key)
        return float(np.sum(np.square(x)))

    space, options = search.uniform(-1, 1, (2,)), {"with_key": True, "jit": False, "repeats": 2}
    search.minimize(fun, space, search.random_search(), budget=3, key=key, **options)
    assert all(jax.random.key_impl(k) == jax.random.key_impl(key) for k in seen)
    data = [tuple(np.asarray(jax.random.key_data(k)).tolist()) for k in seen]
    own = np.asarray(jax.random.key_data(jax.random.split(key, 8))).tolist()
    assert len(set(data)) == len(data) == 6 and not {tuple(k) for k in own} & set(data)


@pytest.mark.parametrize("repeats", [1, 2])
def test_evaluations_have_the_same_keys_on_the_host_and_on_the_device(repeats):
    def fun(x, key):
        return jnp.sum(x**2) + jax.random.normal(key)

    inputs = fun, search.uniform(-1, 1, (2,)), search.sracos()
    options = {"budget": 20, "key": 5, "with_key": True, "repeats": repeats}
    found = [search.minimize(*inputs, jit=jit, **options) for jit in (True, False)]
    np.testing.assert_allclose(found[0].history.values, found[1].history.values, atol=1e-5)
    np.testing.assert_allclose(found[0].run_values, found[1].run_values, atol=1e-5)


def test_a_users_key_is_still_there():
    key = jax.random.key(1)
    space, algorithm = search.uniform(-1, 1, (2,)), search.sracos()
    search.minimize(lambda x: jnp.sum(x**2), space, algorithm, budget=20, key=key)
    jax.random.split(key)
