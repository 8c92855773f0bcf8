"""Functions of JAX run by NumPy: traced, not compiled.

XLA compiles a program in seconds, and NumPy runs the same equations at once. On the host, a step of a
search is a few hundred operations on small arrays, for which NumPy is as fast as a compiled program.
"""

import itertools
import marshal
import math
import pickle
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import lru_cache, partial
from types import CodeType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._jaxpr import Primitive, scan_sizes
from zojax.search._later import later_p, traced_now, waiting
from zojax.search.engine._branches import pruned
from zojax.search.engine._loops import CALLS, LOOPS, makes_rows, several_rows
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
named_input_p = Primitive("named_input")
named_input_p.def_abstract_eval(lambda like, *, name: like)
_given: ContextVar[dict[str, Any] | None] = ContextVar("given", default=None)


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
    code, shapes = traced(fun, *examples)
    return runnable(code), shapes


def traced(fun: Callable[..., Any], *examples: Any) -> tuple["Code", Any]:
    """(code, shapes) of `fun`, for `runnable`. Pickled code needs no tracing."""
    with waiting():
        closed, shapes = jax.make_jaxpr(fun, return_shape=True)(*examples)
    _require_forms(closed.jaxpr)
    return Code(lambda: closed), shapes


def runnable(code: "Code", inputs: dict[str, np.ndarray] | None = None) -> Callable[..., list]:
    """The program of a code, for the values of its `named_input`s."""
    bound = Bound(code, inputs or {})

    def program(*leaves: Any) -> list:
        with np.errstate(all="ignore"):
            return bound.run(*leaves)

    return program


