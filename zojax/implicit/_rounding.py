"""An optimizer's update with the same bits and the same memory in every compiled program."""

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from zojax import _barriers
from zojax._sharding import typed_like, varying_like
from zojax.implicit import _compat, _registry

_LARGE = 2**12  # entries; a copy of a smaller array costs little


def settled_update(update, ok: jax.Array, finite: jax.Array):
    """`update(grads, state, *rest) -> (updates, state)`, with rounded products and states computed once.

    A compiler contracts a product and a sum inside one kernel, so the same update may round once or
    twice and differ by a bit from program to program. `_barriers.rounded` prevents it; see there for
    `finite`. Loops and branches compile alone and stay as they are.

    A compiler also repeats cheap arithmetic, directions included, in each kernel that reads it. The
    kernel of the updates would read the old moments after the new ones overwrite them, at the price of
    a copy. With `_barriers.settle` it reads the new ones. Where `ok` is false, the state stays the old
    one.
    """

    def run(grads, state, *rest):
        leaves, treedef = jax.tree.flatten((grads, state, *rest))
        leaves = [varying_like(x, (ok, finite)) for x in leaves]
        _, state, *_ = treedef.unflatten(leaves)
        closed, fill = _compat.trace(lambda leaves: update(*treedef.unflatten(leaves)), leaves)
        old = jax.tree.leaves(state)
        outvars = closed.jaxpr.outvars
        first = len(outvars) - len(old)
        news = _News(ok, zip(outvars[first:], old, strict=True))
        outs = _interpret(closed.jaxpr, closed.consts, leaves, finite, news)
        new = [news.kept(*pair) for pair in zip(outvars[first:], outs[first:], old, strict=True)]
        return fill([*outs[:first], *new])

    return run


class _News:
    """The variables of the new state, each with the old value of its place."""

    def __init__(self, ok, pairs):
        self.ok, self.settled = ok, {}
        self.old = {var: x for var, x in pairs if not isinstance(var, Literal)}

    def settle(self, var, new):
        """The value that later equations read in place of a new one."""
        if var not in self.old:
            return new
        value = jnp.where(self.ok, new, typed_like(self.old[var], new))
        if jnp.issubdtype(value.dtype, jnp.floating) and value.size >= _LARGE:
            value = _barriers.settle(value)
        self.settled[var] = self.old[var]
        return value

    def kept(self, var, value, old):
        """A new value; the old one where `ok` is false."""
        is_literal = isinstance(var, Literal)
        if not is_literal and self.settled.get(var) is old:
            return value
        return jnp.where(self.ok, value, typed_like(old, value))


def _interpret(jaxpr, consts, args, finite, news):
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    for eqn in jaxpr.eqns:
        operands = [_compat.read(values, v) for v in eqn.invars]
        known = _registry.lookup(eqn.primitive.name)
        with _compat.context_of(eqn):
            if known.inlined:
                inner, inner_consts = _compat.inner_jaxpr(eqn)
                outs = _interpret(inner, inner_consts, operands, finite, news)
            else:
                outs = _compat.bind(eqn, *operands)
            if known.product and jnp.issubdtype(outs[0].dtype, jnp.floating):
                outs = [_barriers.rounded(outs[0], finite)]
        values.update(
            (var, news.settle(var, out)) for var, out in zip(eqn.outvars, outs, strict=True)
        )
    return [_compat.read(values, v) for v in jaxpr.outvars]
