"""A report of what an evaluation does with every parameter, and the errors of a strict one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax._direction import Direction
from zojax._trees import PyTree, floats_only, structure_of
from zojax.implicit import _compat
from zojax.implicit._interpret import Context, require_noise, run
from zojax.implicit._perturbed import Outer, Perturbed

# Where noise is lost although only a view or a copy was asked for.
_MOVES = {
    "gather", "slice", "dynamic_slice", "reshape", "squeeze", "transpose",
    "split", "concatenate", "pad", "scatter", "dynamic_update_slice", "scan", "while", "cond",
}  # fmt: skip
_ELEMENTWISE = {"add", "sub", "mul", "div", "max", "min", "pow", "select_n"}


class Event(NamedTuple):
    """One use of a parameter.

    `kind` is "kept" (a view or a product that keeps the noise implicit), "slice" (dense noise is
    added to the part in use), "activation" (so is any noise to the entries that a lookup picked),
    "elementwise" (vectors, and whatever is broadcast against larger arrays) or "missing" (no rule:
    a part was materialised although its noise has structure or the part is only moved).

    Attributes:
      kind: as above.
      primitive: the operation that used it.
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
        """Bytes of the largest part that is materialised; activations do not count."""
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
    """What `explain` found; `str()` of it is a table for people."""

    leaves: dict[str, Leaf]

    @property
    def missing(self) -> list[tuple[str, Event]]:
        """(leaf, event) wherever structured noise met a primitive without a rule."""
        found = [(leaf.name, e) for leaf in self.leaves.values() for e in leaf.events]
        return [(name, e) for name, e in found if e.kind == "missing"]

    @property
    def largest_slice(self) -> int:
        """Bytes of the largest part of a parameter that is materialised at once."""
        return max((leaf.nbytes for leaf in self.leaves.values()), default=0)

    def __str__(self) -> str:
        summary = f"largest materialised part: {_size(self.largest_slice)}"
        if self.missing:
            names = ", ".join(dict.fromkeys(name for name, _ in self.missing))
            summary += f"; no rule for some uses of {names}"
        return "\n".join([*map(str, self.leaves.values()), summary])


def explain(fun: Callable, params: PyTree, noise: Direction | PyTree, *args, **kwargs) -> Report:
    """How `evaluate(fun, params, noise, scale, *args, **kwargs)` treats each parameter.

    Nothing is computed. Arrays may be `jax.ShapeDtypeStruct`s. In print, `kept` is noise that a view or
    a product took in its own form, a `part in use` is what one operation materialises while it reads it,
    `looked up or broadcast` has the size of activations, and `NO RULE` is low-rank noise that a primitive
    could not use, or any noise of what is only moved (a pad, a carry, an output): it is materialised.

    Args:
      fun: the function, as for `evaluate`.
      params: pytree of arrays.
      noise: a direction, or the tree of `params` with a noise object, or None, at each leaf.
      *args, **kwargs: passed on to `fun`.

    Returns:
      A `Report`: `leaves` by name, `missing` (uses without a rule) and `largest_slice` in bytes.

    Raises:
      TypeError: for a noise that is none.

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

    def record(kind, x: Perturbed, eqn):
        leaf = leaves[x.name]
        name = "output" if eqn is None else eqn.primitive.name
        where = "" if eqn is None else _compat.source_line(eqn)
        shape = x.shape
        event = Event(kind, name, where, shape, x.base.size * jnp.dtype(x.base.dtype).itemsize)
        if event not in leaf.events:
            leaf.events.append(event)

    def on_perturbed(x: Perturbed):
        noise = "low rank" if isinstance(x.join, Outer) else "dense"
        noise += "" if x.whole is None else (", masked" if x.join else ", stored")
        leaves[x.name] = Leaf(x.name, x.shape, str(x.base.dtype), noise)

    context = Context(
        on_perturbed,
        on_kept=lambda x, eqn: record("kept", x, eqn),
        on_materialise=lambda x, eqn: record(_kind(x, eqn), x, eqn),
    )
    arrays, fill = _partition((params, noise, args, kwargs))

    def evaluation(arrays):
        params, noise, args, kwargs = fill(arrays)
        return run(context, fun, params, noise, jnp.float32(1), args, kwargs)

    jax.eval_shape(evaluation, arrays)
    return Report(leaves)


def _drawn(direction: Direction, params: PyTree) -> PyTree:
    """The shapes of one direction."""
    like = floats_only(structure_of(params))

    def draw(key):
        return direction.draw(direction.frame(key, 1, like), 0, like)

    return jax.eval_shape(draw, jax.random.key(0))


def strict_context() -> Context:
    """Raises wherever structured noise meets a primitive without a rule."""

    def check(x: Perturbed, eqn):
        if _kind(x, eqn) != "missing":
            return
        name = "output" if eqn is None else eqn.primitive.name
        where = "" if eqn is None else f" at {_compat.source_line(eqn)}"
        raise NotImplementedError(
            f"{x.name} (a view of shape {x.shape}) would be materialised by {name!r}{where}, which "
            'has no rule for its noise; use on_missing="materialise", or a direction that leaves '
            "this parameter out (zojax.directions.masked)."
        )

    return Context(on_materialise=check)


def _kind(x: Perturbed, eqn) -> str:
    name = "output" if eqn is None else eqn.primitive.name
    if x.is_vector or (name in _ELEMENTWISE and eqn.outvars[0].aval.size > x.base.size):
        return "elementwise"
    if x.is_activation:
        return "activation"
    structured = isinstance(x.join, Outer) or name == "output" or name in _MOVES
    return "missing" if structured else "slice"


def _partition(tree: PyTree):
    """The arrays of a tree, and what puts them back; everything else stays static."""
    leaves, treedef = jax.tree.flatten(tree)
    is_array = [hasattr(x, "shape") and hasattr(x, "dtype") for x in leaves]

    def fill(arrays):
        arrays = iter(arrays)
        return treedef.unflatten(
            [next(arrays) if a else x for a, x in zip(is_array, leaves, strict=True)]
        )

    return [x for a, x in zip(is_array, leaves, strict=True) if a], fill


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
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.4g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.4g} GiB"
