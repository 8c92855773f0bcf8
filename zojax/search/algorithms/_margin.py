"""The margin of CMA-ES for integers: each keeps some probability of its neighbours."""

import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri


def with_margin(mean, scale, deviation, low, high, alpha):
    """Mean and scale of integer coordinates, moved so that neighbours keep probability alpha / 2 or more.

    Between two thresholds l < u (halves), the probabilities below l, between, and above u are p, q and r.
    p and r rise to at least alpha / 2, and q falls. Beyond the outermost threshold, the mean moves until
    it is crossed with probability alpha.

    Args:
      mean: (d,) in steps of one; integers are the whole numbers from low to high.
      scale: (d,) the factor of each coordinate's deviation.
      deviation: (d,) standard deviations at scale 1.
      low, high: (d,) the bounds.
      alpha: the margin, 1 / (d population) in the paper.

    Returns:
      (mean, scale), (d,) each.

    References:
      Hamano, Saito, Nomura and Shirakawa, `CMA-ES with margin <https://arxiv.org/abs/2205.13482>`_, 2022.
    """
    lower, upper = low + 0.5, high - 0.5  # the outermost thresholds
    wide = jnp.maximum(scale * deviation, jnp.finfo(mean.dtype).tiny)
    # Beyond the outermost threshold.
    reach = -ndtri(alpha) * wide
    below, above = mean <= lower, mean > upper
    edge = jnp.where(below, lower, upper)
    edged = edge + jnp.clip(mean - edge, -reach, reach)
    # Between two thresholds.
    left = jnp.clip(jnp.ceil(mean - 0.5) - 0.5, lower, jnp.maximum(upper - 1, lower))
    right = left + 1
    p, r = ndtr((left - mean) / wide), ndtr((mean - right) / wide)
    q = jnp.maximum(1 - p - r, 0.0)
    half = alpha / 2
    raised_p, raised_r = jnp.maximum(p, half), jnp.maximum(r, half)
    excess = (1 - raised_p - raised_r - q) / jnp.maximum(raised_p + raised_r + q - 3 * half, 1e-12)
    new_p = jnp.clip(raised_p + excess * (raised_p - half), half, 0.5 - 1e-6)
    new_r = jnp.clip(raised_r + excess * (raised_r - half), half, 0.5 - 1e-6)
    a, b = -ndtri(new_p), -ndtri(new_r)
    changes = (p < half) | (r < half)
    centred = jnp.where(changes, (left * b + right * a) / (a + b), mean)
    widened = jnp.where(changes, 1 / ((a + b) * jnp.maximum(deviation, 1e-30)), scale)
    outer = below | above
    return jnp.where(outer, edged, centred), jnp.where(outer, scale, widened)
