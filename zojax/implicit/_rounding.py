"""Arithmetic whose bits do not depend on how it is compiled."""

import jax
import jax.numpy as jnp

from zojax import noise
from zojax.implicit import _compat

_PRODUCTS = {"mul", "square", "integer_pow"}
_CALLS = {"jit", "closed_call"}


def with_rounded_products(fun, finite: jax.Array):
    """`fun` on pytrees of arrays, each product rounded before it enters a sum.

    Compilers contract a product and a sum where one kernel holds both, and so round once or twice as
    they fuse: the same update differs by a bit from program to program. See `noise.rounded`, also for
    `finite`. Loops and branches, which are compiled alone, are left as they are.
    """

    def interpret(jaxpr, consts, args):
        values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

        def read(atom):
            return atom.val if isinstance(atom, _compat.Literal) else values[atom]

        for eqn in jaxpr.eqns:
            operands, name = [read(v) for v in eqn.invars], _compat.primitive_name(eqn)
            with _compat.context_of(eqn):
                if name in _CALLS:
                    outs = interpret(*_compat.inner_jaxpr(eqn), operands)
                else:
                    outs = _compat.bind(eqn, *operands)
                if name in _PRODUCTS and jnp.issubdtype(outs[0].dtype, jnp.floating):
                    outs = [noise.rounded(outs[0], finite)]
            values.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def run(*args):
        leaves, treedef = jax.tree.flatten(args)
        closed, structure = _compat.trace(
            lambda leaves: jax.tree.flatten(fun(*treedef.unflatten(leaves))), leaves
        )
        return structure.unflatten(interpret(closed.jaxpr, closed.consts, leaves))

    return run
