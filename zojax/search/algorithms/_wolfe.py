"""A line search for the strong Wolfe conditions: bracket, then zoom by cubic interpolation.

    f(t) <= f(0) + c1 t f'(0),    |f'(t)| <= c2 |f'(0)|

A step is evaluated first. Its slope is needed only if the value is low enough. Nocedal and Wright,
Numerical Optimization, algorithms 3.5 and 3.6.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search.algorithms._toolkit import select

C1, C2 = 1e-4, 0.9


class End(NamedTuple):
    """A step with its value and slope."""

    step: jax.Array
    value: jax.Array
    slope: jax.Array  # inf if unknown


class Bracket(NamedTuple):
    """The start and the two ends of an interval with an acceptable step."""

    start: End
    low: End  # the best step so far
    high: End  # at an infinite step before there is an interval


def no_bracket(value: jax.Array, slope: jax.Array) -> Bracket:
    """A search that has only evaluated its start."""
    start, infinite = End(jnp.zeros_like(value), value, slope), jnp.full_like(value, np.inf)
    return Bracket(start, start, End(infinite, infinite, infinite))


def steps_of(line: Bracket, step: jax.Array, n: int) -> jax.Array:
    """`step`, and n - 1 steps around it."""
    if n == 1:
        return step[None]
    position = np.arange(n)
    found = jnp.isfinite(line.high.step)
    inside = line.low.step + (line.high.step - line.low.step) * position / n
    steps = jnp.where(found, inside, step * 2.0 ** (1 - position))
    return jnp.where(position == 1 - found, step, steps)


def evaluated(line: Bracket, steps: jax.Array, values: jax.Array):
    """(the bracket after the values of steps, the next step, which step to differentiate, if any)."""
    start, low, high = line
    enough = (values < low.value) & (values <= start.value + C1 * steps * start.slope)
    found = jnp.any(enough)
    best = jnp.argmin(jnp.where(enough, values, np.inf))
    origin = jnp.where(found, row(steps, best), low.step)
    way = jnp.where(high.step < low.step, -1.0, 1.0)
    ahead = way * (steps - origin)
    ahead = jnp.where(ahead > 0, ahead, np.inf)
    nearest = jnp.argmin(ahead)
    closer = row(ahead, nearest) < way * (high.step - origin)
    end = End(row(steps, nearest), row(values, nearest), jnp.full_like(low.value, np.inf))
    line = line._replace(high=select(closer, end, high))
    return line, _inside(low, line.high), best, found


def row(array: jax.Array, i: jax.Array) -> jax.Array:
    """array[i], without a gather if there is one row."""
    return array[0] if len(array) == 1 else array[i]


def is_steep(line: Bracket, slope: jax.Array) -> jax.Array:
    """Whether a low step violates the second condition."""
    return jnp.abs(slope) > C2 * jnp.abs(line.start.slope)


def narrowed(line: Bracket, new: End) -> tuple[Bracket, jax.Array]:
    """(the bracket after the slope of a low step, the next step)."""
    low, high = line.low, line.high
    turned = new.slope * jnp.where(high.step < low.step, -1.0, 1.0) >= 0
    high = select(turned, low, high)
    growth = (_least(new, low) - new.step) / (new.step - low.step)
    growth = jnp.where(jnp.isfinite(growth), jnp.clip(growth, 1, 4), 4)
    further = new.step + growth * (new.step - low.step)
    step = jnp.where(jnp.isfinite(high.step), _inside(new, high), further)
    return line._replace(low=new, high=high), step


def _inside(low: End, high: End) -> jax.Array:
    """The interpolated minimum, at least a tenth of the interval away from both ends."""
    share = (_least(low, high) - low.step) / (high.step - low.step)
    share = jnp.where(jnp.isfinite(share), share, 0.3)  # beyond a failed step
    return low.step + jnp.clip(share, 0.1, 0.9) * (high.step - low.step)


def _least(a: End, b: End) -> jax.Array:
    """The minimum of the cubic through both values and slopes, or of a parabola without the slope of b."""
    gap = b.step - a.step
    chord = (b.value - a.value) / gap
    parabola = a.step - 0.5 * gap * a.slope / (chord - a.slope)
    bend = a.slope + b.slope - 3 * chord
    root = jnp.sign(gap) * jnp.sqrt(jnp.maximum(bend * bend - a.slope * b.slope, 0))
    cubic = b.step - gap * (b.slope + root - bend) / (b.slope - a.slope + 2 * root)
    return jnp.where(jnp.isfinite(b.slope), cubic, parabola)
