r"""Values to weights: what becomes of the evaluations before they multiply directions.

A shaping has two stages, both optional: `values(V, valid)` transforms the table of evaluations, one
row a direction, one column a stencil point; `coefficients(c, valid)` transforms the coefficients
:math:`c_i = \sum_j w_j V_{ij} / \mu`. `valid` marks the directions whose evaluations are all finite;
the others hold numbers that must not be used, and get weight zero afterwards.

Where the stencil visits x itself, its value stands in the table once for every direction, and counts as
often.

`baseline` keeps the expectation of the estimate. All others change its target: a standardised or
ranked estimate is an ascent direction of another objective, not the gradient of the loss.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax._checks import require_count, require_positive
from zojax._numerics import mean_of

__all__ = [
    "Shaping",
    "baseline",
    "by_std",
    "centered_ranks",
    "clip",
    "nes_utilities",
    "none",
    "standardize",
    "standardize_groups",
    "top",
    "unit_std",
]

# Values up to which each is compared with all others: less to compile than a sort, and as quick.
_COMPARED = 2**10

Stage = Callable[[jax.Array, jax.Array], jax.Array]


def _unchanged(x: jax.Array, valid: jax.Array) -> jax.Array:
    """A stage that does nothing."""
    del valid
    return x


class Shaping(NamedTuple):
    """The two stages, and the fewest directions they need.

    Attributes:
      values: `(values, valid) -> values`, of shapes (N, points) and (N,): transforms the evaluations.
      coefficients: `(coefficients, valid) -> coefficients`, shape (N,): transforms the differences.
      min_directions: fewest N.
    """

    values: Stage = _unchanged
    coefficients: Stage = _unchanged
    min_directions: int = 1


def none() -> Shaping:
    """Values as they are: the estimate is calibrated.

    >>> none().values(jnp.array([[3.0]]), jnp.array([True]))
    Array([[3.]], dtype=float32)
    """
    return Shaping()


def baseline() -> Shaping:
    r""":math:`V_i - \frac{1}{N-1}\sum_{k \ne i} V_k`: the mean of the *other* directions.

    Without direction i the estimate stays unbiased; with the plain mean it would shrink by 1 - 1/N. The
    baseline lowers the variance of `stencils.one_point`; differences do not need it. At least 2 directions.

    >>> baseline().values(jnp.array([[1.0], [2.0], [6.0]]), jnp.array([True, True, True])).ravel()
    Array([-3. , -1.5,  4.5], dtype=float32)
    """
    return Shaping(_less_the_others, min_directions=2)


def _less_the_others(v, valid):
    count = jnp.maximum(jnp.sum(valid), 2)
    return (v - mean_of(v, valid, axis=0)[None]) * (count / (count - 1))


def standardize() -> Shaping:
    """(V - mean) / std over all evaluations of the step: invariant to the loss's shift and scale.

    >>> standardize().values(jnp.array([[1.0, 3.0]]), jnp.array([True]))
    Array([[-1.,  1.]], dtype=float32)
    """
    return Shaping(_standardized)


def _standardized(v, valid):
    return _divide(v - mean_of(v, valid), _std(v, valid))


def standardize_groups(group_size: int) -> Shaping:
    """(V - mean of the group) / std over all evaluations, for directions that share data in groups.

    Each group is `group_size` consecutive directions, which see the same slice of `in_axes`, such as a
    prompt. The differences between prompts then weigh nothing.

    Args:
      group_size: directions in a group, at least 2. It divides the number of directions.

    Raises:
      ValueError: groups of one direction, or a size that does not divide the number of directions.

    References:
      Sarkar et al., `Evolution strategies at the hyperscale <https://arxiv.org/abs/2511.16652>`_, 2025.

    >>> v = jnp.array([[1.0], [3.0], [5.0], [7.0]])
    >>> standardize_groups(2).values(v, jnp.ones(4, bool)).ravel().round(2)
    Array([-0.45,  0.45, -0.45,  0.45], dtype=float32)
    """
    size = require_count("group_size", group_size)
    if size < 2:
        raise ValueError(f"group_size must be at least 2, got {size}: a group needs a mean.")
    return Shaping(partial(_standardized_in_groups, size), min_directions=size)


def _standardized_in_groups(size, v, valid):
    if len(v) % size:
        raise ValueError(f"group_size must divide num_directions = {len(v)}, got {size}.")
    groups = v.reshape(-1, size, v.shape[1])
    means = jax.vmap(mean_of)(groups, valid.reshape(-1, size))
    return _divide((groups - means[:, None, None]).reshape(v.shape), _std(v, valid))


def by_std() -> Shaping:
    r"""V / std(V) over all evaluations of the step: a step length that adapts to the local slope.

    With `stencils.forward` the value at x counts as often as all the others: see `unit_std` for the
    deviation of the others alone, as in FZOO.

    >>> by_std().values(jnp.array([[1.0, 3.0]]), jnp.array([True]))
    Array([[1., 3.]], dtype=float32)
    """
    return Shaping(_by_std)


def _by_std(v, valid):
    return _divide(v, _std(v, valid))


def centered_ranks() -> Shaping:
    """Ranks of all evaluations, spread evenly over [-1/2, 1/2]; equal values share their mean rank.

    References:
      Salimans et al., `Evolution strategies as a scalable alternative to reinforcement learning
      <https://arxiv.org/abs/1703.03864>`_, 2017.

    >>> centered_ranks().values(jnp.array([[9.0], [1.0], [4.0]]), jnp.ones(3, bool)).ravel()
    Array([ 0.5, -0.5,  0. ], dtype=float32)
    """
    return Shaping(_centered_ranks)


def _centered_ranks(v, valid):
    rank, count = _ranks(v, valid)
    share = rank / jnp.maximum(count - 1, 1).astype(rank.dtype)
    return jnp.where(count > 1, share - 0.5, 0)  # a value alone has no rank


def nes_utilities() -> Shaping:
    r"""The utilities of natural evolution strategies, by rank k (1 is the lowest loss) of n:

    :math:`u_k = \frac{1}{n} - \frac{\max(0, \log(n/2+1) - \log k)}{\sum_l \max(0, \log(n/2+1) - \log l)}`,

    with the sign of a loss, so that a descent step follows the best. They sum to zero.

    References:
      Wierstra et al., `Natural evolution strategies
      <https://www.jmlr.org/papers/v15/wierstra14a.html>`_, 2014.

    >>> nes_utilities().values(jnp.array([[9.0], [1.0]]), jnp.ones(2, bool)).ravel()
    Array([ 0.5, -0.5], dtype=float32)
    """
    return Shaping(_nes_utilities)


def _nes_utilities(v, valid):
    rank, count = _ranks(v, valid)
    utility = jnp.maximum(0.0, jnp.log(count / 2 + 1) - jnp.log(rank + 1))
    utility = jnp.where(valid[:, None], utility, 0.0)
    return 1 / jnp.maximum(count, 1) - _divide(utility, jnp.sum(utility))


def top(b: int) -> Shaping:
    r"""The b directions with the lowest best value, over the std of their values; others weigh 0.

    Augmented random search sorts directions by :math:`\min_j V_{ij}`, the larger of two rewards. It divides
    the values of the first b by their standard deviation :math:`\sigma`. They count N / b times, so that
    the estimate is their mean, :math:`\frac{1}{b \mu \sigma} \sum_{k \le b} (V w)_k z_k`.

    Args:
      b: directions kept; at most as many as there are.

    Raises:
      TypeError, ValueError: b is not a positive int.

    References:
      Mania, Guy and Recht, `Simple random search provides a competitive approach to reinforcement
      learning <https://arxiv.org/abs/1803.07055>`_, 2018.

    >>> top(1).values(jnp.array([[1.0, 3.0], [2.0, 6.0]]), jnp.ones(2, bool))
    Array([[2., 6.],
           [0., 0.]], dtype=float32)
    """
    b = require_count("b", b)
    return Shaping(partial(_of_the_best, b), min_directions=b)


def _of_the_best(b, v, valid):
    best = jnp.where(valid, jnp.min(v, axis=1), jnp.inf)
    place = jnp.argsort(jnp.argsort(best))
    kept = valid & (place < b)
    share = jnp.sum(valid) / jnp.maximum(jnp.sum(kept), 1)
    return jnp.where(kept[:, None], share * _divide(v, _std(v, kept)), 0)


def clip(limit: float) -> Shaping:
    """Coefficients clipped to [-limit, limit]: bounds the step that one wild direction can take.

    Args:
      limit: in units of the directional derivative; positive.

    Raises:
      ValueError: the limit is not positive.

    >>> clip(2.0).coefficients(jnp.array([-5.0, 1.0]), jnp.ones(2, bool))
    Array([-2.,  1.], dtype=float32)
    """
    require_positive("limit", limit)
    return Shaping(coefficients=partial(_clipped, limit))


def _clipped(limit, c, valid):
    del valid
    return jnp.clip(c, -limit, limit)


def unit_std() -> Shaping:
    r"""Coefficients over their standard deviation: steps that do not depend on the scale of the loss or mu.

    For `stencils.forward` the deviation is that of the values :math:`L(x + \mu z_i)`, as in FZOO. At least
    2 directions.

    References:
      `FZOO: fast zeroth-order optimizer for fine-tuning large language models towards Adam-scale speed
      <https://arxiv.org/abs/2506.09034>`_, 2025.

    >>> unit_std().coefficients(jnp.array([2.0, 4.0]), jnp.ones(2, bool))
    Array([2., 4.], dtype=float32)
    """
    return Shaping(coefficients=_over_their_std, min_directions=2)


def _over_their_std(c, valid):
    return _divide(c, _std(c[:, None], valid))


def _std(v, valid):
    """The standard deviation; deviations are divided by the largest, against overflow and underflow."""
    away = jnp.where(valid[:, None], v - mean_of(v, valid), 0)
    largest = jnp.max(jnp.abs(away))
    return largest * jnp.sqrt(mean_of(_divide(away, largest) ** 2, valid))


def _divide(a, b):
    """a / b, and 0 where b is 0: equal values carry no direction."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def _ranks(v, valid):
    """Mean ranks from 0 among the valid entries, and how many there are."""
    flat = jnp.where(valid[:, None], v, jnp.inf).ravel()
    if flat.size <= _COMPARED:
        column, row = flat[:, None], flat[None]
        below, through = jnp.sum(column < row, axis=0), jnp.sum(column <= row, axis=0)
    else:
        ordered = jnp.sort(flat)
        below = jnp.searchsorted(ordered, flat, side="left")
        through = jnp.searchsorted(ordered, flat, side="right")
    count = jnp.sum(valid) * v.shape[1]
    return ((below + through - 1) / 2).reshape(v.shape).astype(v.dtype), count
