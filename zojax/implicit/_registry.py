"""The table of primitives: the rule of each, and its properties. `rule` adds to it, from anywhere.

The interpreter reads the table for each equation, so a later registration takes effect at the next trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict, TypeVar, Unpack

if TYPE_CHECKING:
    from jax.extend.core import JaxprEqn

    from zojax.implicit._walk import Context


class Rule(Protocol):
    """Evaluates one equation, at least one of whose operands is a `Perturbed`.

    `eqn` is the equation of the jaxpr: `eqn.primitive`, `eqn.params`, `eqn.outvars`. The operands
    follow, one argument each: arrays, or `Perturbed`. The result is a list with an array or a
    `Perturbed` for each output. Call `context.kept(w, eqn)` if the noise of an operand stays implicit,
    and `context.fallback(eqn, *operands)` in all cases that the rule does not serve.
    """

    def __call__(
        self, context: Context, eqn: JaxprEqn, /, *operands: Any, **_: Any
    ) -> Sequence[Any]: ...


class Properties(TypedDict, total=False):
    """The keyword arguments of `rule`; see there."""

    elementwise: bool | Callable[[JaxprEqn], bool]
    broadcasts: bool
    moves: bool
    product: bool
    inlined: bool
    deferred: bool
    known: Callable[..., Any]
    flat: bool
    batches: bool


class Primitive(NamedTuple):
    """One row of the table; the fields are documented at `rule`."""

    rule: Rule | None = None
    elementwise: bool | Callable[[JaxprEqn], bool] = False
    broadcasts: bool = False
    moves: bool = False
    product: bool = False
    inlined: bool = False
    deferred: bool = False
    known: Callable[..., Any] | None = None
    flat: bool = False
    batches: bool = False


_TABLE: dict[str, Primitive] = {}
_UNKNOWN = Primitive()
R = TypeVar("R", bound=Rule)


def rule(*names: str, **properties: Unpack[Properties]) -> Callable[[R], R]:
    """Registers a rule of the interpreter for primitives, by name; it replaces an earlier rule.

    A primitive without a rule materialises its operands. Register before the first step: JAX keeps the
    programs that it has compiled. `view` registers indexing primitives with less code.

    Args:
      *names: of primitives, as `jax.make_jaxpr` prints them.
      elementwise: XLA fuses it into its reader: it works entry by entry, or changes the shape only. May be
        a function of the equation.
      broadcasts: elementwise on two arrays, one of which may be smaller. `explain` reports "elementwise".
      moves: it only moves entries. `explain` reports "missing" if it materialises an operand.
      product: a product of floats, which an optimizer's update rounds before any sum.
      inlined: a call whose body an optimizer's update looks into.
      deferred: the rule reads `Perturbed.multipliers` and `Perturbed.is_squared`. For other rules,
        multipliers are folded into the base and a factor, and squares are materialised.
      known: `known(context, eqn, *operands)`, for a call or a loop: what all points of a direction share.
        Unknown operands are None or `Perturbed`. The rule finds the result in `context.known`.
      flat: the rule reads `Perturbed.flat`. For other rules, flat arrays are materialised.
      batches: JAX cannot batch the primitive but the rule can. So the rule also takes arrays alone.

    Returns:
      A decorator, which returns the rule itself. See `Rule` for its arguments.

    Raises:
      TypeError: if a name is no string.

    >>> import jax, jax.numpy as jnp, zojax
    >>> @zojax.implicit.rule("cumsum")
    ... def cumsum(context, eqn, w):
    ...     return context.fallback(eqn, w)  # a first version, which materialises w
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f'rule takes names of primitives, as in @rule("pad"), got {names!r}.')

    def register(function: R) -> R:
        for name in names:
            _TABLE[name] = Primitive(function, **properties)
        return function

    return register


def describe(*names: str, **properties: Unpack[Properties]) -> None:
    """Registers the properties of primitives that have no rule."""
    _TABLE.update(dict.fromkeys(names, Primitive(**properties)))


def lookup(name: str) -> Primitive:
    return _TABLE.get(name, _UNKNOWN)


def is_elementwise(eqn: JaxprEqn) -> bool:
    """Whether XLA fuses the equation into its reader."""
    answer = lookup(eqn.primitive.name).elementwise
    return answer(eqn) if callable(answer) else answer
