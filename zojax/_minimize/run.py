"""A run so far: its steps are committed one by one, or in chunks."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._minimize.result import Progress
from zojax._trees import PyTree, copied, floats_only
from zojax._verdict import zeroth_order_state


def bound(fun: Callable, args: tuple) -> Callable:
    """`params -> fun(params, *args)`, which pickles if `fun` does; `fun` itself without arguments."""
    return partial(_call, fun, args) if args else fun


def _call(fun: Callable, args: tuple, params: Any, **key: Any) -> Any:
    return fun(params, *args, **key)


class Best(NamedTuple):
    """The float leaves of the parameters with the least value so far."""

    value: jax.Array
    floats: PyTree

    def or_better(self, value: jax.Array, params: PyTree) -> "Best":
        better = value < self.value
        keep = partial(jnp.where, better)
        return Best(
            jnp.where(better, value, self.value),
            jax.tree.map(keep, floats_only(params), self.floats),
        )


class Iterate(NamedTuple):
    """The parameters and the state after a number of steps, and the best parameters so far."""

    params: PyTree
    state: Any
    steps: int
    best: Best | None


class MinimizeRun:
    """A run so far. An interrupt at any moment leaves it at one step or at the next.

    Attributes:
      last: the last iterate, replaced as a whole; None while a compiled chunk holds its arrays.
      values: of every step.
      rows: coefficients of the steps since the last report.
      counts: after every chunk (on the host, step): steps, directions used, and those unresolved.
      caught: evaluations that raised an exception in `catch`.
      error: the last of these exceptions.
    """

    def __init__(self, params: PyTree, state: Any, keep: bool):
        value = zeroth_order_state(state).value
        floats = copied(floats_only(params)) if keep else None
        best = Best(jnp.full_like(value, jnp.inf), floats) if keep else None
        self.last: Iterate | None = Iterate(params, state, 0, best)
        self.values: list[float] = []
        self.rows: list[np.ndarray] = []
        self.counts = [(0, *_counts(state))]
        self.reported, self.caught = 0, 0
        self.error: Exception | None = None

    def take(self) -> Iterate:
        """The last iterate, for a program that is donated its arrays."""
        (iterate, self.last) = self.iterate, None
        return iterate

    @property
    def iterate(self) -> Iterate:
        if self.last is None:
            raise RuntimeError("a compiled chunk of steps is running.")
        return self.last

    @property
    def resolved_at_first(self) -> bool:
        """Whether most differences of the run's first half were resolved."""
        half = next(count for count in self.counts[1:] if 2 * count[0] >= self.iterate.steps)
        used, unresolved = (
            now - before for now, before in zip(half[1:], self.counts[0][1:], strict=True)
        )
        return 2 * unresolved <= used

    def commit(self, params: PyTree, state, best: Best | None, values: list[float], rows) -> None:
        """Adds steps, with their values and rows of coefficients."""
        self.values.extend(values)
        self.rows.extend(rows)
        self.counts.append((len(self.values), *_counts(state)))
        self.last = Iterate(params, state, len(self.values), best)

    def report(self, callback: Callable[[Progress], Any] | None) -> bool:
        """Calls back with the steps since the last report, if there are any."""
        params, state, steps, _ = self.iterate
        new, self.reported = steps - self.reported, steps
        rows, self.rows = self.rows[:new], []
        if callback is None or not new:
            return False
        return callback(
            # A copy: the next chunk is donated the arrays that this one returned.
            Progress(
                step=steps,
                value=self.values[steps - 1],
                params=copied(params),
                state=copied(state),
                values=np.asarray(self.values[steps - new : steps]),
                coefficients=np.stack(rows),
            )
        )


def _counts(state) -> tuple[int, int]:
    seen = zeroth_order_state(state).estimator_state
    return int(seen.used), int(seen.unresolved)
