"""Orthogonal sign patterns, computed and not stored: rows of a randomised Hadamard matrix."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax import noise
from zojax._direction import Direction
from zojax._trees import PyTree, starts, total_size
from zojax.directions._combine import accumulate
from zojax.directions._independent import of_leaves, seed_of_step
from zojax.directions._permutation import permute


def hadamard() -> Direction:
    r""":math:`z_k = s_i D_k H_{\pi(i) k}`: Sylvester's Hadamard matrix, random rows, random signs.

    :math:`H_{ik} = (-1)^{\mathrm{popcount}(i \wedge k)}` has the padded size
    :math:`d' = 2^{\lceil \log_2 d \rceil}`; D is a random sign per coordinate, shared by the step,
    s one per direction, and pi a random permutation of the rows. Any q <= d' directions are orthogonal in
    the padded space. On a quadratic the variance has trace
    :math:`(d'/q - 1) \frac{d - 1}{d' - 1} \|g\|^2`, which is :math:`(d/q - 1)\|g\|^2` for d = d'. The
    gradient of q = d' is exact for every d. Nothing is stored; entries are signs, as in `rademacher`.

    Raises:
      ValueError: if a step asks for more than d' directions.

    References:
      Choromanski et al., `Structured evolution with compact architectures for scalable policy
      optimization <https://arxiv.org/abs/1804.02395>`_, 2018.

    >>> import jax.numpy as jnp, zojax
    >>> estimator = zojax.estimator(zojax.directions.hadamard(), num_directions=4, mu=0.1)
    >>> value, grads = zojax.value_and_grad(lambda x: x[0] ** 2 + x[1], estimator)(0, jnp.ones(3))
    >>> bool(jnp.allclose(grads, jnp.array([2.0, 1.0, 0.0]), atol=1e-3))
    True
    """
    return Direction(_frame, _draw, accumulate(_draw), max_directions=_padded)


def _frame(key: jax.Array, num_directions: int, like: PyTree) -> jax.Array:
    if total_size(like) > 2**31:
        raise ValueError(
            f"hadamard() numbers coordinates with 31 bits, got d = {total_size(like)}; "
            "use directions.masked to perturb a part, or directions.rademacher."
        )
    return seed_of_step(key, num_directions, like)


def _draw(seed: jax.Array, index, like: PyTree) -> PyTree:
    row = permute(seed, jnp.asarray(index).astype(jnp.uint32), _padded(like))
    # Every row is 1 at the first coordinate. A sign for each direction keeps directions uncorrelated.
    words = noise.row_keys(seed, jnp.uint32(2**32 - 3))
    flip = noise.mix(words, jnp.asarray(index).astype(jnp.uint32)) >> np.uint32(31)

    def pattern(own, leaf, start):
        source = _Pattern(row, flip, jnp.uint32(start), noise.Signs(own))
        return noise.row_noise(source, leaf.shape)

    # All directions share the signs D: child seeds of a fixed index, which no direction has.
    return of_leaves(pattern, seed, np.uint32(2**32 - 2), like, starts(like))


def _padded(like: PyTree) -> int:
    return 1 << (total_size(like) - 1).bit_length()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Pattern:
    """signs * H[index, start + flat position], all negated where `flip` is 1."""

    index: jax.Array
    flip: jax.Array
    start: jax.Array
    signs: noise.Signs

    def rows(self, rows: jax.Array, width: int) -> jax.Array:
        columns = lax.broadcasted_iota(jnp.uint32, rows.shape + (width,), rows.ndim)
        return self.signs.rows(rows, width) * self._walsh(rows[..., None], columns, width)

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        return self.signs.columns(rows, columns, width) * self._walsh(rows, columns, width)

    def _walsh(self, rows, columns, width):
        position = self.start + rows * np.uint32(width) + columns
        parity = (lax.population_count(position & self.index) + self.flip) & np.uint32(1)
        return 1.0 - 2.0 * parity.astype(jnp.float32)
