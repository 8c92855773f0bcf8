"""Comparisons of trees, which name the leaf that differs."""

import chex
import jax
import jax.numpy as jnp
import numpy as np


def assert_same_bits(actual, expected):
    """Equal trees: structure, dtypes, and every bit, also of keys, NaN and -0."""
    chex.assert_trees_all_equal_comparator(_same_bits, _difference, actual, expected)


def assert_close(actual, expected, tolerance=1e-5):
    """Equal trees: structure, shapes and dtypes, floats to rounding, all else to the bit."""
    chex.assert_trees_all_equal_comparator(
        lambda a, b: _close(a, b, tolerance), _difference, actual, expected
    )


def _same_bits(a, b) -> bool:
    a, b = _data(a), _data(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _close(a, b, tolerance) -> bool:
    a, b = _data(a), _data(b)
    if not jnp.issubdtype(a.dtype, jnp.floating):
        return _same_bits(a, b)
    limit = max(tolerance, 4 * float(jnp.finfo(a.dtype).eps))
    near = np.isclose(a.astype(np.float64), b.astype(np.float64), limit, limit, equal_nan=True)
    return a.dtype == b.dtype and a.shape == b.shape and bool(near.all())


def _difference(a, b) -> str:
    return f"{_data(a)!r} is not {_data(b)!r}"


def _data(leaf) -> np.ndarray:
    is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
    leaf = jax.random.key_data(leaf) if is_key else leaf
    return np.asarray(leaf, jnp.result_type(leaf))
