"""A random part of the coordinates, new in every step and shared by the step's directions."""

import math
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from zojax import noise
from zojax._checks import require_fraction
from zojax._direction import Direction
from zojax._trees import PyTree
from zojax.directions._combine import accumulate
from zojax.directions._independent import of_leaves, seed_of_step


def sparse(density: float) -> Direction:
    r""":math:`z_k = m_k s_k / \sqrt p`, with m_k = 1 with probability p, the `density`.

    Each step draws a mask m, which its directions share, so an update touches about p d coordinates; s are
    signs. E zz' = I over steps. One central difference on a quadratic has a variance of trace
    :math:`(d - 2 + 1/p)\|g\|^2`.

    Args:
      density: p, in [2^-32, 1], the same in all steps, rounded to a multiple of 2^-32. With p below 1/d
        most steps move no coordinate.

    Raises:
      ValueError: if the density is outside [2^-32, 1].
      TypeError: if it is a schedule, traced, or not a number.

    References:
      Liu et al., `Sparse MeZO <https://arxiv.org/abs/2402.15751>`_, 2024 (there with a mask from the
      weights' magnitudes: see `masked`).

    >>> import jax, jax.numpy as jnp
    >>> from zojax import directions
    >>> like = jax.ShapeDtypeStruct((10_000,), jnp.float32)
    >>> direction = directions.sparse(0.1)
    >>> z = direction.draw(direction.frame(jax.random.key(0), 1, like), 0, like).dense()
    >>> 900 < int(jnp.sum(z != 0)) < 1100
    True
    """
    density = require_fraction("density", density)
    if density < 2**-32:
        raise ValueError(
            f"density must be at least 2^-32 = {2**-32:.3g}, got {density:.3g}: "
            "directions.coordinate() moves one coordinate at a time."
        )
    # A 32-bit hash below the threshold keeps its coordinate.
    threshold = round(density * 2**32)
    draw = partial(_draw, threshold)
    return Direction(seed_of_step, draw, accumulate(draw))


def _draw(threshold: int, seed: jax.Array, index, like: PyTree) -> PyTree:
    def kept(own, leaf, mask):
        return noise.row_noise(_Kept(noise.Signs(own), mask, threshold), leaf.shape)

    # Seeds of an index that no direction has.
    masks = noise.child_seeds(seed, np.uint32(2**32 - 2), len(jax.tree.leaves(like)))
    return of_leaves(kept, seed, index, like, masks)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Kept:
    """Calibrated signs where the coordinate's hash is below the threshold, zero elsewhere."""

    signs: noise.Signs
    mask_seed: noise.Seed
    threshold: int = field(metadata={"static": True})

    @property
    def scale(self) -> float:
        return math.sqrt(2**32 / self.threshold)

    def rows(self, rows: jax.Array, width: int) -> jax.Array:
        return self.signs.rows(rows, width) * self._mask(*noise.counters(rows, width))

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        return self.signs.columns(rows, columns, width) * self._mask(rows, columns)

    def _mask(self, rows, columns):
        word, _ = noise.threefry((self.mask_seed[0], self.mask_seed[1]), rows, columns)
        # Not `word < threshold`: the threshold may be 2^32, beyond uint32. A choice, no product with the
        # scale: the compiler would move that to coefficients, and round otherwise on some meshes.
        kept = word <= np.uint32(self.threshold - 1)
        return jnp.where(kept, np.float32(self.scale), np.float32(0))
