"""Noise that is cheap to compile, and the materialised reference."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax import noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Wave:
    """A source for tests of views: any function of row and column serves."""

    phase: jax.Array

    def rows(self, rows, width):
        return self.columns(*noise.counters(rows, width), width)

    def columns(self, rows, columns, width):
        place = rows.astype(jnp.float32) * width + columns.astype(jnp.float32)
        return jnp.sin(self.phase + place)


def normal(seed, shape, dtype=jnp.float32):
    return jnp.asarray(numbers(seed, shape), dtype)


def numbers(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape)


def noises(shape, cut=None, rank=2, seed=0):
    """One noise of every kind that can have this shape, by name."""
    rows = noise.row_noise(Wave(jnp.float32(seed)), shape, 0.7)
    mask = jnp.asarray(numbers(seed + 1, shape) > 0)
    kinds = {
        "rows": rows,
        "masked": noise.MaskedNoise(rows, mask),
        "stored": noise.StoredNoise(normal(seed + 2, shape)),
    }
    if cut is not None:
        factors = [normal(seed + 3, (rank, *shape[:cut])), normal(seed + 4, (rank, *shape[cut:]))]
        kinds["low_rank"] = noise.LowRankNoise(*factors)
        kinds["masked_low_rank"] = noise.MaskedNoise(kinds["low_rank"], mask)
    return kinds


def dense(z, dtype=jnp.float32):
    """The values of a noise, low-rank sums taken in `dtype`."""
    if isinstance(z, noise.MaskedNoise):
        return dense(z.noise, dtype) * z.mask
    if isinstance(z, noise.LowRankNoise):
        return jnp.tensordot(z.left.astype(dtype), z.right.astype(dtype), (0, 0))
    return z.dense().astype(dtype)


def materialised(params, z, scale):
    """params + scale * z, summed in float32 or better."""

    def add(p, n):
        wide = jnp.promote_types(p.dtype, jnp.float32)
        return (p.astype(wide) + jnp.asarray(scale, wide) * dense(n, wide)).astype(p.dtype)

    return jax.tree.map(add, params, z, is_leaf=lambda x: hasattr(x, "dense"))


def each_of(fun, arguments):
    """fun of each argument, by name, in one loop: its program is compiled once."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arguments.values())
    results = lax.map(fun, stacked)
    return {
        name: jax.tree.map(lambda leaf, i=i: leaf[i], results) for i, name in enumerate(arguments)
    }


def close(actual, expected, tolerance):
    """Relative to the largest entry of each array: sums cancel."""
    jax.tree.map(partial(_close, tolerance), actual, expected)


def _close(tolerance, a, e):
    assert a.shape == e.shape and a.dtype == e.dtype, (a.shape, e.shape, a.dtype, e.dtype)
    a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
    np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(np.abs(e).max(initial=0), 1e-30))
