"""An optimizer's update whose bits, and whose memory, do not depend on how it is compiled."""

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from zojax import _barriers
from zojax._sharding import varying_like
from zojax.implicit import _compat

_PRODUCTS = {"mul", "square", "integer_pow"}
_CALLS = {"jit", "closed_call"}
_LARGE = 2**12  # entries; what is smaller may as well be copied


def settled_update(update, ok: jax.Array, finite: jax.Array):
    """`update(grads, state, *rest) -> (updates, state)` with each product rounded and each state made once.

    Compilers contract a product and a sum where one kernel holds both, and so round once or twice as
    they fuse: the same update differs by a bit from program to program. See `_barriers.rounded`, also for
    `finite`. Loops and branches, which are compiled alone, are left as they are.

    Compilers also repeat cheap arithmetic in each kernel that reads it, directions included: the kernel
    of the updates would read the old moments after the new ones were to be written over them, which costs
    a copy. Here it reads the new ones, see `_barriers.settle`. Where not `ok` the state stays the old one.
    """

    def run(grads, state, *rest):
        leaves, treedef = jax.tree.flatten((grads, state, *rest))
        leaves = [varying_like(x, (ok, finite)) for x in leaves]
        _, state, *_ = treedef.unflatten(leaves)
        closed, structure = _compat.trace(
            lambda leaves: jax.tree.flatten(update(*treedef.unflatten(leaves))), leaves
        )
        old = jax.tree.leaves(state)
        outvars = closed.jaxpr.outvars
        first = len(outvars) - len(old)
        news = _News(ok, zip(outvars[first:], old, strict=True))
        outs = _interpret(closed.jaxpr, closed.consts, leaves, finite, news)
        new = [news.kept(*pair) for pair in zip(outvars[first:], outs[first:], old, strict=True)]
        return structure.unflatten([*outs[:first], *new])

    return run


class _News:
    """The variables that hold a new state, and the old values of their places."""

    def __init__(self, ok, pairs):
        self.ok, self.settled = ok, {}
        self.old = {var: x for var, x in pairs if not isinstance(var, Literal)}

    def settle(self, var, new):
        """What later equations read in place of a new value."""
        if var not in self.old:
            return new
        value = jnp.where(self.ok, new, self.old[var])
        if jnp.issubdtype(value.dtype, jnp.floating) and value.size >= _LARGE:
            value = _barriers.settle(value)
        self.settled[var] = self.old[var]
        return value

    def kept(self, var, value, old):
        """A new value, or the old one where it is not `ok`."""
        is_literal = isinstance(var, Literal)
        if not is_literal and self.settled.get(var) is old:
            return value
        return jnp.where(self.ok, value, old)


def _interpret(jaxpr, consts, args, finite, news):
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        operands, name = [read(v) for v in eqn.invars], eqn.primitive.name
        with _compat.context_of(eqn):
            if name in _CALLS:
                inner, inner_consts = _compat.inner_jaxpr(eqn)
                outs = _interpret(inner, inner_consts, operands, finite, news)
            else:
                outs = _compat.bind(eqn, *operands)
            if name in _PRODUCTS and jnp.issubdtype(outs[0].dtype, jnp.floating):
                outs = [_barriers.rounded(outs[0], finite)]
        values.update(
            (var, news.settle(var, out)) for var, out in zip(eqn.outvars, outs, strict=True)
        )
    return [read(v) for v in jaxpr.outvars]
