"""The tables of stencils and shapings, which the laws of estimators and strict modes run over.

`fast` chooses the rows of a table that a dear law takes in each run.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import rankdata

from zojax import shaping, stencils


def fast(names, table):
    """The keys of a table for `parametrize`: those in `names`, and the others marked slow."""
    return [n if n in names else pytest.param(n, marks=pytest.mark.slow) for n in table]


STENCILS = {
    "central": stencils.central(),
    "forward": stencils.forward(),
    "one_point": stencils.one_point(),
    "one_point_residual": stencils.one_point_residual(),
}


class Law(NamedTuple):
    """A shaping and its definition.

    Attributes:
      shaping: with any settings.
      values: `values(V) -> V`, the first stage in NumPy, for the table V of the finite directions.
      coefficients: `coefficients(c) -> c`, the second stage.
    """

    shaping: shaping.Shaping
    values: Callable[[np.ndarray], np.ndarray]
    coefficients: Callable[[np.ndarray], np.ndarray] = lambda c: c


def _baseline(v):
    return v - (v.sum(axis=0) - v) / (len(v) - 1)


def _nes_utilities(v):
    raw = np.maximum(0, np.log(v.size / 2 + 1) - np.log(rankdata(v)))
    return (1 / v.size - raw / raw.sum()).reshape(v.shape)


def _groups_of_two(v):
    """A last row that is alone in its group has the mean of its own values."""
    groups = [v[i : i + 2] - v[i : i + 2].mean() for i in range(0, len(v), 2)]
    return np.concatenate(groups) / v.std()


def _top_two(v):
    best = np.argsort(v.min(axis=1))[:2]
    out = np.zeros_like(v)
    out[best] = v[best] / v[best].std() * len(v) / 2
    return out


SHAPINGS = {
    "none": Law(shaping.none(), lambda v: v),
    "baseline": Law(shaping.baseline(), _baseline),
    "standardize": Law(shaping.standardize(), lambda v: (v - v.mean()) / v.std()),
    "standardize_groups": Law(shaping.standardize_groups(2), _groups_of_two),
    "by_std": Law(shaping.by_std(), lambda v: v / v.std()),
    "centered_ranks": Law(
        shaping.centered_ranks(),
        lambda v: (rankdata(v).reshape(v.shape) - 1) / (v.size - 1) - 0.5,
    ),
    "nes_utilities": Law(shaping.nes_utilities(), _nes_utilities),
    "top": Law(shaping.top(2), _top_two),
    "unit_std": Law(shaping.unit_std(), lambda v: v, lambda c: c / c.std()),
    "clip": Law(shaping.clip(1.0), lambda v: v, lambda c: np.clip(c, -1, 1)),
}
