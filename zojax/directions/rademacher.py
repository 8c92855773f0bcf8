"""Independent signs: the default, as in SPSA; the least variance among independent entries."""

from zojax import noise
from zojax._direction import Direction
from zojax.directions._independent import independent


def rademacher() -> Direction:
    r"""Entries +1 or -1, each with probability 1/2.

    One central difference on a quadratic has
    :math:`\mathrm{Cov}(\hat g) = \|g\|^2 I + gg^\top - 2\,\mathrm{diag}(g^2)`,
    of trace :math:`(d-1)\|g\|^2`: less than normal entries, and cheaper, since a sign is one bit.

    Returns:
      A `Direction`; z has the shape of each float leaf.

    References:
      Spall, `Multivariate stochastic approximation using a simultaneous perturbation gradient
      approximation <https://doi.org/10.1109/9.119632>`_, 1992.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import directions
    >>> like = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    >>> direction = directions.rademacher()
    >>> frame = direction.frame(jax.random.key(0), 1, like)
    >>> jnp.abs(direction.draw(frame, 0, like).dense())
    Array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """
    return independent(noise.Signs)
