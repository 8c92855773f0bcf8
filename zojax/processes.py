"""Processes that exchange numbers, through the coordination service of `jax.distributed`.

A collective of devices waits for ever for a process that hangs, and dies with a process that dies. This
exchange does neither: it names the missing processes after a timeout, and a process that is started again
goes on with the others. It takes milliseconds, which suits the few numbers of a zeroth-order step.

    jax.distributed.initialize()
    values = processes.exchange(own_values, step).mean(axis=0)
"""

import time
from collections.abc import Iterator

import jax
import numpy as np
from jax.typing import ArrayLike

from zojax._checks import require_positive

__all__ = ["exchange"]

TIMEOUT = 300.0  # seconds; as for the start of `jax.distributed`
_PATIENCE = 1.0  # seconds between two looks at the keyboard


def exchange(
    values: ArrayLike, step: int, *, timeout: float = TIMEOUT, name: str = "values"
) -> np.ndarray:
    """The values of all processes, in the order of their ranks.

    A process may repeat an exchange of the last two steps, with the same values: it gets what it would
    have got then. So a process that was killed and started again goes on from the log of the run. For that,
    start all processes with the environment variable `JAX_ENABLE_RECOVERABILITY=1`. Otherwise JAX ends all
    processes when one dies.

    Args:
      values: of this process, an array of the same shape and dtype in every process.
      step: an int, the same in all processes, one more in each exchange.
      timeout: seconds to wait for the other processes.
      name: the same in all processes; different exchanges of a step need different names.

    Returns:
      An array of shape (processes, *values.shape). Without `jax.distributed`, of shape (1, *values.shape).

    Raises:
      TimeoutError: some processes did not take part; the message has their ranks.
      ValueError: another process has values of another shape or dtype.

    References:
      Salimans et al., `Evolution strategies as a scalable alternative to reinforcement learning
      <https://arxiv.org/abs/1703.03864>`_, 2017: workers that exchange scalars and share seeds.

    >>> import numpy as np
    >>> exchange(np.float32([1.0, 2.0]), step=0).shape
    (1, 2)
    """
    require_positive("timeout", timeout)
    array = np.asarray(values)
    client = coordinator()
    if client is None:
        return array[None]
    rank, kind = jax.process_index(), f"{array.dtype.name}{list(array.shape)}"
    folder = f"zojax/{name}"
    message = f"{kind}\n".encode() + array.tobytes()
    client.key_value_set_bytes(f"{folder}/{step}/{rank}", message, allow_overwrite=True)
    rows = []
    for other, row in _received(client, f"{folder}/{step}", timeout, f"{name} of step {step}"):
        theirs, data = row.split(b"\n", 1)
        if theirs != kind.encode():
            raise ValueError(
                f"{name} of step {step} are {kind} in process {rank}, but {theirs.decode()} in process "
                f"{other}: give arrays of one shape and dtype."
            )
        rows.append(np.frombuffer(data, array.dtype).reshape(array.shape))
    # All processes are past the step before the last one: none asks for it again.
    client.key_value_delete(f"{folder}/{step - 2}/{rank}")
    return np.stack(rows)


def _received(client, folder: str, timeout: float, what: str) -> Iterator[tuple[int, bytes]]:
    """Every process's message; raises TimeoutError with the ranks of those without one."""
    count, deadline = jax.process_count(), time.monotonic() + timeout
    for rank in range(count):
        message = awaited(client, f"{folder}/{rank}", deadline)
        if message is None:
            late = [r for r in range(rank, count) if awaited(client, f"{folder}/{r}", 0) is None]
            raise TimeoutError(
                f"processes {late} of {count} sent no {what} within {timeout:g} s: see whether they hang "
                "or ended, or pass a longer timeout."
            )
        yield rank, message


def coordinator():
    """JAX's client of the coordination service; None without `jax.distributed`, and in a single process."""
    from jax._src import distributed  # JAX has no public name for it

    client = distributed.global_state.client
    return None if client is None or jax.process_count() == 1 else client


def awaited(client, key: str, deadline: float) -> bytes | None:
    """The value of a key once it is there; None if it is not by then, a time of `time.monotonic`."""
    while True:
        left = min(max(deadline - time.monotonic(), 0.001), _PATIENCE)  # Ctrl-C works in between
        try:
            return client.blocking_key_value_get_bytes(key, int(1e3 * left))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            if time.monotonic() >= deadline:
                return None
