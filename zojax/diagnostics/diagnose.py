"""A minute's look at a loss before training: a suggested mu, learning rate and number of directions."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax import implicit
from zojax._call import PROGRAMS, compiled_outside
from zojax._direction import Direction
from zojax._keys import as_key
from zojax._plot import new_axes
from zojax._scalars import traced_scalar
from zojax._trees import PyTree, split_structure, total_size
from zojax.diagnostics.smoothing import RADII, SIGNS, Sweep, sweep
from zojax.noise import StoredNoise

MOST = 64  # directions that a step may take for fewer steps


class Diagnosis(NamedTuple):
    r"""What a loss looks like from x, along random directions z.

    Attributes:
      sweep: the values behind it, see `diagnostics.sweep`.
      mu: the suggested radius, that of the least error.
      mu_range: the radii whose error is at most a third of the slope; (nan, nan) if none.
      slope: the root mean square of the slopes along z, which estimates the norm of the gradient.
      trace: the mean curvature along z, which estimates tr H.
      curvature: along the gradient, lambda = g'Hg / |g|^2.
      learning_rate: the suggested rate of plain steps with one direction, 1 / (tr H + 2 lambda). Twice
        that is the largest stable rate. nan without positive curvature.
      num_directions: tr H / lambda. Up to about so many directions, N of them allow an N times larger rate.
      remarks: what to know, in words.
    """

    sweep: Sweep
    mu: float
    mu_range: tuple[float, float]
    slope: float
    trace: float
    curvature: float
    learning_rate: float
    num_directions: int
    remarks: tuple[str, ...]

    def __str__(self) -> str:
        low, high = self.mu_range
        lines = [
            f"value           {self.sweep.value:.6g}, noise {self.sweep.noise:.2g}",
            f"mu              {self.mu:.2g}; from {low:.2g} to {high:.2g} differences mean something",
            f"slope           {self.slope:.3g} along a random direction",
            f"curvature       trace {self.trace:.3g}, along the gradient {self.curvature:.3g}",
            f"learning rate   {self.learning_rate:.2g} for one direction, N times that for N",
            f"directions      up to about {self.num_directions}",
        ]
        return "\n".join(lines + [f"! {remark}" for remark in self.remarks])

    def plot(self, ax: Any = None) -> Any:
        """Plots the slopes and their error against mu. Needs matplotlib; returns the axes."""
        ax = new_axes(ax, (6, 4))
        mu, slopes = self.sweep.mu, np.abs(self.sweep.slopes)
        ax.loglog(mu, slopes, ".", ms=3, alpha=0.4, color="C0")
        ax.loglog(mu, np.sqrt(np.mean(slopes**2, axis=1)), color="C0", label="slope")
        finite = np.isfinite(self.sweep.error)
        ax.loglog(mu[finite], self.sweep.error[finite], color="C1", label="its error")
        ax.axvline(self.mu, color="0.6", lw=1, zorder=0)
        ax.set(xlabel="mu", ylabel="change of the loss per unit", title=f"mu = {self.mu:.2g}")
        ax.legend(frameon=False)
        return ax


def diagnose(
    loss: Callable[..., Any],
    params: PyTree,
    *args: Any,
    key: int | jax.Array = 0,
    num_directions: int = 8,
    direction: Direction | None = None,
    radii: tuple[float, ...] = RADII,
    **kwargs: Any,
) -> Diagnosis:
    r"""Looks at a loss around `params` before you train.

    A step of one direction with rate eta changes a quadratic by
    :math:`-\eta |g|^2 + \frac{\eta^2}{2} |g|^2 (\mathrm{tr} H + 2 \lambda)`, with
    :math:`\lambda = g^\top H g / |g|^2`. The suggested rate is the minimum. All numbers hold near `params`:
    look again later in a run. Print the result, or plot it.

    Takes the arguments of `diagnostics.sweep`, two evaluations more, and one gradient in memory.

    Raises:
      ValueError: too few directions or radii, or a loss that is not finite at `params`.

    References:
      Spall, `Introduction to Stochastic Search and Optimization
      <https://www.jhuapl.edu/ISSO>`_, 2003, chapter 7.

    >>> import jax.numpy as jnp
    >>> from zojax import diagnostics
    >>> found = diagnostics.diagnose(lambda x: jnp.sum(x**2), jnp.ones(100))
    >>> 190 < found.trace < 210, 0.002 < found.learning_rate < 0.01
    (True, True)
    """
    direction = SIGNS if direction is None else direction
    options: dict[str, Any] = {"key": key, "direction": direction, "radii": radii}
    found = sweep(loss, params, *args, num_directions=num_directions, **options, **kwargs)
    j, radius = found.best, _radius_of_curvature(found)
    slopes = np.nan_to_num(found.slopes[j])
    slope, trace = float(np.sqrt(np.mean(slopes**2))), float(_traces(found)[radius])
    run = _program_of(direction)
    step, n = np.float32(found.mu[radius]), len(slopes)
    ends, square = run(loss, as_key(key), params, args, kwargs, np.float32(slopes / n), step)
    curvature = 0.0
    if slope > 0 and trace > 0:
        bend = (float(ends) - 2 * found.value) / float(step) ** 2 * float(square)
        # On average the estimate g^ of N directions has g^'Hg^ = (1 + 1/N) g'Hg + |g|^2 tr H / N.
        curvature = max(0.0, (bend / slope**2 - trace / n) / (1 + 1 / n))
    useful = np.isfinite(found.error) & (found.error <= slope / 3)
    low, high = found.mu[useful][[0, -1]] if useful.any() else (np.nan, np.nan)
    return Diagnosis(
        sweep=found,
        mu=float(found.mu[j]),
        mu_range=(float(low), float(high)),
        slope=slope,
        trace=trace,
        curvature=curvature,
        learning_rate=1 / (trace + 2 * curvature) if trace > 0 else float("nan"),
        num_directions=int(np.clip(trace / curvature, 1, MOST)) if curvature > 0 else MOST,
        remarks=tuple(_remarks(found, useful, trace)),
    )


def _traces(found: Sweep) -> np.ndarray:
    """(radii,) mean second differences."""
    return 2 * (np.mean(found.values, axis=(1, 2)) - found.value) / found.mu**2


def _radius_of_curvature(found: Sweep) -> int:
    """The first radius, from that of the slopes on, whose curvature is ten times its noise."""
    clear = found.noise / found.mu**2 < 0.1 * np.abs(_traces(found))
    clear &= np.isfinite(found.error) & (found.mu >= found.mu[found.best])
    return int(np.argmax(clear)) if clear.any() else found.best


@lru_cache(PROGRAMS)
def _program_of(direction: Direction) -> Callable:
    return compiled_outside(partial(_along_estimate, direction))


def _along_estimate(direction: Direction, loss, key, params, args, kwargs, coefficients, radius):
    """The loss at both ends of a line along the estimate, summed; and the estimate's mean square."""
    like = split_structure(params).tree()
    frame = direction.frame(jax.random.clone(key), len(coefficients), like)
    estimate = direction.combine(frame, coefficients, like)
    leaves = jax.tree.leaves(estimate)
    square = sum(jnp.sum(x**2) for x in leaves) / total_size(like)
    scale = jax.lax.rsqrt(jnp.maximum(square, 1e-30))
    line = jax.tree.map(lambda x: StoredNoise(scale * x), estimate)
    ends = jax.lax.map(
        lambda r: traced_scalar(implicit.evaluate(loss, params, line, r, *args, **kwargs)),
        jnp.stack([radius, -radius]),
    )
    return jnp.sum(ends), square


def _remarks(found: Sweep, useful: np.ndarray, trace: float) -> list[str]:
    """Words for a loss that is flat, step-like, noisy, or without curvature."""
    zero = np.mean(found.slopes == 0, axis=1)
    said = []
    if zero.min() == 1:
        return ["the loss does not change at any radius: it does not depend on these parameters."]
    if zero[0] > 0.5 and zero[found.best] < 0.5 and found.mu[found.best] > 100 * found.mu[0]:
        least = found.mu[np.argmax(zero < 0.5)]
        said.append(f"the loss is flat below mu = {least:.2g}: step-like, or of low precision.")
    if not useful.any():
        said.append("no radius stands out of the noise: average more evaluations of the loss.")
    if not np.isfinite(found.values).all():
        said.append("the loss is not finite at some points; the suggested mu keeps away from them.")
    if trace <= 0:
        said.append(
            "curvature is not positive: choose the rate by a few short runs, from small to large."
        )
    return said
