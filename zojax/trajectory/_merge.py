"""One log from the parts of a run."""

import numpy as np

from zojax.trajectory._log import Log, digests, require_log


def merge(*logs: Log) -> Log:
    """One log from the parts of a run.

    Args:
      *logs: parts in any order, without a gap. Steps that two of them hold must be equal.

    Raises:
      ValueError: parts of different runs, a gap, or two versions of a step or of the final parameters.
      TypeError: an argument that is not a log.

    A run that continues in another file:

    >>> import os, tempfile, jax.numpy as jnp, zojax
    >>> from zojax import trajectory
    >>> folder, tx, params0 = tempfile.mkdtemp(), zojax.mezo(0.1), jnp.ones(3)
    >>> params, state, logs = params0, None, []
    >>> for name in ("first", "second"):
    ...     path = os.path.join(folder, name)
    ...     with trajectory.Recorder(path, tx, params0) as recorder:
    ...         run = zojax.minimize(
    ...             lambda x: jnp.sum(x**2), params, tx, 50, state=state, callback=recorder.callback)
    ...     params, state = run.params, run.state
    ...     logs.append(trajectory.load(path))
    >>> [log.start for log in logs], trajectory.merge(*logs).steps
    ([0, 50], 100)
    >>> bool(jnp.all(trajectory.replay(params0, tx, trajectory.merge(*logs)) == params))
    True
    """
    if not logs:
        raise ValueError("merge needs at least one log, got none.")
    for log in logs:
        require_log(log)
    whole, *rest = sorted(logs, key=lambda log: (log.start, log.steps))
    for log in rest:
        whole = _joined(whole, log)
    return whole


def _joined(whole: Log, log: Log) -> Log:
    """Both parts in one; `log` begins no earlier than `whole`."""
    for name in ("key", "leaves", "program"):
        if log.header[name] != whole.header[name]:
            raise ValueError(f"the logs are of different runs: their {name} differ.")
    stop = whole.start + whole.steps
    if log.start > stop:
        raise ValueError(f"steps {stop} to {log.start} are missing between the logs.")
    shared = min(stop - log.start, log.steps)
    _require_equal(whole, log, shared)
    changes = dict(whole.hyperparameters) | dict(log.hyperparameters)
    return whole._replace(
        scalars=np.concatenate([whole.scalars, log.scalars[shared:]]),
        hyperparameters=tuple(sorted(changes.items())),
        end=_end_of_both(whole, log),
        seals=_seals_of_both(whole, log),
    )


def _require_equal(whole: Log, log: Log, shared: int) -> None:
    """Raises ValueError unless the steps that both logs hold are equal."""
    before = whole.scalars[log.start - whole.start :][:shared]
    different = np.flatnonzero((_bits(before) != _bits(log.scalars[:shared])).any(axis=1))
    if different.size:
        raise ValueError(f"the logs disagree on step {log.start + different[0]}.")
    begins = {log.start, *(at for at, _ in (*whole.hyperparameters, *log.hyperparameters))}
    for step in sorted(at for at in begins if log.start <= at < log.start + shared):
        if _holding(whole, step) != _holding(log, step):
            raise ValueError(f"the logs disagree on the hyperparameters of step {step}.")


def _seals_of_both(a: Log, b: Log) -> tuple[tuple[int, str], ...]:
    """The seals of the whole: an earlier part's final digest becomes one."""
    seals, others = digests(a), digests(b)
    for step in sorted(seals.keys() & others.keys()):
        if seals[step] != others[step]:
            raise ValueError(f"the logs disagree on the parameters after step {step}.")
    return tuple(sorted((seals | others).items()))


def _end_of_both(a: Log, b: Log) -> str | None:
    """The final digest of the later log; of two that end with the same step, either's."""
    stop, other = (log.start + log.steps for log in (a, b))
    if stop != other:
        return a.end if stop > other else b.end
    if a.end and b.end and a.end != b.end:
        raise ValueError(f"the logs disagree on the final parameters, after step {stop}.")
    return a.end or b.end


def _holding(log: Log, step: int) -> dict | None:
    """The hyperparameters of a step."""
    return next((values for first, values in reversed(log.hyperparameters) if first <= step), None)


def _bits(scalars: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(scalars).view(f"u{scalars.dtype.itemsize}")
