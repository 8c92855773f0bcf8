"""The restart schedule of BIPOP: large populations that double, and small ones between them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Regime(NamedTuple):
    """One run between two restarts, and what both kinds of runs have spent so far."""

    population: jax.Array  # of this run
    step: jax.Array  # its first step size
    large: jax.Array  # population of the last large run
    is_small: jax.Array
    spent: jax.Array  # (2,) evaluations of large and of small runs
    started: jax.Array  # evaluations before this run
    limit: jax.Array  # evaluations of this run


def first_regime(population: int, step: float, dtype) -> Regime:
    """The first run. It counts as a small one, as in pycma, so that the second has twice its population."""
    return Regime(
        population=jnp.int32(population),
        step=jnp.asarray(step, dtype),
        large=jnp.int32(population),
        is_small=jnp.bool_(True),
        spent=jnp.zeros(2, jnp.int32),
        started=jnp.int32(0),
        limit=jnp.int32(2**31 - 1),
    )


def next_regime(regime: Regime, evaluations, u, *, least: int, most: int, step: float) -> Regime:
    """The next run: of the kind that has spent less, from two uniform numbers u.

        large: n <- min(2 n, most)        small: n = least (large / (2 least))^(u_0^2), s = step 10^(-2 u_1)

    A small run takes at most half of the evaluations of all large ones.
    """
    used = evaluations - regime.started
    spent = regime.spent + jnp.where(jnp.arange(2) == regime.is_small, used, 0)
    doubled = jnp.minimum(2 * regime.large, most)
    is_small = spent[1] < spent[0]
    ratio = jnp.maximum(doubled / (2 * least), 1.0)
    small = jnp.clip((least * ratio ** (u[0] ** 2)).astype(jnp.int32), least, most)
    return Regime(
        population=jnp.where(is_small, small, doubled),
        step=jnp.where(is_small, step * 10 ** (-2 * u[1]), step).astype(regime.step.dtype),
        large=jnp.where(is_small, regime.large, doubled),
        is_small=is_small,
        spent=spent,
        started=evaluations,
        limit=jnp.where(is_small, jnp.maximum(spent[0] // 2, 1), 2**31 - 1).astype(jnp.int32),
    )
