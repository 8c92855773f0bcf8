"""Reports on the use of every parameter in an evaluation, and the errors of a strict evaluation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from zojax._direction import Direction
from zojax._trees import PyTree, floats_only, structure_of
from zojax.implicit import _compat, _registry
from zojax.implicit._perturbed import Perturbed
from zojax.implicit._walk import Context, require_noise, run


class Event(NamedTuple):
    """One use of a parameter, or of a part of it.

    Attributes:
      kind: one of

        - "kept": a view or a product keeps the noise implicit;
        - "slice": dense noise is added to the part in use;
        - "activation": noise is added to the entries picked by a lookup;
        - "elementwise": the part is a vector, or broadcast against a larger array;
        - "missing": the part is materialised for want of a rule, although its noise has structure or the
          part is only moved.

      primitive: the operation that uses it.
      where: the line of source, or "".
      shape: of the part.
      nbytes: of the part.
    """

    kind: str
    primitive: str
    where: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass
class Leaf:
    """One perturbed parameter and its uses, each listed once."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    noise: str
    events: list[Event] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of the largest materialised part, activations aside."""
        parts = [e.nbytes for e in self.events if e.kind not in ("kept", "activation")]
        return max(parts, default=0)

    def __str__(self) -> str:
        shape = ",".join(map(str, self.shape))
        kept = ", ".join(dict.fromkeys(e.primitive for e in self.events if e.kind == "kept"))
        lines = [f"{self.name}  {self.dtype}[{shape}]  {self.noise}"]
        if not self.events:
            lines.append("  unused")
        if kept:
            lines.append(f"  kept through {kept}")
        lines += [f"  {_describe(e)}" for e in self.events if e.kind != "kept"]
        return "\n".join(lines)


@dataclass
class Report:
    """The findings of `explain`; print it for a table.

    `leaves` has a `Leaf` for each perturbed parameter, by name.
    """

    leaves: dict[str, Leaf]

    @property
    def missing(self) -> list[tuple[str, Event]]:
        """(leaf name, event) for each use of kind "missing"."""
        found = [(leaf.name, e) for leaf in self.leaves.values() for e in leaf.events]
        return [(name, e) for name, e in found if e.kind == "missing"]

    @property
    def largest_slice(self) -> int:
        """Bytes of the largest part of a parameter, materialised at once."""
        return max((leaf.nbytes for leaf in self.leaves.values()), default=0)

    def __str__(self) -> str:
        summary = f"largest materialised part: {_size(self.largest_slice)}"
        if self.missing:
            names = ", ".join(dict.fromkeys(name for name, _ in self.missing))
            summary += f"; no rule for some uses of {names}"
        return "\n".join([*map(str, self.leaves.values()), summary])


def explain(fun: Callable, params: PyTree, noise: Direction | PyTree, *args, **kwargs) -> Report:
    """The use of each parameter in `evaluate(fun, params, noise, scale, *args, **kwargs)`.

    Nothing is computed, so arrays may be `jax.ShapeDtypeStruct`s. The printed report says

    - `kept through ...`: these primitives keep the noise in its own form;
    - `part in use`: one operation materialises this part while it reads it;
    - `looked up or broadcast`: materialised, of the size of activations;
    - `NO RULE`: materialised, because the primitive cannot use low-rank noise, or only moves the part
      (a pad, a carry, an output). Register a rule for it with `zojax.implicit.rule`.

    Args:
      fun: the function, as for `evaluate`.
      params: pytree of arrays.
      noise: a direction, or the tree of `params` with a noise object, or None, at each leaf.
      *args, **kwargs: passed on to `fun`.

    Returns:
      A `Report`: `leaves` by name, `missing` (uses without a rule) and `largest_slice` in bytes.

    Raises:
      TypeError: for a `noise` that is neither.

    >>> import jax, jax.numpy as jnp, zojax
    >>> params = {"w": jnp.ones((3, 4)), "b": jnp.ones(4)}
    >>> loss = lambda p, x: x @ p["w"] + p["b"]
    >>> report = zojax.implicit.explain(loss, params, zojax.directions.low_rank(), jnp.ones(3))
    >>> report.missing, report.largest_slice
    ([], 16)
    """
    if isinstance(noise, Direction):
        noise = _drawn(noise, params)
    require_noise(noise)
    leaves: dict[str, Leaf] = {}
    context = Context(
        on_perturbed=lambda x: leaves.update({x.name: _leaf(x)}),
        on_kept=lambda x, eqn: _record(leaves[x.name], "kept", x, eqn),
        on_materialise=lambda x, eqn: _record(leaves[x.name], _kind(x, eqn), x, eqn),
    )
    arrays, fill = _compat.partition((params, noise, args, kwargs), _has_shape)

    def evaluation(arrays):
        params, noise, args, kwargs = fill(arrays)
        return run(context, fun, params, noise, jnp.float32(1), args, kwargs)

    jax.eval_shape(evaluation, arrays)
    return Report(leaves)


def _has_shape(x) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _leaf(x: Perturbed) -> Leaf:
    noise = "low rank" if x.is_factored else "dense"
    noise += "" if x.whole is None else (", masked" if x.join else ", stored")
    return Leaf(x.name, x.shape, str(x.base.dtype), noise)


def _record(leaf: Leaf, kind: str, x: Perturbed, eqn: JaxprEqn | None) -> None:
    nbytes = x.base.size * jnp.dtype(x.base.dtype).itemsize
    event = Event(
        kind, _name(eqn), "" if eqn is None else _compat.source_line(eqn), x.shape, nbytes
    )
    if event not in leaf.events:
        leaf.events.append(event)


def _name(eqn: JaxprEqn | None) -> str:
    return "output" if eqn is None else eqn.primitive.name


def _drawn(direction: Direction, params: PyTree) -> PyTree:
    """The shapes of one direction."""
    like = floats_only(structure_of(params))

    def draw(key):
        return direction.draw(direction.frame(key, 1, like), 0, like)

    return jax.eval_shape(draw, jax.random.key(0))


def strict_context() -> Context:
    """Raises NotImplementedError at each use of kind "missing"."""

    def check(x: Perturbed, eqn: JaxprEqn | None) -> None:
        if _kind(x, eqn) != "missing":
            return
        where = "" if eqn is None else f" at {_compat.source_line(eqn)}"
        raise NotImplementedError(
            f"{x.name} (a view of shape {x.shape}) would be materialised by {_name(eqn)!r}{where}, which "
            'has no rule for its noise; use on_missing="materialise", a rule of your own '
            "(zojax.implicit.rule), or a direction without this parameter (zojax.directions.masked)."
        )

    return Context(on_materialise=check)


def _kind(x: Perturbed, eqn: JaxprEqn | None) -> str:
    known = _registry.lookup(_name(eqn))
    is_broadcast = (
        eqn is not None and known.broadcasts and _compat.output_type(eqn).size > x.base.size
    )
    if x.is_vector or is_broadcast:
        return "elementwise"
    if x.is_activation:
        return "activation"
    return "missing" if x.is_factored or eqn is None or known.moves else "slice"


def _describe(event: Event) -> str:
    shape = ",".join(map(str, event.shape))
    how = {
        "slice": "part in use",
        "activation": "looked up or broadcast",
        "missing": "NO RULE, materialised",
    }
    where = f" at {event.where}" if event.where else ""
    what = f"{how.get(event.kind, event.kind)} [{shape}]"
    return f"{what} for {event.primitive}, {_size(event.nbytes)}{where}"


def _size(nbytes: int) -> str:
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
