"""What zojax needs of JAX's primitives and equations without `jax.extend`, in all versions from 0.10 on.

The first import of `jax.extend` loads Pallas, which takes half as long as a first search.
"""

from collections.abc import Iterator
from typing import Any

from jax import lax
from jax.interpreters import ad, batching

Primitive: Any = type(lax.add_p)


def identity(name: str) -> Any:
    """A primitive that returns its argument, to be lowered."""
    primitive = Primitive(name)
    primitive.def_impl(lambda x: x)
    primitive.def_abstract_eval(lambda x: x)
    ad.deflinear(primitive, lambda cotangent: (cotangent,))
    batching.defvectorized(primitive)
    return primitive


def inner_jaxprs(eqn: Any) -> Iterator[Any]:
    """The programs of a call, of a loop, of the branches of a choice."""
    for value in eqn.params.values():
        for x in value if isinstance(value, tuple | list) else (value,):
            program = getattr(x, "jaxpr", x)
            if hasattr(program, "eqns"):
                yield program


def scan_sizes(eqn: Any) -> tuple[int, int]:
    """The numbers of constants and carries among the operands of a scan."""
    params = eqn.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # jax >= 0.11
    return len(consts), len(carry)
