"""Forms of equations that differ between versions of JAX, from 0.10 on."""

from typing import Any


def scan_sizes(eqn: Any) -> tuple[int, int]:
    """The numbers of constants and carries among the operands of a scan."""
    params = eqn.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # jax >= 0.11
    return len(consts), len(carry)
