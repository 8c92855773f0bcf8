"""A branch gets what it reads and returns what it changes: a state has a hundred arrays."""

from typing import Any

from jax.interpreters.partial_eval import dce_jaxpr


def pruned(eqn: Any) -> tuple[list[int | None], Any]:
    """(places, eqn): the place of the operand that equals a result, if any; a `cond` of the other results.

    The first operand is the index of the branch.
    """
    branches = eqn.params["branches"]
    places = [_place([b.jaxpr for b in branches], i) for i in range(len(eqn.outvars))]
    computed = [place is None for place in places]
    reads = [dce_jaxpr(b.jaxpr, computed)[1] for b in branches]
    read = [any(each) for each in zip(*reads, strict=True)]
    new = [b.replace(jaxpr=dce_jaxpr(b.jaxpr, computed, instantiate=read)[0]) for b in branches]
    index, *operands = eqn.invars
    return [None if place is None else place + 1 for place in places], eqn.replace(
        params=eqn.params | {"branches": tuple(new)},
        invars=[index, *(v for v, is_read in zip(operands, read, strict=True) if is_read)],
        outvars=[v for v, is_new in zip(eqn.outvars, computed, strict=True) if is_new],
    )


def _place(jaxprs: list[Any], i: int) -> int | None:
    """The place of the argument that all these functions return as their i-th result."""
    places = {_origin(jaxpr, jaxpr.outvars[i]) for jaxpr in jaxprs}
    return places.pop() if len(places) == 1 else None


def _origin(jaxpr: Any, atom: Any) -> int | None:
    """The place of the argument that a value equals, also if branches hand it through."""
    if atom in jaxpr.invars:
        return jaxpr.invars.index(atom)
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "cond" and atom in eqn.outvars:
            jaxprs = [b.jaxpr for b in eqn.params["branches"]]
            place = _place(jaxprs, eqn.outvars.index(atom))
            return None if place is None else _origin(jaxpr, eqn.invars[place + 1])
    return None
