"""Functions of JAX run by NumPy: traced, not compiled.

XLA compiles a program in seconds, and NumPy runs the same equations at once. On the host, a step of a
search is a few hundred operations on small arrays, for which NumPy is as fast as a compiled program.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal

from zojax.search.engine._branches import pruned
from zojax.search.engine._loops import CALLS, LOOPS, makes_rows
from zojax.search.engine._primitives import (
    CHOICE,
    ELEMENTWISE,
    NAMES,
    SHAPED,
    expression_of,
    form_of,
)
from zojax.search.engine._primitives import NoNumPyFormError as NoNumPyFormError

INLINED = {"jit": "jaxpr", "custom_vmap_call": "call", "custom_jvp_call": "call_jaxpr"}
INLINED |= {"pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def numpy_program(fun: Callable[..., Any], *examples: Any) -> tuple[Callable[..., list], Any]:
    """(program, shapes): `program(*leaves)` returns the leaves of `fun`'s result, run by NumPy.

    The numbers equal those of JAX up to rounding. A key is its data.

    Args:
      fun: a traceable function.
      examples: its arguments, or their shapes.

    Raises:
      NoNumPyFormError: an equation of `fun` has no form in NumPy.

    >>> program, _ = numpy_program(lambda x, y: x @ y + 1, np.ones(3, np.float32), np.ones(3, np.float32))
    >>> program(np.ones(3, np.float32), np.full(3, 2, np.float32))
    [np.float32(7.0)]
    """
    closed, shapes = jax.make_jaxpr(fun, return_shape=True)(*examples)
    _require_forms(closed.jaxpr)
    code = Lazy(closed)

    def program(*leaves: Any) -> list:
        with np.errstate(all="ignore"):
            return code.run(*leaves)

    return program, shapes


def _require_forms(jaxpr: Any) -> None:
    """Raises for an equation without a form, also in a branch that is never taken."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name not in INLINED and eqn.primitive.name not in LOOPS:
            expression_of(eqn) or form_of(eqn)
            continue
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda p: hasattr(p, "jaxpr")):
            if hasattr(value, "jaxpr"):
                _require_forms(value.jaxpr)


