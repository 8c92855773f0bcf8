"""Control flow: the same loop or branch, over a body that sees perturbed arrays.

The new bodies capture perturbed operands, as a Python function captures variables. `scan` slices arrays:
each iteration gets a slice of the base and a slice of a factor. An iteration changes its carry, so carries
are materialised.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, jaxpr_as_fun

from zojax.implicit import _compat, _registry
from zojax.implicit._materialise import materialise
from zojax.implicit._perturbed import Loop, Perturbed, base_of
from zojax.implicit._pieces import shards_of, slices_of
from zojax.implicit._registry import rule
from zojax.implicit._walk import Context, Known


def _has_elementwise_body(eqn: JaxprEqn) -> bool:
    return all(map(_registry.is_elementwise, _compat.inner_jaxpr(eqn)[0].eqns))


def _known_of_call(context: Context, eqn: JaxprEqn, *operands) -> Known:
    return context.known_of(*_compat.inner_jaxpr(eqn), operands)


@rule(
    "jit",
    elementwise=_has_elementwise_body,
    inlined=True,
    deferred=True,
    flat=True,
    known=_known_of_call,
)
@rule("closed_call", inlined=True, deferred=True, flat=True, known=_known_of_call)
@rule(
    "custom_jvp_call",
    "custom_vjp_call",
    elementwise=_has_elementwise_body,
    deferred=True,
    known=_known_of_call,
)
@rule("remat2", deferred=True, known=_known_of_call)
def call(context: Context, eqn: JaxprEqn, *operands) -> list:
    """Evaluates the body in place. Values do not need its derivative rules."""
    context.on_call(eqn)
    jaxpr, consts = _compat.inner_jaxpr(eqn)
    return context.interpret(jaxpr, consts, operands)


def _known_of_scan(context: Context, eqn: JaxprEqn, *operands) -> tuple | None:
    """(first, carry) after the iterations whose noise is zero, of a loop that only has a carry."""
    del context
    consts, init, xs = _compat.scan_operands(eqn, operands)
    noisy = [x for x in xs if isinstance(x, Perturbed)]
    others = [*consts, *init, *(x for x in xs if not isinstance(x, Perturbed))]
    unknown = any(x is None or isinstance(x, Perturbed) for x in others)
    firsts = [x.first for x in noisy if x.first is not None]
    if unknown or len(firsts) < len(noisy) or eqn.params["reverse"] or len(eqn.outvars) > len(init):
        return None
    bases, run = [*map(base_of, xs)], jaxpr_as_fun(eqn.params["jaxpr"])
    first = jnp.min(jnp.stack(firsts))

    def body(i, carry):
        return run(*consts, *carry, *(x[i] for x in bases))

    return first, lax.fori_loop(0, first, body, init)


@rule("scan", moves=True, deferred=True, known=_known_of_scan)
def scan(context: Context, eqn: JaxprEqn, *operands) -> list:
    p = eqn.params
    consts, init, xs = _compat.scan_operands(eqn, operands)
    consts = _constants(context, eqn, consts, beside=[*init, *xs])
    init = [context.plain(x, eqn) for x in init]
    xs = [_vectors_at_once(context, eqn, x, init) for x in xs]
    jaxpr, literals = _compat.open_jaxpr(p["jaxpr"])
    stacks = [slices_of(x) if isinstance(x, Perturbed) else (x, lambda s: s) for x in xs]
    for x in xs:
        context.kept(x, eqn)

    def body(carry, slices):
        xs = [rebuild(s) for (_, rebuild), s in zip(stacks, slices, strict=True)]
        args = [*consts, *carry, *xs]
        changing = jax.tree.leaves((carry, slices))
        outs = context.interpret_body(eqn, jaxpr, literals, args, changing)
        return outs[: len(carry)], outs[len(carry) :]

    arrays = [arrays for arrays, _ in stacks]
    if context.known is not None:
        first, carry = context.known

        def rest(i, carry):
            return body(carry, jax.tree.map(lambda x: x[i], arrays))[0]

        return lax.fori_loop(first, p["length"], rest, carry)
    options = {k: p[k] for k in ("length", "reverse", "unroll")}
    carry, ys = lax.scan(body, init, arrays, **options)
    return [*carry, *ys]


def _vectors_at_once(context: Context, eqn: JaxprEqn, x, beside):
    """On a GPU, materialises small vectors of all layers before the loop, to launch fewer kernels."""
    is_stack = isinstance(x, Perturbed) and x.is_stack_of_vectors
    if not is_stack or jax.default_backend() != "gpu":
        return x
    context.kept(x, eqn)
    return materialise(context.waiting(x, beside))


def _constants(context: Context, eqn: JaxprEqn, consts: Sequence, beside: Sequence) -> list:
    """The constants of a loop. It holds dense ones up to `held_bytes`, the smallest first.

    Their noise waits for the operands of the loop: then XLA makes it once, late. Other noise waits for
    arrays of the body, so each iteration makes it again. Low-rank factors are small, and exist.
    """
    loop, room = Loop(eqn, len(context.sources) - 1), context.held_bytes
    found: dict[int, Perturbed] = {}
    dense = [x for x in consts if isinstance(x, Perturbed) and not (x.is_factored or x.held_by)]
    for x in sorted(dense, key=lambda x: x.nbytes):
        if id(x) not in found:
            room -= x.nbytes
            fits = room >= 0
            found[id(x)] = context.waiting(x, beside).held(loop) if fits else x.unshared()
    return [found.get(id(x), x) for x in consts]


@rule("while", moves=True, deferred=True)
def while_loop(context: Context, eqn: JaxprEqn, *operands) -> list:
    p = eqn.params
    n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    init = [context.plain(x, eqn) for x in operands[m:]]
    consts = _constants(context, eqn, operands[:m], beside=init)
    cond_jaxpr, cond_literals = _compat.open_jaxpr(p["cond_jaxpr"])
    body_jaxpr, body_literals = _compat.open_jaxpr(p["body_jaxpr"])

    def test(carry):
        args = [*consts[:n], *carry]
        return context.interpret_body(eqn, cond_jaxpr, cond_literals, args, carry)[0]

    def body(carry):
        args = [*consts[n:], *carry]
        return context.interpret_body(eqn, body_jaxpr, body_literals, args, carry)

    return lax.while_loop(test, body, init)


@rule("cond", moves=True, deferred=True)
def cond(context: Context, eqn: JaxprEqn, index, *operands) -> list:
    def branch(closed):
        jaxpr, literals = _compat.open_jaxpr(closed)

        return lambda: context.interpret_body(eqn, jaxpr, literals, operands)

    branches = [branch(b) for b in eqn.params["branches"]]
    platforms = eqn.params.get("branches_platforms")
    if platforms is None:
        return lax.switch(context.plain(index, eqn), branches)
    # From `lax.platform_dependent`: a branch of another platform may have no lowering here.
    named = [(names or ("default",), b) for names, b in zip(platforms, branches, strict=True)]
    return lax.platform_dependent(**{name: b for names, b in named for name in names})


@rule("shard_map", deferred=True)
def shard_map(context: Context, eqn: JaxprEqn, *operands) -> list:
    """Shards each factor as its axes: each device makes the noise of its shard."""
    p = eqn.params
    jaxpr, literals = _compat.open_jaxpr(p["jaxpr"])
    parts = [
        shards_of(x, spec) if isinstance(x, Perturbed) else (x, spec, lambda x: x)
        for x, spec in zip(operands, p["in_specs"], strict=True)
    ]
    arrays, specs, rebuild = zip(*parts, strict=True)

    def body(*shards):
        args = [make(s) for make, s in zip(rebuild, shards, strict=True)]
        return tuple(context.interpret_body(eqn, jaxpr, literals, args))

    mapped = jax.shard_map(
        body,
        mesh=p["mesh"],
        in_specs=specs,
        out_specs=tuple(p["out_specs"]),
        check_vma=p["check_vma"],
        axis_names=_compat.manual_axes(eqn),
    )
    return list(mapped(*arrays))
