"""Estimators beside a gradient: cosine, bias and variance."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._call import compiled_outside
from zojax._checks import require_count
from zojax._estimator import Estimator
from zojax._keys import as_key
from zojax._plot import new_axes
from zojax._trees import PyTree, Split


class Row(NamedTuple):
    """One estimator. Errors are standard errors over its estimates.

    Attributes:
      name: of the estimator.
      evaluations: of one estimate.
      cosine, cosine_error: between estimates and the gradient, 0 for an estimate of zeros.
      length, length_error: of the projection on the gradient, over the gradient's: 1 if unbiased.
      variance: the mean squared distance to the gradient, over the squared norm of the gradient.
    """

    name: str
    evaluations: int
    cosine: float
    cosine_error: float
    length: float
    length_error: float
    variance: float


class GradientReport(NamedTuple):
    """A comparison of estimators.

    Attributes:
      rows: a `Row` for each estimator, in the order given.
    """

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        lines = [
            f"{'estimator':24} {'evaluations':>11} {'cosine':>16} {'length':>16} {'variance':>9}"
        ]
        for row in self.rows:
            cosine = f"{row.cosine:.3f} +- {row.cosine_error:.3f}"
            length = f"{row.length:.2f} +- {row.length_error:.2f}"
            lines.append(
                f"{row.name:24} {row.evaluations:11} {cosine:>16} {length:>16} {row.variance:9.3g}"
            )
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Plots the cosines with their errors, a line for each estimator. Needs matplotlib."""
        ax = new_axes(ax, (6, 0.6 + 0.4 * len(self.rows)))
        places, errors = np.arange(len(self.rows)), [2 * row.cosine_error for row in self.rows]
        ax.errorbar([row.cosine for row in self.rows], places, xerr=errors, fmt="o")
        ax.set_yticks(places, [f"{row.name}, {row.evaluations}" for row in self.rows])
        ax.set(xlabel="cosine with the gradient, two standard errors", xlim=(0, None))
        ax.invert_yaxis()
        return ax


def gradient_report(
    loss: Callable[..., Any],
    params: PyTree,
    estimators: dict[str, Estimator],
    *args: Any,
    key: int | jax.Array = 0,
    repeats: int = 100,
    reference: PyTree | None = None,
    **kwargs: Any,
) -> GradientReport:
    """Compares estimators with a gradient, over repeated estimates.

    Args:
      loss: (params, *args, **kwargs) -> scalar, traceable.
      params: a pytree of arrays.
      estimators: by name.
      key: of the estimates.
      repeats: estimates of each, at least 2.
      reference: a gradient as the tree of params, such as a long average; by default `jax.grad`.

    Raises:
      ValueError: fewer than 2 repeats, or no estimators.

    >>> import jax.numpy as jnp, zojax
    >>> from zojax import diagnostics
    >>> estimators = {f"{n} signs": zojax.estimator(num_directions=n) for n in (1, 16)}
    >>> report = diagnostics.gradient_report(lambda x: jnp.sum(x**2), jnp.ones(16), estimators)
    >>> [round(row.length, 1) for row in report.rows], report.rows[1].cosine > report.rows[0].cosine
    ([1.0, 1.0], True)
    """
    if require_count("repeats", repeats) < 2 or not estimators:
        raise ValueError(
            f"repeats must be at least 2, with estimators; got {repeats}, {estimators}."
        )
    if reference is None:
        reference = jax.grad(loss, allow_int=True)(params, *args, **kwargs)
    exact = _flat(params, reference)
    rows = []
    for name, estimator in estimators.items():
        run = compiled_outside(partial(_moments, estimator, repeats))
        moments = run(loss, as_key(key), params, exact, args, kwargs)
        rows.append(_row(name, estimator, *(np.asarray(m, np.float64) for m in moments)))
    return GradientReport(tuple(rows))


def _flat(params: PyTree, grads: PyTree) -> jax.Array:
    return jnp.concatenate([jnp.ravel(x) for x in Split.of(params).places_in(grads)])


def _moments(estimator: Estimator, repeats: int, loss, key, params, exact, args, kwargs):
    """Dot products with the gradient and squared norms of each estimate, and the gradient's."""

    def one(i):
        grads = estimator.estimate(jax.random.fold_in(key, i), loss, params, args, kwargs).grads
        flat = _flat(params, grads)
        return flat @ exact, flat @ flat

    dots, squares = jax.lax.map(one, jnp.arange(repeats))
    return dots, squares, exact @ exact


def _row(name: str, estimator: Estimator, dots, squares, square) -> Row:
    norms = np.sqrt(squares * square)
    cosines = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    root = np.sqrt(len(dots))
    both = [(x.mean(), np.std(x, ddof=1) / root) for x in (cosines, dots / square)]
    variance = np.mean(squares - 2 * dots) / square + 1
    return Row(name, estimator.evaluations, *(float(x) for x in (*both[0], *both[1], variance)))
