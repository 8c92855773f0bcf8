"""`replay` and `resume`: a run from its log, in one compiled loop without a loss."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter

import jax
import jax.numpy as jnp

from zojax._kept import PROGRAMS
from zojax._numerics import marking_nan
from zojax._transform import ZerothOrder, ZerothOrderState
from zojax._trees import PyTree, copied
from zojax._warnings import warn
from zojax.trajectory import _identity
from zojax.trajectory._hyperparameters import free, tables
from zojax.trajectory._log import Log, digests, require_log


def replay(params: PyTree, tx: ZerothOrder, log: Log) -> PyTree:
    """The parameters at the end of the logged run, to the bit.

    Every step is the estimator's weighted sum and the update of the inner transformation, which computes
    its state again, such as Adam's moments. On the same platform and version of JAX the bits are those of
    the run, whether it was one compiled loop or a program a step.

    A sharded run replays to the same bits under its own sharding. Under another one it does if no update
    sums over a leaf, as norms (`clip_by_global_norm`, `lamb`) and low-rank or orthogonal directions may.
    The parameters must still exist: `jax.device_put` may share them with arrays that a program was donated.
    Keep a copy, `jax.device_put(params, sharding, may_alias=False)`.

    The replay checks the last seal of the log. It warns of a log without a seal from another platform or
    version, whose bits nothing can check.

    Args:
      params: the first parameters of the run; the result has their sharding.
      tx: the optimizer of the run; its key does not matter.
      log: from `load`, `truncate` or `merge`; from the first step on.

    Returns:
      The parameters.

    Raises:
      ValueError: another base model or optimizer, with the reason; a log without the first steps; a
        seal that this replay does not reach, with the versions and shardings of both.
      TypeError: a `tx` that does not come from `zojax.zeroth_order`, or a path in the place of a log.

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
    """The parameters and the state at the end of the logged run, to continue it.

    The state is as it was, with two exceptions. The losses `value` and `estimator_state.previous` are NaN
    if no step depends on them, since the log has none. `used`, `flat`, `unresolved`, `clipped`, `first`
    and `least` of `estimator_state` count evaluations, so they restart.

    Arguments and errors are as for `replay`.

    Returns:
      (params, state).
    """
    require_log(log)
    _identity.check(log.header, _identity.identify(tx, params))
    if log.start:
        raise ValueError(f"the log begins after step {log.start}: merge it with the one before.")
    here, seals = _identity.placements(params), digests(log)
    if not seals and log.header["made_with"] != _identity.made_with():
        warn(
            f"the log has no seal, and was recorded with {log.header['made_with']}; this is "
            f"{_identity.made_with()}: the replay may differ in its last bits. Give the recorder the "
            "parameters, recorder.append(state, params), and it seals the log."
        )
    last = max(seals, default=log.steps)
    start = jax.tree.map(jnp.asarray, params)
    for steps, *found in _replayed(start, tx, log, {last, log.steps}):
        if steps in seals and _identity.digest(found[0]) != seals[steps]:
            raise ValueError(_other_bits(start, tx, log, here))
    return tuple(found)


def _replayed(params, tx, log: Log, stops) -> Iterator[tuple[int, PyTree, ZerothOrderState]]:
    """Parameters and state after each of these numbers of steps; the next step overwrites them."""
    state = tx.init(params)._replace(rng_key=log.key)
    changes = tables(log, free(state.inner_state))
    params, state = copied((params, state))  # the program overwrites them
    for first, stop in pairwise([0, *sorted(stops)]):
        rows = jax.tree.map(itemgetter(slice(first, stop)), (log.scalars, changes))
        params, state = _replaying(tx, stop - first)(params, state, *rows)
        yield stop, params, state


def _other_bits(params, tx, log: Log, here: list[str]) -> str:
    """The message of a refused replay: the step where it left the run, and both environments."""
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
    """A program for each number of steps; the last few are kept."""
    n = tx.estimator.num_directions

    def run(params, state, scalars, tables):
        def body(carry, rows):
            return _identity.step(tx, n, *carry, *rows), None

        return jax.lax.scan(body, (params, state), (scalars, tables), length=steps)[0]

    return jax.jit(run, donate_argnums=(0, 1))
