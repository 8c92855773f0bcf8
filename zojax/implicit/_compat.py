"""All that zojax knows about JAX's internals and their versions (0.10 to the newest)."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, cast

import jax
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from zojax._jaxpr import scan_sizes


def open_jaxpr(jaxpr) -> tuple[Any, Sequence]:
    """(jaxpr, constants) of an open or a closed jaxpr."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def read(values: dict, atom) -> Any:
    """The value of a variable, or of a literal."""
    return atom.val if isinstance(atom, Literal) else values[atom]


def inner_jaxpr(eqn: JaxprEqn) -> tuple[Any, Sequence]:
    """The jaxpr of a call-like equation, and its constants."""
    params = eqn.params
    return open_jaxpr(next(params[n] for n in ("jaxpr", "call_jaxpr", "fun_jaxpr") if n in params))


def operand_type(eqn: JaxprEqn, index: int = 0) -> jax.core.ShapedArray:
    """Shape and dtype of an operand."""
    return cast(jax.core.ShapedArray, eqn.invars[index].aval)


def output_type(eqn: JaxprEqn) -> jax.core.ShapedArray:
    """Shape and dtype of the first output."""
    return cast(jax.core.ShapedArray, eqn.outvars[0].aval)


def scan_operands(eqn: JaxprEqn, operands: Sequence) -> tuple[list, list, list]:
    """The operands of a scan: constants, carry, and stacked inputs."""
    consts, carry = scan_sizes(eqn)
    first, second = consts, consts + carry
    return list(operands[:first]), list(operands[first:second]), list(operands[second:])


def manual_axes(eqn: JaxprEqn) -> frozenset:
    """The mesh axes over which a shard_map equation maps."""
    params = eqn.params
    return params["newly_manual_axes" if "newly_manual_axes" in params else "manual_axes"]


def bind(eqn: JaxprEqn, *args) -> list:
    """Runs one equation on other arguments; always a list of outputs."""
    params = eqn.primitive.get_bind_params(eqn.params)
    functions, params = params if isinstance(params, tuple) else ((), params)
    outs = eqn.primitive.bind(*functions, *args, **params)
    return list(outs) if eqn.primitive.multiple_results else [outs]


def trace(fun: Callable, arrays) -> tuple[ClosedJaxpr, Callable[[Sequence], Any]]:
    """The closed jaxpr of the arrays in `fun(arrays)`, and a function from arrays to that tree again."""
    fills = []

    def outputs(arrays):
        outs, fill = partition(fun(arrays), _is_traceable)
        fills.append(fill)
        return outs

    return jax.make_jaxpr(outputs)(arrays), fills[0]


def partition(tree, is_array: Callable[[Any], bool]) -> tuple[list, Callable[[Sequence], Any]]:
    """The arrays of a tree, and a function that puts others in their places; the rest stays static."""
    leaves, treedef = jax.tree.flatten(tree)
    places = [i for i, x in enumerate(leaves) if is_array(x)]
    arrays = [leaves[i] for i in places]
    for i in places:
        leaves[i] = None  # a tracer kept here would leak

    def fill(arrays):
        filled = list(leaves)
        for i, array in zip(places, arrays, strict=True):
            filled[i] = array
        return treedef.unflatten(filled)

    return arrays, fill


def _is_traceable(x) -> bool:
    try:
        jax.typeof(x)
    except TypeError:
        return False
    return True


@contextmanager
def context_of(eqn: JaxprEqn):
    """The user's line, named scopes and settings of an equation, for errors and profiles."""
    names = source_info_util.current_name_stack() + eqn.source_info.name_stack
    traceback = eqn.source_info.traceback
    with source_info_util.user_context(traceback, name_stack=names), eqn.ctx.manager:
        yield


def source_line(eqn: JaxprEqn) -> str:
    """'file.py:12:4 (function)' of the user's code, or an empty string."""
    return source_info_util.summarize(eqn.source_info)
