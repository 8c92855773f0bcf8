"""The Pareto front of a search for several objectives: its points, its volume and its plot."""

from typing import Any, NamedTuple

import numpy as np

from zojax._plot import new_axes
from zojax._trees import PyTree


class Front(NamedTuple):
    """The evaluations that no other one dominates: better in one objective, and not worse in any.

    Attributes:
      points: the user's pytree with a leading axis, in the order of the first objective.
      values: (points, objectives) float64.
      maximize: one flag for each objective.
    """

    points: PyTree
    values: np.ndarray
    maximize: tuple[bool, ...]

    def hypervolume(self, reference: Any) -> float:
        """The volume between the front and a reference point, which is worse in every objective.

        It is exact. The cost is n log n for 2 objectives, and a factor of n more for each further one.

        Args:
          reference: one number for each objective. A point that is not better in all of them adds nothing.

        Raises:
          ValueError: another number of values.
        """
        reference = np.asarray(reference, float)
        if reference.shape != self.values.shape[1:]:
            raise ValueError(
                f"reference must be one number for each of {self.values.shape[1]} objectives, "
                f"got {reference}."
            )
        signs = np.where(self.maximize, -1, 1)
        return hypervolume(signs * self.values, signs * reference)

    def plot(self, ax: Any = None, evaluations: np.ndarray | None = None) -> Any:
        """Plots the front, over all values of `evaluations`. Needs matplotlib; returns the axes.

        With three objectives, the colour is the third one.

        Raises:
          ValueError: more than 3 objectives.
        """
        front, values = self.values, self.values if evaluations is None else evaluations
        if front.shape[1] > 3:
            raise ValueError(
                f"plot_front shows 2 or 3 objectives, got {front.shape[1]}: plot pairs."
            )
        ax = new_axes(ax, (6, 4))
        shown = values[np.isfinite(values).all(axis=1)]
        ax.plot(shown[:, 0], shown[:, 1], ".", ms=3, alpha=0.3, color="0.5", label="evaluations")
        colours = {"c": front[:, 2], "cmap": "viridis"} if front.shape[1] == 3 else {}
        dots = ax.scatter(front[:, 0], front[:, 1], s=18, zorder=3, label="front", **colours)
        if colours:
            ax.figure.colorbar(dots, ax=ax, label="objective 3")
        title = f"{len(front)} points in the front"
        ax.set(xlabel="objective 1", ylabel="objective 2", title=title)
        ax.legend(frameon=False, loc="upper right")
        return ax


def in_front(values: np.ndarray) -> np.ndarray:
    """bool (n,): which values (n, objectives) are finite and not dominated. Lower is better.

    Equal values do not dominate each other.

    >>> in_front(np.array([[0.0, 3.0], [1.0, 1.0], [2.0, 2.0], [np.inf, np.inf]]))
    array([ True,  True, False, False])
    """
    left = np.flatnonzero(np.isfinite(values).all(axis=1))
    # The least sum is in the front, and dominates many others: each round removes all of these.
    left = left[np.argsort(values[left].sum(axis=1), kind="stable")]
    found = np.zeros(len(values), bool)
    while len(left):
        first = values[left[0]]
        is_equal = (values[left] == first).all(axis=1)
        found[left[is_equal]] = True
        left = left[(values[left] < first).any(axis=1)]
    return found


def hypervolume(values: np.ndarray, reference: np.ndarray) -> float:
    """The volume that values (n, objectives) dominate up to a reference (objectives,). Lower is better.

    Exact: slices along the last objective, each with one objective less. The cost is n log n for 2
    objectives, and a factor of n more for each further one.

    >>> hypervolume(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([2.0, 2.0]))
    3.0
    """
    values = values[(values < reference).all(axis=1)]
    values = values[np.argsort(values[:, -1], kind="stable")]
    ends = np.append(values[1:, -1], reference[-1])
    depths = ends - values[:, -1]
    if values.shape[1] == 2:
        widths = reference[0] - np.minimum.accumulate(values[:, 0])
        return float(widths @ depths)
    slices = (
        hypervolume(values[: i + 1, :-1], reference[:-1]) * depth for i, depth in enumerate(depths)
    )
    return float(sum(slices))
