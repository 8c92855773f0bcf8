"""The results of a fine-tuning run: at its end, and after each step."""

from typing import Any, NamedTuple

import numpy as np

from zojax._transform import ZerothOrderState


class Trained(NamedTuple):
    """The result of `train`.

    Attributes:
      params: the trained pytree.
      losses: the training loss of every step, the mean over its evaluations. Steps of an earlier
        process are NaN.
      outputs: dict from a number of steps to the task's outputs on the evaluated split.
      labels: `(N, ...)`, of the evaluated split.
      state: the optimizer's last state.
    """

    params: Any
    losses: list[float]
    outputs: dict[int, np.ndarray]
    labels: np.ndarray
    state: ZerothOrderState


class TrainProgress(NamedTuple):
    """A run of `train` after a step, or before the first, for its callback.

    Attributes:
      step: steps taken.
      value: the training loss of the last step; NaN before the first.
      scores: of the evaluated split, if this step was evaluated, else empty.
      metrics: of the last step, with `zojax.with_metrics`, else empty.
    """

    step: int
    value: float
    scores: dict[str, float]
    metrics: dict[str, float]

    def scalars(self) -> list[tuple[int, dict[str, float]]]:
        """One row for `zojax.logging`."""
        loss = {"loss": self.value} if self.step else {}
        return [(self.step, {**loss, **self.metrics, **self.scores})]
