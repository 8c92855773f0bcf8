"""`replay` and `resume`: a run again, from its log, in one compiled loop without a loss."""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from zojax._call import PROGRAMS
from zojax._transform import ZerothOrder, ZerothOrderState
from zojax._types import PyTree, marking_nan
from zojax.trajectory import _identity
from zojax.trajectory._log import Log, require_log


def replay(params: PyTree, tx: ZerothOrder, log: Log) -> PyTree:
    """The parameters at the end of the logged run, to the bit.

    Every step is the estimator's weighted sum and the update of the inner transformation; Adam's
    moments and the like are made again on the way. The bits are those of the run on the same
    platform and version of JAX, whether it was one compiled loop or a program a step. A run that was
    sharded replays under its own sharding, and without one too where entries do not depend on one
    another: dense directions, an inner transformation that takes no norm.

    Args:
      params: what the run began with; sharded as they are, so is the result.
      tx: the optimizer of the run; its key does not matter.
      log: from `load`, `truncate` or `merge`; from the first step on.

    Returns:
      The parameters.

    Raises:
      ValueError: for another base model or optimizer, with the reason; for a log without the first
        steps; for a sealed log whose parameters this replay does not reach.
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

    All of the state is as it was, except the losses `value` and `estimator_state.previous`: both are NaN
    where nothing depends on them, and the log has none.

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
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)._replace(rng_key=log.key)
    tables = _tables(log, _identity.free(state.inner_state))
    params, state = _replaying(tx, log.steps)(params, state, log.scalars, tables)
    if log.end is not None and _identity.digest(params) != log.end:
        raise ValueError(
            "the replay arrived at other parameters than the run, which was recorded with "
            f"{log.header['made_with']}; this is {_identity.made_with()}."
        )
    return params, state


@lru_cache(PROGRAMS)
def _replaying(tx: ZerothOrder, steps: int) -> Callable:
    """A program for each number of steps, of which the last few are kept."""
    n = tx.estimator.num_directions

    def run(params, state, scalars, tables):
        def body(carry, rows):
            return _identity.step(tx, n, *carry, *rows), None

        return jax.lax.scan(body, (params, state), (scalars, tables), length=steps)[0]

    return jax.jit(run)


def _tables(log: Log, initial: list[dict]) -> list[dict]:
    """The free hyperparameters of every step, from those of the steps where they changed."""
    tables = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], log.steps, axis=0), initial)
    for step, values in log.hyperparameters:
        for name, value in values.items():
            part, name = name.split(".", 1)
            tables[int(part)][name][step:] = value
    return tables
