"""Functions of JAX run by NumPy: traced, not compiled.

XLA compiles a program in seconds, and NumPy runs the same equations at once. On the host, a step of a
search is a few hundred operations on small arrays, for which NumPy is as fast as a compiled program.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from zojax.search.engine._primitives import OPERATORS, form_of
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
    run = _Lazy(closed)

    def program(*leaves: Any) -> list:
        with np.errstate(all="ignore"):
            return run(*leaves)

    return program, shapes


def _require_forms(jaxpr: Any) -> None:
    """Raises for an equation without a form, also in a branch that is never taken."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in OPERATORS:
            continue
        if eqn.primitive.name not in INLINED and eqn.primitive.name not in LOOPS:
            form_of(eqn)
            continue
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda p: hasattr(p, "jaxpr")):
            if hasattr(value, "jaxpr"):
                _require_forms(value.jaxpr)


class Source:
    """The Python source of a jaxpr: one line an equation, with calls written out."""

    def __init__(self, jaxpr: Any, consts: Sequence):
        self.jaxpr = jaxpr
        self.lines: list[str] = []
        self.names: dict[Any, str] = {}
        self.values: dict[str, Any] = {}
        self.arguments = [self._new(v) for v in jaxpr.invars]
        self._bind(jaxpr.constvars, [self._value(_plain(c)) for c in consts])
        self._write(jaxpr)
        results = ", ".join(self._name(v) for v in jaxpr.outvars)
        self.lines.append(f"return [{results}]")

    def function(self) -> Callable[..., list]:
        body = "\n    ".join(self.lines)
        exec(f"def run({', '.join(self.arguments)}):\n    {body}", self.values)
        return self.values["run"]

    def _write(self, jaxpr: Any) -> None:
        for eqn in jaxpr.eqns:
            name = eqn.primitive.name
            operands = [self._name(v) for v in eqn.invars]
            if name in INLINED:
                self._inline(eqn, eqn.params[INLINED[name]], operands)
                continue
            operator = OPERATORS.get(name)
            if operator is not None:
                self.lines.append(f"{self._new(eqn.outvars[0])} = {operator.format(*operands)}")
                continue
            call = f"{self._value(LOOPS.get(name, form_of)(eqn))}({', '.join(operands)})"
            results = ", ".join(self._new(v) for v in eqn.outvars)
            comma = "," if eqn.primitive.multiple_results and len(eqn.outvars) == 1 else ""
            self.lines.append(f"{results}{comma} = {call}" if results else call)

    def _inline(self, eqn: Any, inner: Any, operands: Sequence[str]) -> None:
        self._bind(inner.jaxpr.constvars, [self._value(_plain(c)) for c in inner.consts])
        self._bind(inner.jaxpr.invars, operands)
        outer, self.names = self.names, dict(self.names)
        self._write(inner.jaxpr)
        results = [self._name(v) for v in inner.jaxpr.outvars]
        self.names = outer
        self._bind(eqn.outvars, results)

    def _bind(self, variables: Sequence, names: Sequence[str]) -> None:
        self.names |= dict(zip(variables, names, strict=True))

    def _new(self, variable: Any) -> str:
        self.names[variable] = name = f"v{len(self.lines)}_{len(self.names)}"
        return name

    def _name(self, atom: Any) -> str:
        if isinstance(atom, Literal):
            aval: Any = atom.aval
            return self._value(np.dtype(aval.dtype).type(atom.val))
        return self.names[atom]

    def _value(self, value: Any) -> str:
        name = f"c{len(self.values)}"
        self.values[name] = value
        return name


def _plain(constant: Any) -> Any:
    return np.asarray(constant)[()]


class _Lazy:
    """A jaxpr whose source is written at its first call: most branches are never taken."""

    def __init__(self, closed: Any):
        self.closed = closed

    @cached_property
    def run(self) -> Callable[..., list]:
        return Source(self.closed.jaxpr, self.closed.consts).function()

    def __call__(self, *operands: Any) -> list:
        return self.run(*operands)


def _cond(eqn: Any) -> Callable[..., list]:
    branches = [_Lazy(branch) for branch in eqn.params["branches"]]
    last = len(branches) - 1

    def cond(index, *operands):
        return branches[min(max(int(index), 0), last)](*operands)

    return cond


def _while(eqn: Any) -> Callable[..., list]:
    test, body = _Lazy(eqn.params["cond_jaxpr"]), _Lazy(eqn.params["body_jaxpr"])
    of_test, of_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]

    def loop(*operands):
        first, second = operands[:of_test], operands[of_test : of_test + of_body]
        carry = list(operands[of_test + of_body :])
        while test(*first, *carry)[0]:
            carry = body(*second, *carry)
        return carry

    def batched(*operands):
        first, second = operands[:of_test], operands[of_test : of_test + of_body]
        carry = list(operands[of_test + of_body :])
        while (going := test(*first, *carry)[0]).any():
            new = body(*second, *carry)
            carry = [_where(going, a, b) for a, b in zip(new, carry, strict=True)]
        return carry

    is_batched = eqn.params["cond_jaxpr"].out_avals[0].shape
    return batched if is_batched else loop


def _where(batch: np.ndarray, new: Any, old: Any) -> np.ndarray:
    """New entries for the members of a batch, by leading axes."""
    return np.where(batch.reshape(batch.shape + (1,) * (np.ndim(new) - batch.ndim)), new, old)


def _scan(eqn: Any) -> Callable[..., list]:
    body, length, reverse = _Lazy(eqn.params["jaxpr"]), eqn.params["length"], eqn.params["reverse"]
    num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    stacked = [v.aval for v in eqn.outvars[num_carry:]]

    def loop(*operands):
        consts = operands[:num_consts]
        carry = list(operands[num_consts : num_consts + num_carry])
        inputs = operands[num_consts + num_carry :]
        outputs = [np.empty(aval.shape, aval.dtype) for aval in stacked]
        for i in reversed(range(length)) if reverse else range(length):
            results = body(*consts, *carry, *(x[i] for x in inputs))
            carry = results[:num_carry]
            for output, result in zip(outputs, results[num_carry:], strict=True):
                output[i] = result
        return [*carry, *outputs]

    return loop


LOOPS = {"cond": _cond, "while": _while, "scan": _scan}
