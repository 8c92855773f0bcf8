"""The record of an evaluation on the host, and a call that makes several."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from zojax._checks import brief
from zojax._evaluation import Timed
from zojax._scalars import NotScalarError
from zojax._trees import PyTree


class Entry(NamedTuple):
    """An evaluation. Its point is None once nothing needs it. A value has the problem's `value_shape`."""

    value: Any  # to be minimized; inf if it failed
    x: np.ndarray | None
    error: str | None = None
    seconds: float = math.nan
    attributes: Any = None
    replayed: bool = False  # from a journal
    pruned: bool = False


class Trial(NamedTuple):
    """One evaluation, for callbacks.

    Attributes:
      point: as the user's pytree.
      value: inf if the evaluation failed (-inf when maximizing). With several objectives, an array.
      error: the exception as text, or None.
      seconds: the duration of the call, in the process that made it; nan if unknown. A batched call is
        divided by its number of points.
      attributes: the second result of `fun`, with `has_aux`.
      replayed: whether a journal had it, so that `fun` was not called.
      pruned: whether it ended early.
      violation: the largest violation of a constraint, 0 if feasible; None without constraints.
    """

    point: PyTree
    value: Any
    error: str | None
    seconds: float
    attributes: Any
    replayed: bool
    pruned: bool
    violation: float | None = None


class Batch:
    """One call with n points. It runs when the first of its values, of shape (n, ...), is needed."""

    def __init__(self, call: Callable[[], Timed], shape: tuple[int, ...], has_aux: bool):
        self.call, self.shape, self.has_aux = call, shape, has_aux
        self.rows: list[Timed] | None = None
        self.error: Exception | None = None

    def row(self, i: int) -> Timed:
        """The i-th point's value, and its share of the duration. A failure is every point's."""
        if self.rows is None and self.error is None:
            try:
                self.rows = self._split(self.call())
            except Exception as error:
                self.error = error
        if self.rows is None:
            raise self.error or RuntimeError("the batch has no values")
        return self.rows[i]

    def _split(self, timed: Timed) -> list[Timed]:
        values, aux = pair_of(timed.returned) if self.has_aux else (timed.returned, None)
        size = self.shape[0]
        if np.shape(values) != self.shape:
            raise NotScalarError(
                f"fun must return values of shape {self.shape} for {size} points with batched=True, "
                f"got shape {np.shape(values)}."
            )
        seconds = timed.seconds / size
        if not self.has_aux:
            return [Timed(value, seconds) for value in values]
        rows = aux if isinstance(aux, (list, tuple)) else _rows_of(aux, size)
        if len(rows) != size:
            raise ValueError(
                f"fun must return attributes of {size} points with batched=True, got {len(rows)}."
            )
        return [Timed(pair, seconds) for pair in zip(values, rows, strict=True)]


def pair_of(returned: Any) -> tuple[Any, Any]:
    """(value, attributes) of a function with `has_aux`."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(
            f"fun must return (value, attributes) with has_aux=True, got {brief(returned)}."
        )
    return returned


def _rows_of(aux: PyTree, size: int) -> list:
    """The attributes of each point, from a pytree with a leading axis of points."""
    for leaf in jax.tree.leaves(aux):
        if np.shape(leaf)[:1] != (size,):
            raise ValueError(
                f"attributes must have a leading axis of {size} points with batched=True, or be a list "
                f"of {size}; got shape {np.shape(leaf)}."
            )
    return [jax.tree.map(lambda leaf, i=i: leaf[i], aux) for i in range(size)]
