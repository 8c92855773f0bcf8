"""Equations that run other programs: branches, loops, and rows of random numbers.

`bind(code).run` is the program of a code, whose source is written at its first run.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from zojax.search._random import ROW

Bind = Callable[[Any], Any]


def _cond(eqn: Any, bind: Bind) -> list:
    return [bind(branch) for branch in eqn.params["branches"]]


def _while(eqn: Any, bind: Bind) -> Callable[..., list]:
    test, body = bind(eqn.params["cond_jaxpr"]), bind(eqn.params["body_jaxpr"])
    of_test, of_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]

    def loop(*operands):
        first, second = operands[:of_test], operands[of_test : of_test + of_body]
        carry = list(operands[of_test + of_body :])
        while test.run(*first, *carry)[0]:
            carry = body.run(*second, *carry)
        return carry

    def batched(*operands):
        first, second = operands[:of_test], operands[of_test : of_test + of_body]
        carry = list(operands[of_test + of_body :])
        while (going := test.run(*first, *carry)[0]).any():
            new = body.run(*second, *carry)
            carry = [_where(going, a, b) for a, b in zip(new, carry, strict=True)]
        return carry

    return batched if eqn.params["is_batched"] else loop


def _where(batch: np.ndarray, new: Any, old: Any) -> np.ndarray:
    """New entries for the members of a batch, by leading axes."""
    return np.where(batch.reshape(batch.shape + (1,) * (np.ndim(new) - batch.ndim)), new, old)


def _scan(eqn: Any, bind: Bind) -> Callable[..., list]:
    body, length, reverse = bind(eqn.params["jaxpr"]), eqn.params["length"], eqn.params["reverse"]
    num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    stacked = [v.aval for v in eqn.outvars[num_carry:]]

    def loop(*operands):
        consts = operands[:num_consts]
        carry = list(operands[num_consts : num_consts + num_carry])
        inputs = operands[num_consts + num_carry :]
        outputs = [np.empty(aval.shape, aval.dtype) for aval in stacked]
        for i in reversed(range(length)) if reverse else range(length):
            results = body.run(*consts, *carry, *(x[i] for x in inputs))
            carry = results[:num_carry]
            for output, result in zip(outputs, results[num_carry:], strict=True):
                output[i] = result
        return [*carry, *outputs]

    return loop


def _later(eqn: Any, bind: Bind) -> Any:
    return bind(eqn.params["jaxpr"])


def makes_rows(eqn: Any) -> bool:
    """Whether an equation is one row of random numbers."""
    return eqn.params.get("name") == ROW and eqn.invars[1].aval.size == 1


def _rows(eqn: Any, bind: Bind) -> Callable[..., Any]:
    """Rows of random numbers, several at once: a search asks for them one after the other."""
    code, later = bind(eqn.params["jaxpr"]), _next_numbers(eqn)
    # By seed: the first number, and the rows from it on.
    kept: dict[bytes, tuple[int, np.ndarray]] = {}

    def row_of(seed, number):
        first, rows = kept.get(of := seed.tobytes(), (0, ()))
        place = number.item() - first
        if not 0 <= place < len(rows):
            place, (rows,) = 0, code.run(seed, number + later)
            if len(kept) > SEEDS:
                kept.clear()
            kept[of] = number.item(), rows
        return [rows[place]]

    return row_of


def _next_numbers(eqn: Any) -> np.ndarray:
    """The numbers of several rows, from the first one on."""
    size = min(max(AHEAD // max(1, eqn.outvars[0].aval.size), 1), 64)
    return np.arange(size, dtype=np.uint32).reshape(size, *[1] * eqn.invars[1].aval.ndim)


def several_rows(eqn: Any) -> Any:
    """The jaxpr of several rows."""
    seed, closed = eqn.invars[0].aval, eqn.params["jaxpr"]
    one = partial(jax.core.eval_jaxpr, closed.jaxpr, closed.consts)
    with jax.enable_x64(True):
        seed = jax.ShapeDtypeStruct(seed.shape, seed.dtype)
        return jax.make_jaxpr(jax.vmap(one, (None, 0)))(seed, _next_numbers(eqn))


AHEAD = 4096  # random numbers made at once, at most
SEEDS = 16  # of which rows are kept
LOOPS = {"cond": _cond, "while": _while, "scan": _scan}
CALLS = LOOPS | {"jit": _rows, "later": _later}
