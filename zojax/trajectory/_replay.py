"""`replay` and `resume`: a run again, from its log, in one compiled loop without a loss."""

import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np

from zojax._kept import PROGRAMS
from zojax._numerics import marking_nan
from zojax._transform import ZerothOrder, ZerothOrderState
from zojax._trees import PyTree
from zojax.trajectory import _identity
from zojax.trajectory._log import Log, digests, require_log


def replay(params: PyTree, tx: ZerothOrder, log: Log) -> PyTree:
    """The parameters at the end of the logged run, to the bit.

    Every step is the estimator's weighted sum and the update of the inner transformation; Adam's
    moments and the like are made again on the way. The bits are those of the run on the same
    platform and version of JAX, whether it was one compiled loop or a program a step.

    A run that was sharded replays to the same bits under its own sharding. It does so under any other
    where no update sums over a leaf. Norms do (`clip_by_global_norm`, `lamb`), and so may low-rank and
    orthogonal directions.

    The last seal of the log is checked. A log without one, from another platform or version, gives a
    warning: nothing tells whether its bits are reached.

    Args:
      params: what the run began with; sharded as they are, so is the result.
      tx: the optimizer of the run; its key does not matter.
      log: from `load`, `truncate` or `merge`; from the first step on.

    Returns:
      The parameters.

    Raises:
      ValueError: for another base model or optimizer, with the reason; for a log without the first
        steps; for a sealed log whose parameters this replay does not reach, with the first seal that it
        misses, and the versions and shardings of both.
      TypeError: for a `tx` that does not come from `zojax.zeroth_order`, or a path in place of a log.

    References:
      Malladi et al., `Fine-tuning language models with just forward passes
      <https://arxiv.org/abs/2305.17333>`_, 2023, section 2.1: storing a seed and projected gradients.

    >>> import os, tempfile, jax.numpy as jnp, zojax
    >>> path = os.path.join(tempfile.mkdtemp(), "run.log")
    >>> tx, params0 = zojax.zo_sgd(0.1, momentum=0.9), jnp.ones(3)
    >>> with zojax.trajectory.Recorder(path, tx, params0) as recorder:
    ...     run = zojax.minimize(
    ...         lambda x: jnp.sum(x**2), params0, tx, 100, callback=recorder.callback)
    >>> log = zojax.trajectory.load(path)
    >>> log.steps, bool(jnp.all(zojax.trajectory.replay(params0, tx, log) == run.params))
    (100, True)
    """
    return resume(params, tx, log)[0]


@marking_nan
def resume(params: PyTree, tx: ZerothOrder, log: Log) -> tuple[PyTree, ZerothOrderState]:
    """The parameters and the state with which the logged run would have gone on.

    All of the state is as it was, with two exceptions. The losses `value` and `estimator_state.previous`
    are NaN where nothing depends on them, since the log has none. What only evaluations show (`used`,
    `flat`, `unresolved`, `clipped`, `first` and `least` of `estimator_state`) is counted from the
    resumption on.

    Args:
      params: what the run began with.
      tx: the optimizer of the run.
      log: as for `replay`.

    Returns:
      (params, state).

    Raises:
      As `replay`.
    """
    require_log(log)
    _identity.check(log.header, _identity.identify(tx, params))
    if log.start:
        raise ValueError(
            f"the log begins after step {log.start}: merge it with the log of the steps before."
        )
    here, seals = _identity.placements(params), digests(log)
    if not seals and log.header["made_with"] != _identity.made_with():
        warnings.warn(
            f"the log has no seal, and was recorded with {log.header['made_with']}; this is "
            f"{_identity.made_with()}: the replay may differ in its last bits. Give the recorder the "
            "parameters, recorder.append(state, params), and it seals the log.",
            stacklevel=2,
        )
    last = max(seals, default=log.steps)
    start = jax.tree.map(jnp.asarray, params)
    for steps, *found in _replayed(start, tx, log, {last, log.steps}):
        if steps in seals and _identity.digest(found[0]) != seals[steps]:
            raise ValueError(_other_bits(start, tx, log, here))
    return tuple(found)


def _replayed(params, tx, log: Log, stops) -> Iterator[tuple[int, PyTree, ZerothOrderState]]:
    """Parameters and state after these numbers of steps; the next one overwrites them."""
    state = tx.init(params)._replace(rng_key=log.key)
    tables = _tables(log, _identity.free(state.inner_state))
    params, state = jax.tree.map(jnp.copy, (params, state))  # the program overwrites them
    for first, stop in pairwise([0, *sorted(stops)]):
        rows = jax.tree.map(itemgetter(slice(first, stop)), (log.scalars, tables))
        params, state = _replaying(tx, stop - first)(params, state, *rows)
        yield stop, params, state


def _other_bits(params, tx, log: Log, here: list[str]) -> str:
    """Why a replay is refused: where it left the run, and what may differ."""
    reached, seals = 0, digests(log)
    for steps, found, _ in _replayed(params, tx, log, seals):
        if _identity.digest(found) != seals[steps]:
            break
        reached = steps
    where = f" (still the same after step {reached})" if reached else ""
    there = log.header.get("placements", ["unknown"] * len(here))
    leaf = next((i for i, (a, b) in enumerate(zip(there, here, strict=True)) if a != b), 0)
    path = log.header["leaves"][leaf][0] if here else ""
    return (
        f"the replay arrived at other parameters than the run, after step {steps}{where}. It was "
        f"recorded with {log.header['made_with']}, params{path}: {there[leaf]}; this is "
        f"{_identity.made_with()}, params{path}: {here[leaf]}. Replay with the versions and the "
        "sharding of the run, or without the check: log._replace(end=None, seals=())."
    )


@lru_cache(PROGRAMS)
def _replaying(tx: ZerothOrder, steps: int) -> Callable:
    """A program for each number of steps, of which the last few are kept."""
    n = tx.estimator.num_directions

    def run(params, state, scalars, tables):
        def body(carry, rows):
            return _identity.step(tx, n, *carry, *rows), None

        return jax.lax.scan(body, (params, state), (scalars, tables), length=steps)[0]

    return jax.jit(run, donate_argnums=(0, 1))


def _tables(log: Log, initial: list[dict]) -> list[dict]:
    """The free hyperparameters of every step, from those of the steps where they changed."""
    tables = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], log.steps, axis=0), initial)
    for step, values in log.hyperparameters:
        for name, value in values.items():
            part, name = name.split(".", 1)
            tables[int(part)][name][step:] = value
    return tables
