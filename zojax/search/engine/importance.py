"""Which variables decide the value: a rank-based share of variance, one variable at a time."""

from typing import Any

import numpy as np

from zojax.search.engine.columns import Column

GROUPS = 10  # of a variable with more values than this
FEWEST = 5  # values per group


def importance_in(history: Any) -> dict[str, float]:
    """The importance of each variable of a history, without pruned evaluations, largest first."""
    require_one_objective(history)
    kept = ~history.pruned
    columns = [c._replace(values=c.values[kept]) for c in history.columns]
    shares = importance_of(columns, history.values[kept])
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def importance_of(columns: list[Column], values: np.ndarray) -> dict[str, float]:
    """The share of the variance of the values' ranks that each column explains alone.

    The Kruskal-Wallis effect size eta^2 = (H - k + 1) / (n - k) over k groups of the n points with the
    variable: its values, or its deciles. 0 for fewer than ten such points.
    """
    ranks = _ranks(values)
    return {column.label: _effect(column.values, ranks) for column in columns}


def require_one_objective(history: Any) -> None:
    """Raises for the history of several objectives."""
    if history.values.ndim > 1:
        raise ValueError(
            f"history must have one value an evaluation, got shape {history.values.shape}: several "
            "objectives have plot_front."
        )


def _effect(x: np.ndarray, ranks: np.ndarray) -> float:
    present = ~np.isnan(x)
    x, ranks = x[present], ranks[present]
    groups = _groups(x)
    n, k = len(x), int(groups.max(initial=-1)) + 1
    total = np.sum((ranks - np.mean(ranks)) ** 2) if n else 0.0
    if n < 2 * FEWEST or k < 2 or total == 0:
        return 0.0
    sizes = np.bincount(groups)
    means = np.bincount(groups, ranks) / sizes
    h = (n - 1) * np.sum(sizes * (means - np.mean(ranks)) ** 2) / total
    return float(max(0.0, (h - k + 1) / (n - k)))


def _groups(x: np.ndarray) -> np.ndarray:
    """The group of each entry, from 0: equal values, or quantiles of many values."""
    values, groups = np.unique(x, return_inverse=True)
    if len(values) <= GROUPS:
        return groups
    number = min(GROUPS, max(2, len(x) // FEWEST))
    edges = np.quantile(x, np.arange(1, number) / number)
    return np.unique(np.searchsorted(edges, x), return_inverse=True)[1]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, the mean of equal values."""
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[groups]
