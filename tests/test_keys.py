"""Seeds: what makes a key, and what is refused because JAX would keep a part of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from zojax import attacks, search
from zojax._keys import as_key

IMAGE = np.full((1, 4, 4), 0.5, np.float32)
SESSION = attacks.ask_tell(attacks.square_attack(), 0.1, budget=5)
REFUSED = {
    "two to the 32": 2**32,
    "beyond 64 bits": 2**70,
    "negative": -1,
    "numpy": np.int64(2**32),
    "numpy unsigned": np.uint64(2**64 - 1),
    "numpy array": np.array(2**40),
    "jax": jnp.int32(-1),
}


def never(*args, **kwargs):
    raise AssertionError("the function was called before the key was checked")


def label(images):
    return jnp.zeros(len(images), int)


ENTRY_POINTS = {
    "estimate": lambda key: zojax.estimator().estimate(key, never, jnp.ones(2)),
    "ask": lambda key: zojax.estimator().ask(key, jnp.ones(2)),
    "combine": lambda key: zojax.estimator().combine(key, jnp.ones(2), jnp.ones(1)),
    "grad": lambda key: zojax.grad(never)(key, jnp.ones(2)),
    "value_and_grad": lambda key: zojax.value_and_grad(never)(key, jnp.ones(2)),
    "zeroth_order": lambda key: zojax.zeroth_order(key=key),
    "ars": lambda key: zojax.ars(key=key),
    "mezo": lambda key: zojax.mezo(key=key),
    "open_es": lambda key: zojax.open_es(key=key),
    "spsa": lambda key: zojax.spsa(0.1, 0.1, key=key),
    "zo_sgd": lambda key: zojax.zo_sgd(0.1, key=key),
    "minimize": lambda key: zojax.minimize(never, jnp.ones(2), zojax.mezo(), 1, key=key),
    "search.minimize": lambda key: search.minimize(never, search.uniform(0, 1), budget=9, key=key),
    "Algorithm.init": lambda key: search.sracos().init(key, search.space(search.uniform(0, 1)), 9),
    "Space.sample": lambda key: search.space(search.uniform(0, 1)).sample(key, 2),
    "attack": lambda key: attacks.square(key, never, IMAGE, np.zeros(1, int), 0.1),
    "attack on the host": lambda key: attacks.square(
        key, never, IMAGE, np.zeros(1, int), 0.1, jit=False
    ),
    "ask_tell": lambda key: SESSION.init(key, IMAGE, np.zeros(1, int)),
    "smoothed": lambda key: attacks.smoothed(label, 2, key=key),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_seeds_that_would_be_cut_are_refused_by_name(name, kind):
    with pytest.raises(ValueError, match=r"^key must be from 0 to 2\*\*32 - 1, got"):
        ENTRY_POINTS[name](REFUSED[kind])


@pytest.mark.parametrize("kind", REFUSED)
def test_x64_changes_nothing(kind):
    with jax.enable_x64(True), pytest.raises(ValueError, match="key must be from 0 to"):
        as_key(REFUSED[kind])
    with jax.enable_x64(True):
        assert as_key(2**32 - 1) == jax.random.key(2**32 - 1)


@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1])
@pytest.mark.parametrize("kind", [int, np.int64, np.uint64, np.uint32, jnp.uint32, np.array])
def test_seeds_of_any_kind_are_the_key_of_jax(kind, seed):
    assert as_key(kind(seed)) == jax.random.key(seed)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_seeds_are_those_of_the_implementation_that_is_set(impl):
    with jax.default_prng_impl(impl):
        key = as_key(2**32 - 1)
        assert jnp.all(jax.random.key_data(key) == jax.random.key_data(jax.random.key(2**32 - 1)))


def test_a_traced_seed_is_a_key():
    keys = jax.vmap(as_key)(jnp.arange(3))
    assert jnp.all(keys == jnp.stack([jax.random.key(i) for i in range(3)]))


@pytest.mark.parametrize("seed", [True, np.bool_(True), 1.0, np.float32(1), "0", None])
def test_what_is_no_int_is_refused(seed):
    with pytest.raises(TypeError, match="key must be an int or a jax.random key"):
        as_key(seed)
