"""Rules of views: indexing primitives, which act on the base and on the factors of the noise alike."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, Unpack

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from zojax._barriers import zero_of_point
from zojax.implicit import _compat
from zojax.implicit._perturbed import Part, Perturbed
from zojax.implicit._registry import Properties, rule
from zojax.implicit._walk import Context


class View(Protocol):
    """An indexing primitive, restricted to some axes of its operand.

    `eqn` is the equation; `indices` are its traced operands after the first. `axes` are the operand axes of
    one factor of the noise, ascending. New output axes (of a broadcast) belong to this factor where
    `takes_new` is true. The result is a `Part`, or None where the view mixes these axes with others.
    """

    def __call__(
        self, eqn: JaxprEqn, indices: Sequence[jax.Array], axes: tuple[int, ...], takes_new: bool, /
    ) -> Part | None: ...


V = TypeVar("V", bound=View)


def _never(*_: Any) -> bool:
    return False


def view(
    *names: str,
    unless: Callable[[JaxprEqn, Perturbed], bool] = _never,
    enlarges: Callable[[JaxprEqn], bool] = _never,
    **properties: Unpack[Properties],
) -> Callable[[V], V]:
    """Registers an indexing primitive by name: its first operand is viewed, the others are indices.

    Args:
      *names: of primitives.
      unless: `unless(eqn, operand)` is true where the operand is materialised instead.
      enlarges: `enlarges(eqn)` is true where the result has the size of activations.
      **properties: as for `rule`.

    Returns:
      A decorator, which returns the view itself. See `View` for its arguments.

    Raises:
      TypeError: if a name is no string.

    >>> import jax, jax.numpy as jnp, zojax
    >>> from jax import lax
    >>> @zojax.implicit.view("rev", moves=True)
    ... def rev(eqn, indices, axes, takes_new):
    ...     reversed_ = [axes.index(a) for a in eqn.params["dimensions"] if a in axes]
    ...     return zojax.implicit.Part(axes, lambda x: lax.rev(x, reversed_))
    """

    def register(restrict: V) -> V:
        rule(*names, **properties)(partial(_look, restrict, unless, enlarges))
        return restrict

    return register


def _look(
    restrict: View,
    unless: Callable[[JaxprEqn, Perturbed], bool],
    enlarges: Callable[[JaxprEqn], bool],
    context: Context,
    eqn: JaxprEqn,
    operand: jax.Array | Perturbed,
    *indices: jax.Array | Perturbed,
) -> list:
    if not isinstance(operand, Perturbed) or unless(eqn, operand):
        return context.fallback(eqn, operand, *indices)
    arrays = [context.plain(i, eqn) for i in indices]
    restricted = partial(restrict, eqn, arrays)
    seen = operand.viewed(restricted)
    if seen is None and operand.multipliers and not operand.is_squared:
        operand = operand.folded() or operand
        seen = operand.viewed(restricted)
    if seen is None:
        return context.fallback(eqn, operand, *indices)
    context.kept(operand, eqn)
    if context.is_fixed(operand.base):  # XLA computes any other array before the loop
        arrays = _of_this_point(arrays, operand.scale)
    (base,) = _compat.bind(eqn, operand.base, *arrays)
    is_activation = operand.is_activation or enlarges(eqn)
    held_by = None if indices else operand.held_by  # indices change from one iteration to the next
    return [seen.replace(base=base, is_activation=is_activation, held_by=held_by)]


def _of_this_point(indices: Sequence, scale: jax.Array) -> list:
    """The same indices, which depend on the point; not a known place, which is a plain slice.

    XLA would look up the parameter before the loop over points, and hold the result through it.
    """

    def waits(i):  # the other operand of `pad` is no index
        is_known = not isinstance(i, jax.core.Tracer) and i.size == 1
        return jnp.issubdtype(i.dtype, jnp.integer) and not is_known

    arrays = map(jnp.asarray, indices)
    return [i | zero_of_point(scale).astype(i.dtype) if waits(i) else i for i in arrays]