def named_input(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array that a program gets when it is bound. Everything computed from it alone is computed once."""
    given = _given.get()
    if given is not None:
        return jnp.asarray(given[name], dtype)
    return named_input_p.bind(np.zeros(shape, dtype), name=name)


def _require_forms(jaxpr: Any) -> None:
    """Raises for an equation without a form, also in a branch that is not taken."""
    for eqn in jaxpr.eqns:
        if eqn.primitive in (named_input_p, later_p):
            continue
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
        # The vector and the place of the one entry of an array.
        self.entries: dict[str, list[str]] = {}
        self.calls: dict[str, Equation] = {}  # the functions among the values
        self.early: set[str] = set()  # results that depend on named inputs alone
        self.count = itertools.count()
        self.arguments = [self._new() for _ in jaxpr.invars]
        self._bind(jaxpr.invars, self.arguments)
        self._bind(jaxpr.constvars, [self._value(_plain(c)) for c in consts])
        self._write(jaxpr)
        self.results = [self._name(v) for v in jaxpr.outvars]

    def text(self) -> "Text":
        lines = self._needed()
        early = [str(line) for line in lines if line.results[0] in self.early]
        body = self._freed([line for line in lines if line.results[0] not in self.early])
        run = "\n    ".join([*body, f"return [{', '.join(self.results)}]"])
        text = "\n".join([*early, f"def run({', '.join(self.arguments)}):\n    {run}"])
        used = set(re.findall(r"\w+", text)) & self.values.keys() - NAMES.keys()
        calls = {name: eqn for name, eqn in self.calls.items() if name in used}
        constants = {n: self.values[n] for n in used - calls.keys()}
        return Text(compile(text, "<NumPy program>", "exec"), constants, calls)

    def _freed(self, lines: list["Line"]) -> list[str]:
        """The lines, each followed by a `del` of what no later one reads.

        Freed memory is used again while it is in the cache. New pages cost ten times an addition.
        """
        texts, read = [], {*self.results, *self.early, *self.values}
        for line in reversed(lines):
            dead = {*line.operands, *line.results} - read
            texts += [f"del {', '.join(sorted(dead))}"] if dead else []
            texts.append(str(line))
            read |= dead
        return texts[::-1]

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
            if eqn.primitive is named_input_p:
                self.early.add(eqn.params["name"])
                self._bind(eqn.outvars, [eqn.params["name"]])
            elif name in INLINED and not makes_rows(eqn):
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
        if name == later_p.name:
            condition, *leaves = operands
            kept = ", ".join(leaves[: eqn.params["kept"]])
            text = f"{self._function(eqn)}.run({', '.join(leaves)}) if {condition} else ({kept},)"
        elif name == "cond":
            operands[0] = self._place(operands[0], len(eqn.params["branches"]) - 1)
            text = f"{self._function(eqn)}[{operands[0]}].run({', '.join(operands[1:])})"
        elif text is None:
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
            self._add(Line(self.known[text], text, [start], unpacks=False))
        return self.known[text][0]

    def _computed(self, eqn: Any, operands: list[str], text: str) -> list[str]:
        """The names of constant results; none if an operand is no constant."""
        if eqn.primitive.name in CALLS or any(name not in self.values for name in operands):
            return []
        with np.errstate(all="ignore"):
            found = eval(text, self.values)
        return [self._value(v) for v in (found if eqn.primitive.multiple_results else [found])]

    def _line(self, eqn: Any, operands: list[str], text: str) -> list[str]:
        results = [self._new() for _ in eqn.outvars]
        self._add(Line(results, text, operands, eqn.primitive.multiple_results))
        return results

    def _add(self, line: "Line") -> None:
        self.lines.append(line)
        if all(name in self.values or name in self.early for name in line.operands):
            self.early.update(line.results)

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
        if hasattr(atom, "val"):  # a literal
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
        name = self._keep(same, lambda: None)
        if name not in self.calls:
            self.calls[name] = plain = equation_of(eqn)
            if eqn.primitive.name not in CALLS:
                self.values[name] = form_of(plain)
        return name

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


class Type(NamedTuple):
    """The shape and dtype of an operand or a result."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Variable(NamedTuple):
    aval: Type


@lru_cache(1024)
def _variable(shape: tuple[int, ...], dtype: Any) -> Variable:
    """One object for equal types, which is pickled once."""
    return Variable(Type(shape, dtype))


class Named(NamedTuple):
    name: str


class Equation(NamedTuple):
    """What a form reads of an equation of JAX. Inner programs are `Code`."""

    primitive: Named
    params: dict[str, Any]
    invars: list[Variable]
    outvars: list[Variable]

    def __reduce__(self):
        params = self.params
        if self.primitive.name not in CALLS:  # some of JAX's own have no pickle
            params = {name: v for name, v in params.items() if _has_pickle(v)}
        return Equation, (self.primitive, params, self.invars, self.outvars)


def equation_of(eqn: Any) -> Equation:
    """The equation without its jaxprs."""

    def types(variables):
        return [_variable(v.aval.shape, v.aval.dtype) for v in variables]

    name, params = eqn.primitive.name, eqn.params
    if name == "cond":
        params = {"branches": tuple(_code(branch) for branch in params["branches"])}
    elif name == "while":
        test, body = params["cond_jaxpr"], params["body_jaxpr"]
        params = {n: params[n] for n in ("cond_nconsts", "body_nconsts")}
        params |= {"cond_jaxpr": _code(test), "body_jaxpr": _code(body)}
        params["is_batched"] = bool(test.out_avals[0].shape)
    elif name == "scan":
        params = {n: params[n] for n in ("jaxpr", "length", "reverse")}
        params["jaxpr"] = _code(params["jaxpr"])
        params["num_consts"], params["num_carry"] = scan_sizes(eqn)
    elif name == later_p.name:
        params = {"jaxpr": Code(partial(_traced_now, eqn), otherwise=_compiled(params))}
    elif name in CALLS:
        params = {"jaxpr": Code(partial(several_rows, eqn))}
    return Equation(Named(name), params, types(eqn.invars), types(eqn.outvars))


def _code(closed: Any) -> "Code":
    return Code(lambda: closed)


def _traced_now(eqn: Any) -> Any:
    closed = traced_now(eqn)
    _require_forms(closed.jaxpr)
    return closed


def _compiled(later: dict[str, Any]) -> Callable[[dict[str, np.ndarray]], Callable[..., list]]:
    """A later branch as a program of XLA, by the values of named inputs."""

    @jax.jit
    def program(inputs, *leaves):
        token = _given.set(inputs)
        try:
            return later["fun"](*leaves)
        finally:
            _given.reset(token)

    def bind(inputs):
        def run(*leaves):
            with jax.enable_x64(later["x64"]):
                return [_plain(new) for new in program(inputs, *leaves)]

        return run

    return bind


def _has_pickle(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # of any kind: an object of JAX, which no form reads
        return False
    return True


class Text(NamedTuple):
    """The compiled source of a program: lines of constants and the function `run`."""

    source: CodeType
    constants: dict[str, Any]
    calls: dict[str, Equation]

    def __reduce__(self):
        return _text, (marshal.dumps(self.source), self.constants, self.calls)


def _text(source: bytes, constants: dict[str, Any], calls: dict[str, Equation]) -> Text:
    return Text(marshal.loads(source), constants, calls)


class Code:
    """A jaxpr whose source is written at its first run: most branches are never taken.

    Args:
      closed: a function that returns the jaxpr, until the text is written.
      text: the source, if it is known.
      otherwise: from the values of named inputs to a function of the leaves, if NumPy has no form.
    """

    def __init__(self, closed: Any, text: Text | None = None, otherwise: Callable | None = None):
        self.closed = closed
        self.text = text
        self.otherwise = otherwise
        self.forms: dict[str, Callable] | None = None

    def __reduce__(self):
        return Code, (None, self._written())

    def _written(self) -> Text:
        make = self.closed  # first: another thread may write the text meanwhile
        if self.text is None:
            closed = make()
            self.text, self.closed = Source(closed.jaxpr, closed.consts).text(), None
        return self.text

    def function(self, inputs: dict[str, np.ndarray]) -> Callable[..., list]:
        """The function of the leaves, for the values of named inputs."""
        try:
            source, constants, calls = self._written()
        except NoNumPyFormError:
            if self.otherwise is None:
                raise
            return self.otherwise(inputs)
        if self.forms is None:
            simple = {n: eqn for n, eqn in calls.items() if eqn.primitive.name not in CALLS}
            self.forms = {name: form_of(eqn) for name, eqn in simple.items()}
        values: dict[str, Any] = NAMES | constants | self.forms | inputs
        for name, eqn in calls.items():
            if name not in self.forms:
                values[name] = CALLS[eqn.primitive.name](eqn, lambda code: Bound(code, inputs))
        exec(source, values)
        return values["run"]


class Bound:
    """A code with its named inputs."""

    def __init__(self, code: Code, inputs: dict[str, np.ndarray]):
        self.code, self.inputs = code, inputs
        self.run: Callable[..., list] = self._first

    def _first(self, *operands: Any) -> list:
        self.run = self.code.function(self.inputs)
        return self.run(*operands)
