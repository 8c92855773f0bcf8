"""The log of a run: its scalars, its hyperparameters, and digests of its parameters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import brief


class Log(NamedTuple):
    """The recorded steps of a run.

    Attributes:
      header: the identity of the run: its key, digests of the base parameters and of the optimizer.
      scalars: shape (steps, N), the coefficients of every step, NaN for a direction left out. A last
        column holds the value, if the optimizer or the stencil needs it.
      hyperparameters: of `optax.inject_hyperparams`, without schedules: pairs of their first step and a
        dict.
      end: the digest of the final parameters, or None.
      seals: pairs of a number of steps and the digest of the parameters after them.
    """

    header: dict[str, Any]
    scalars: np.ndarray
    hyperparameters: tuple[tuple[int, dict], ...] = ()
    end: str | None = None
    seals: tuple[tuple[int, str], ...] = ()

    @property
    def start(self) -> int:
        """The number of steps before the first recorded one."""
        return self.header["start"]

    @property
    def steps(self) -> int:
        """The number of recorded steps."""
        return len(self.scalars)

    @property
    def key(self) -> jax.Array:
        """The key of the run."""
        data = jnp.asarray(np.asarray(self.header["key"]["data"], np.uint32))
        return jax.random.wrap_key_data(data, impl=self.header["key"]["impl"])


def truncate(log: Log, steps: int) -> Log:
    """The first `steps` steps of a log; a replay gives the parameters after them.

    Args:
      steps: how many to keep, from 0 to `log.steps`.

    Raises:
      ValueError: more steps than the log has, or a negative number.
      TypeError: a log or steps of another type.

    >>> import os, tempfile, jax.numpy as jnp, zojax
    >>> from zojax import trajectory
    >>> path, tx, params0 = os.path.join(tempfile.mkdtemp(), "run"), zojax.mezo(0.1), jnp.ones(3)
    >>> def run(num_steps, **options):
    ...     return zojax.minimize(lambda x: jnp.sum(x**2), params0, tx, num_steps, **options).params
    >>> with trajectory.Recorder(path, tx, params0) as recorder:
    ...     params = run(100, callback=recorder.callback)
    >>> early = trajectory.truncate(trajectory.load(path), 10)
    >>> bool(jnp.all(trajectory.replay(params0, tx, early) == run(10)))
    True
    """
    require_log(log)
    if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool):
        raise TypeError(f"steps must be an int, got {steps!r}.")
    if not 0 <= steps <= log.steps:
        raise ValueError(f"steps must be from 0 to {log.steps}, the log's number, got {steps}.")
    stop = log.start + steps
    return log._replace(
        scalars=log.scalars[:steps],
        hyperparameters=tuple(c for c in log.hyperparameters if c[0] < stop),
        end=log.end if steps == log.steps else None,
        seals=tuple(s for s in log.seals if s[0] <= stop),
    )


def digests(log: Log) -> dict[int, str]:
    """The digest of the parameters after every sealed step, the final ones included."""
    return dict(log.seals) | ({log.start + log.steps: log.end} if log.end else {})


def require_log(log) -> None:
    """Raises TypeError for a path or a list in the place of a log."""
    if isinstance(log, Log):
        return
    if isinstance(log, (list, tuple)):
        remedy = "give its logs one by one to trajectory.merge(*logs)"
    else:
        remedy = "read it with trajectory.load(path)"
    raise TypeError(f"log must be a Log, got {brief(log)}: {remedy}.")
