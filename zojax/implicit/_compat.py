"""All that zojax knows about JAX's internals and their versions (0.10 to the newest)."""

from contextlib import contextmanager

import jax
from jax.extend import source_info_util


def inner_jaxpr(eqn):
    """The jaxpr of a call-like equation, and its constants."""
    params = eqn.params
    jaxpr = next(params[n] for n in ("jaxpr", "call_jaxpr", "fun_jaxpr") if n in params)
    return open_jaxpr(jaxpr)


def scan_operands(eqn, operands) -> tuple[list, list, list]:
    """The operands of a scan: constants, carry, and what is sliced."""
    params = eqn.params
    if "num_consts" in params:
        first, second = params["num_consts"], params["num_consts"] + params["num_carry"]
    else:  # jax >= 0.11
        consts, carry, _ = params["ft_in"].unpack()
        first, second = len(consts), len(consts) + len(carry)
    return operands[:first], operands[first:second], operands[second:]


def manual_axes(eqn) -> frozenset:
    """The mesh axes that a shard_map equation maps over."""
    params = eqn.params
    return params["newly_manual_axes" if "newly_manual_axes" in params else "manual_axes"]


# What compilers fuse into whatever reads it: entry by entry, and changes of shape.
_ELEMENTWISE = frozenset(
    "abs add add_any and broadcast_in_dim ceil clamp convert_element_type copy cos div eq erf exp exp2"
    " expm1 floor ge gt integer_pow is_finite le log log1p logistic lt max min mul ne neg not or pow"
    " reshape round rsqrt select_n sign sin sqrt square squeeze sub tanh"
    " transpose xor".split()
)


def is_elementwise(eqn) -> bool:
    """Whether an equation, or all that it calls, works entry by entry."""
    name = eqn.primitive.name
    if name in ("jit", "custom_jvp_call", "custom_vjp_call"):
        return all(map(is_elementwise, inner_jaxpr(eqn)[0].eqns))
    return name in _ELEMENTWISE


def open_jaxpr(jaxpr):
    """(jaxpr, constants) of an open or a closed jaxpr."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def bind(eqn, *args) -> list:
    """Runs one equation on other arguments; always a list of outputs."""
    params = eqn.primitive.get_bind_params(eqn.params)
    functions, params = params if isinstance(params, tuple) else ((), params)
    outs = eqn.primitive.bind(*functions, *args, **params)
    return list(outs) if eqn.primitive.multiple_results else [outs]


def trace(fun, arrays):
    """The closed jaxpr of `fun(arrays) -> (outputs, static)`, and `static`."""
    static = []

    def outputs(arrays):
        outs, rest = fun(arrays)
        static.append(rest)
        return outs

    return jax.make_jaxpr(outputs)(arrays), static[0]


@contextmanager
def context_of(eqn):
    """The user's line, named scopes and settings of an equation, for errors and profiles."""
    names = source_info_util.current_name_stack() + eqn.source_info.name_stack
    traceback = eqn.source_info.traceback
    with source_info_util.user_context(traceback, name_stack=names), eqn.ctx.manager:
        yield


def source_line(eqn) -> str:
    """'file.py:12:4 (function)' of the user's code, or an empty string."""
    return source_info_util.summarize(eqn.source_info)


def is_array(x) -> bool:
    """Whether JAX can trace `x` as an output."""
    try:
        jax.typeof(x)
    except TypeError:
        return False
    return True
