"""Keys: an int, a typed key or a legacy key becomes a typed key of JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import brief


def require_seed(name: str, value) -> int:
    """The int; raises ValueError beyond 32 bits, as JAX drops higher bits of a seed without x64."""
    seed = int(value)
    if not 0 <= seed < 2**32:
        raise ValueError(
            f"{name} must be from 0 to 2**32 - 1, got {brief(value)}; take it modulo 2**32."
        )
    return seed


def as_key(key: Any) -> jax.Array:
    """A typed key from an int, a typed key or a legacy uint32 key.

    An int is from 0 to 2^32 - 1, with or without x64. JAX takes the last 32 bits of a traced int, or 64
    under x64.

    Raises:
      ValueError: an int outside that range, or an array of keys.
      TypeError: anything else.

    >>> as_key(0) == as_key(jax.random.PRNGKey(0)) == jax.random.key(0)
    Array(True, dtype=bool)
    >>> as_key(2**32 - 1) == jax.random.key(2**32 - 1)
    Array(True, dtype=bool)
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != ():
            raise ValueError(
                f"key must be a single key, got shape {key.shape}; use jax.vmap over keys."
            )
        return key
    if isinstance(key, (jax.Array, np.ndarray)) and key.shape == (2,) and key.dtype == jnp.uint32:
        return jax.random.wrap_key_data(jnp.asarray(key))
    is_integer = (
        hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jnp.integer) and key.shape == ()
    )
    if not is_integer and (not isinstance(key, int) or isinstance(key, bool)):
        raise TypeError(
            f"key must be an int or a jax.random key, got {brief(key)}; try jax.random.key(0)."
        )
    if isinstance(key, jax.core.Tracer):
        return jax.random.key(key)
    seed = require_seed("key", key)
    impl = jax.config.jax_default_prng_impl  # type: ignore[attr-defined]  # defined at run time
    if impl == "threefry2x32":
        # The data of `jax.random.key(seed)`, which would compile two programs.
        data: Any = np.array([0, seed], np.uint32)
        return jax.random.wrap_key_data(data, impl=impl)
    return jax.random.key(seed)


def is_key(leaf: Any) -> bool:
    """Is a leaf a typed key of JAX?"""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def key_data(leaf: Any) -> Any:
    """The numbers of a key; any other leaf unchanged."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf
