"""Independent standard normals: Gaussian smoothing, as in MeZO, OpenES and Nesterov-Spokoiny."""

from zojax import noise
from zojax._direction import Direction
from zojax.directions._independent import independent


def normal() -> Direction:
    r"""Entries drawn from N(0, 1).

    One central difference on a quadratic has
    :math:`\mathrm{Cov}(\hat g) = \|g\|^2 I + gg^\top`, of trace :math:`(d+1)\|g\|^2`.

    Returns:
      A `Direction`; z has the shape of each float leaf.

    References:
      Nesterov and Spokoiny, `Random gradient-free minimization of convex functions
      <https://doi.org/10.1007/s10208-015-9296-2>`_, 2017.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import directions
    >>> like = jax.ShapeDtypeStruct((1000, 10), jnp.float32)
    >>> direction = directions.normal()
    >>> z = direction.draw(direction.frame(jax.random.key(0), 1, like), 0, like).dense()
    >>> bool(abs(z.mean()) < 0.05), bool(abs(z.std() - 1) < 0.05)
    (True, True)
    """
    return independent(noise.Normals)
