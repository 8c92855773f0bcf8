"""Control flow: the same loop or branch, over a body that sees perturbed arrays.

Perturbed operands are captured by the new bodies, as a Python function captures its variables; what
`scan` slices is passed as arrays, one slice of the base and of a factor to each iteration. Carries
are materialised: an iteration changes them.
"""

import jax
from jax import lax

from zojax.implicit import _compat
from zojax.implicit._perturbed import Perturbed


def call(context, eqn, *operands):
    """Calls are evaluated in place; their derivative rules do not matter to values."""
    jaxpr, consts = _compat.inner_jaxpr(eqn)
    return context.interpret(jaxpr, consts, operands)


def scan(context, eqn, *operands):
    p = eqn.params
    consts, init, xs = _compat.scan_operands(eqn, operands)
    consts = _due(context, consts, beside=[*init, *xs])
    init = [context.plain(x, eqn) for x in init]
    xs = [_vectors_at_once(context, eqn, x, init) for x in xs]
    jaxpr, literals = _compat.open_jaxpr(p["jaxpr"])
    stacks = [x.unstacked() if isinstance(x, Perturbed) else (x, lambda s: s) for x in xs]
    for x in xs:
        context.kept(x, eqn)

    def body(carry, slices):
        xs = [rebuild(s) for (_, rebuild), s in zip(stacks, slices, strict=True)]
        outs = context.interpret_body(eqn, jaxpr, literals, [*consts, *carry, *xs])
        return outs[: len(carry)], outs[len(carry) :]

    arrays = [arrays for arrays, _ in stacks]
    options = {k: p[k] for k in ("length", "reverse", "unroll")}
    carry, ys = lax.scan(body, init, arrays, **options)
    return [*carry, *ys]


def _vectors_at_once(context, eqn, x, beside):
    """On a GPU small vectors of all layers are perturbed before the loop, where each would take kernels."""
    is_stack = isinstance(x, Perturbed) and x.is_stack_of_vectors
    if not is_stack or jax.default_backend() != "gpu":
        return x
    context.kept(x, eqn)
    return context.waiting(x, beside).materialise()


def _due(context, consts, beside):
    """Noise that no iteration changes is generated once, before the loop, when the loop is due.

    That of low rank is not generated: it stays what evaluations of one direction share.
    """
    return [
        context.waiting(x, beside) if isinstance(x, Perturbed) and not x.is_factored else x
        for x in consts
    ]


def while_loop(context, eqn, *operands):
    p = eqn.params
    n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    cond_consts, body_consts = operands[:n], operands[n:m]
    init = [context.plain(x, eqn) for x in operands[m:]]
    body_consts = _due(context, body_consts, beside=init)
    cond_jaxpr, cond_literals = _compat.open_jaxpr(p["cond_jaxpr"])
    body_jaxpr, body_literals = _compat.open_jaxpr(p["body_jaxpr"])

    def test(carry):
        return context.interpret_body(eqn, cond_jaxpr, cond_literals, [*cond_consts, *carry])[0]

    def body(carry):
        return context.interpret_body(eqn, body_jaxpr, body_literals, [*body_consts, *carry])

    return lax.while_loop(test, body, init)


def cond(context, eqn, index, *operands):
    def branch(closed):
        jaxpr, literals = _compat.open_jaxpr(closed)

        return lambda: context.interpret_body(eqn, jaxpr, literals, operands)

    branches = [branch(b) for b in eqn.params["branches"]]
    platforms = eqn.params.get("branches_platforms")
    if platforms is None:
        return lax.switch(context.plain(index, eqn), branches)
    # Of `lax.platform_dependent`: other platforms' branches may have no lowering for this one.
    named = [(names or ("default",), b) for names, b in zip(platforms, branches, strict=True)]
    return lax.platform_dependent(**{name: b for names, b in named for name in names})


def shard_map(context, eqn, *operands):
    """Factors are sharded as the axes they have: noise is generated where its shard lives."""
    p = eqn.params
    jaxpr, literals = _compat.open_jaxpr(p["jaxpr"])
    parts = [
        x.sharded(spec) if isinstance(x, Perturbed) else (x, spec, lambda x: x)
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


CALLS = ("jit", "closed_call", "remat2", "custom_jvp_call", "custom_vjp_call")
CONTROL = dict.fromkeys(CALLS, call) | {"scan": scan, "while": while_loop, "cond": cond}
CONTROL["shard_map"] = shard_map
