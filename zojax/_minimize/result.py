"""The results of a run: at its end, and after each chunk of steps."""

from typing import Any, NamedTuple

import numpy as np

from zojax._plot import plot_run
from zojax._transform import metrics_of
from zojax._trees import PyTree
from zojax._verdict import zeroth_order_state


class MinimizeResult(NamedTuple):
    """The result and the cost of a run.

    Attributes:
      params: the last iterate.
      value: of the last step (`ZerothOrderState.value`), before its update, a float. A stencil such as
        `central` does not visit x. Then it is the mean over the evaluations around x, which differs from
        fun(x) by some mu^2 times the curvature; call `fun(params)` for the value there.
      history: float64 of shape (steps,), the value of every step.
      steps: steps taken.
      evaluations: of the estimates, or None if the transformation does not tell. Evaluations of an inner
        line search are not counted.
      skipped: directions left out because an evaluation was not finite.
      state: the last state of the transformation; pass it on to continue.
      message: why the run ended and, after a semicolon, what went wrong in it (`zojax.verdict`).
      best_value: the least entry of `history`, NaN without a finite one; like `value`, it may be a mean
        around x.
      best_params: the parameters of the step with `best_value`, before its update. None in a compiled run
        without `keep_best=True`, and without a finite value.
    """

    params: PyTree
    value: float
    history: np.ndarray
    steps: int
    evaluations: int | None
    skipped: int
    state: Any
    message: str
    best_value: float
    best_params: PyTree | None

    def __str__(self) -> str:
        evaluations = "" if self.evaluations is None else f", {self.evaluations} evaluations"
        skipped = f" ({self.skipped} directions skipped)" if self.skipped else ""
        return (
            f"value {self.value:.6g} after {self.steps} steps{evaluations}{skipped}: {self.message}"
        )

    def plot(self, ax=None):
        """Draws values and the least so far against steps (needs matplotlib); returns the axes."""
        least = np.fmin.accumulate(self.history)
        return plot_run(ax, self.history, least, self.best_value, count="steps", word="least")


class Progress(NamedTuple):
    """A run after a chunk of k steps, for its callback. An exception may end a chunk early.

    Attributes:
      step: steps taken.
      value: of the last step.
      params: the parameters.
      state: of the transformation.
      values: float64 of shape (k,), the value of every step of the chunk.
      coefficients: shape (k, N), `ZerothOrderState.coefficients` of every step of the chunk.
    """

    step: int
    value: float
    params: PyTree
    state: Any
    values: np.ndarray
    coefficients: np.ndarray

    def scalars(self) -> list[tuple[int, dict[str, float]]]:
        """Rows for `zojax.logging`: the value of each step, with `zojax.Metrics` in the last one.

        Steps are those of the state, so a continued run counts on.
        """
        state = zeroth_order_state(self.state)
        first = int(state.count) - len(self.values) + 1
        rows = [(first + i, {"value": float(value)}) for i, value in enumerate(self.values)]
        rows[-1][1].update(metrics_of(state))
        return rows