class Source:
    """The Python source of a jaxpr: a line for each equation that the results need.

    Calls are written out. Equal equations share a line, and equations of constants are computed here.
    """

    def __init__(self, jaxpr: Any, consts: Sequence):
        self.lines: list[Line] = []
        self.names: dict[Any, str] = {}
        self.values: dict[str, Any] = dict(NAMES)  # constants and functions
        self.kept: dict[Any, str] = {}  # their names, by what they equal
        self.known: dict[str, list[str]] = {}  # results, by expression
        self.scalars: dict[str, str] = {}  # the scalar that fills an array
        self.entries: dict[
            str, list[str]
        ] = {}  # the vector and the place of the one entry of an array
        self.count = itertools.count()
        self.arguments = [self._new() for _ in jaxpr.invars]
        self._bind(jaxpr.invars, self.arguments)
        self._bind(jaxpr.constvars, [self._value(_plain(c)) for c in consts])
        self._write(jaxpr)
        self.results = [self._name(v) for v in jaxpr.outvars]

    def function(self) -> Callable[..., list]:
        body = "\n    ".join([*map(str, self._needed()), f"return [{', '.join(self.results)}]"])
        exec(f"def run({', '.join(self.arguments)}):\n    {body}", self.values)
        return self.values["run"]

    def _needed(self) -> list["Line"]:
        """The lines that the results depend on."""
        lines, needed = [], set(self.results)
        for line in reversed(self.lines):
            if not needed.isdisjoint(line.results):
                lines.append(line)
                needed.update(line.operands)
        return lines[::-1]

    def _write(self, jaxpr: Any) -> None:
        for eqn in jaxpr.eqns:
            name = eqn.primitive.name
            if name == "cond":
                eqn = self._handed_through(eqn)
            operands = [self._name(v) for v in eqn.invars]
            if name in INLINED and not makes_rows(eqn):
                self._inline(eqn, eqn.params[INLINED[name]], operands)
            elif eqn.outvars:
                self._bind(eqn.outvars, self._results(eqn, operands))

    def _handed_through(self, eqn: Any) -> Any:
        """A `cond` without the results that are operands in all branches."""
        places, new = pruned(eqn)
        for variable, place in zip(eqn.outvars, places, strict=True):
            if place is not None:
                self._bind([variable], [self._name(eqn.invars[place])])
        return new

    def _results(self, eqn: Any, operands: list[str]) -> list[str]:
        """The names of an equation's results."""
        name = eqn.primitive.name
        text = expression_of(eqn)
        if name in ("dynamic_slice", "dynamic_update_slice"):
            operands = self._bounded(eqn, operands)
        if name == "select_n" and (known := self.values.get(operands[0])) is not None:
            if known.size and np.all(known == known.flat[0]):
                return [operands[1 + int(known.flat[0])]]
        if name == "select_n" and len(operands) == 3 and operands[0] in self.scalars:
            text, operands = CHOICE, [self.scalars[operands[0]], *operands[1:]]
        elif name in ELEMENTWISE:
            operands = self._unfilled(eqn, operands)
        if name in SHAPED and not eqn.outvars[0].aval.shape:
            if operands[0] in self.scalars:
                return [self.scalars[operands[0]]]
            if operands[0] in self.entries:
                text, operands = "{}[{}]", self.entries[operands[0]]
        if text is None:
            text = f"{self._function(eqn)}({', '.join(['{}'] * len(operands))})"
        text = text.format(*operands)
        if text in operands:
            return [text]
        if text not in self.known:
            self.known[text] = self._computed(eqn, operands, text) or self._line(
                eqn, operands, text
            )
        results = self.known[text]
        if name in SHAPED and not eqn.invars[0].aval.shape:
            self.scalars[results[0]] = operands[0]
        if name == "dynamic_slice" and eqn.outvars[0].aval.shape == (1,):
            self.entries[results[0]] = operands
        return results

    def _bounded(self, eqn: Any, operands: list[str]) -> list[str]:
        """The operands of a dynamic slice or update, with starts as ints that fit the array."""
        window = eqn.outvars[0] if eqn.primitive.name == "dynamic_slice" else eqn.invars[1]
        shape, sizes = eqn.invars[0].aval.shape, window.aval.shape
        first = len(operands) - len(shape)
        lasts = [n - k for n, k in zip(shape, sizes, strict=True)]
        return operands[:first] + list(map(self._place, operands[first:], lasts))

    def _place(self, start: str, last: int) -> str:
        text = f"min(max({start}.item(), 0), {last})"
        if start in self.values:
            return self._value(eval(text, self.values))
        if text not in self.known:
            self.known[text] = [self._new()]
            self.lines.append(Line(self.known[text], text, [start], unpacks=False))
        return self.known[text][0]

    def _computed(self, eqn: Any, operands: list[str], text: str) -> list[str]:
        """The names of constant results; none if an operand is no constant."""
        if eqn.primitive.name in LOOPS or any(name not in self.values for name in operands):
            return []
        with np.errstate(all="ignore"):
            found = eval(text, self.values)
        return [self._value(v) for v in (found if eqn.primitive.multiple_results else [found])]

    def _line(self, eqn: Any, operands: list[str], text: str) -> list[str]:
        results = [self._new() for _ in eqn.outvars]
        self.lines.append(Line(results, text, operands, eqn.primitive.multiple_results))
        return results

    def _unfilled(self, eqn: Any, operands: list[str]) -> list[str]:
        """Scalars in place of arrays that they fill, if another operand has the result's shape."""
        shapes = [v.aval.shape for v in eqn.invars]
        shape = eqn.outvars[0].aval.shape
        if eqn.primitive.name == "select_n" and shapes[0] != shape:
            return operands
        is_whole = [
            s == shape and o not in self.scalars for s, o in zip(shapes, operands, strict=True)
        ]
        return [self.scalars.get(o, o) for o in operands] if any(is_whole) else operands

    def _inline(self, eqn: Any, inner: Any, operands: Sequence[str]) -> None:
        self._bind(inner.jaxpr.constvars, [self._value(_plain(c)) for c in inner.consts])
        self._bind(inner.jaxpr.invars, operands)
        self._write(inner.jaxpr)
        self._bind(eqn.outvars, [self._name(v) for v in inner.jaxpr.outvars])

    def _bind(self, variables: Sequence, names: Sequence[str]) -> None:
        self.names |= dict(zip(variables, names, strict=True))

    def _new(self) -> str:
        return f"v{next(self.count)}"

    def _name(self, atom: Any) -> str:
        if isinstance(atom, Literal):
            aval: Any = atom.aval
            return self._value(np.dtype(aval.dtype).type(atom.val))
        return self.names[atom]

    def _value(self, value: Any) -> str:
        same: Any = id(value)
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
            same = value.dtype, value.shape, value.tobytes()
        return self._keep(same, lambda: value)

    def _function(self, eqn: Any) -> str:
        """The name of the function that equals the equation, one for equal equations."""
        shapes = [(v.aval.shape, v.aval.dtype) for v in (*eqn.invars, *eqn.outvars)]
        same: Any = eqn.primitive.name, tuple(eqn.params.items()), tuple(shapes)
        try:
            hash(same)
        except TypeError:
            same = id(eqn)
        call = CALLS.get(eqn.primitive.name)
        return self._keep(same, lambda: call(eqn, Lazy) if call else form_of(eqn))

    def _keep(self, same: Any, make: Callable[[], Any]) -> str:
        if same not in self.kept:
            self.kept[same] = name = f"c{len(self.values)}"
            self.values[name] = make()
        return self.kept[same]


class Line(NamedTuple):
    """`results = text`."""

    results: list[str]
    text: str
    operands: list[str]
    unpacks: bool

    def __str__(self) -> str:
        comma = "," if self.unpacks and len(self.results) == 1 else ""
        return f"{', '.join(self.results)}{comma} = {self.text}"


def _plain(constant: Any) -> Any:
    return np.asarray(constant)[()]


class Lazy:
    """A jaxpr whose source is written at its first run: most branches are never taken."""

    def __init__(self, closed: Any):
        self.closed = closed
        self.run: Callable[..., list] = self._first

    def _first(self, *operands: Any) -> list:
        self.run = Source(self.closed.jaxpr, self.closed.consts).function()
        return self.run(*operands)
