"""Least squares on few columns of a table: data, a loss that JAX can trace, and greedy selection."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

DATA = ("breast_cancer", "digits")


class Table(NamedTuple):
    """A table in two halves, standardised by the training half."""

    columns: np.ndarray  # (rows, n)
    target: np.ndarray  # (rows,)
    test_columns: np.ndarray
    test_target: np.ndarray
    names: list[str]  # of the columns


def load(name: str, seed: int) -> Table:
    """One of `DATA`, split in two by `seed`, without constant columns; `digits` predicts the number."""
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    x, y = data.data.astype(float), data.target.astype(float)
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = order[: len(x) // 2], order[len(x) // 2 :]
    keep = x[train].std(0) > 0
    x, names = x[:, keep], [str(n) for n, k in zip(data.feature_names, keep, strict=True) if k]

    def standard(values):
        return (values - values[train].mean(0)) / values[train].std(0)

    x, y = standard(x), standard(y)
    return Table(x[train], y[train], x[test], y[test], names)


def make_loss(
    columns: np.ndarray, target: np.ndarray, largest: int
) -> Callable[[jax.Array], jax.Array]:
    """The mean squared error of least squares on chosen columns, `mask (n,) -> loss ()`, traceable.

    With the Gram matrix G and b = X'y / rows of the chosen columns, it is y'y / rows - b' G^-1 b. Gaussian
    elimination of G runs on at most `largest` columns; larger subsets have the value inf. For such small
    matrices it is faster than LAPACK, and `vmap` batches it. `columns` `(rows, n)` are standardised.
    """
    rows, n = columns.shape
    # Column n pads small subsets: it is orthogonal to all others, so eliminating it changes nothing.
    inside = np.column_stack([columns, np.zeros(rows), target])
    full = inside.T @ inside / rows
    full[n, n] = 1.0
    # This ridge keeps equal columns apart in float32.
    full[np.arange(n), np.arange(n)] += 1e-6
    gram = jnp.asarray(full, jnp.result_type(float))

    def loss(chosen):
        size = jnp.sum(chosen)
        # Index of the j-th member: the number of columns with at most j members up to them; n for none.
        # `jnp.nonzero` needs a scatter, which takes longer than the elimination.
        members = jnp.cumsum(chosen)
        index = jnp.sum(members <= jnp.arange(largest)[:, None], axis=1)
        index = jnp.append(index, n + 1)
        matrix = gram[index][:, index]

        def eliminate(i, matrix):
            row = matrix[i]
            factor = jnp.where(jnp.arange(largest + 1) > i, matrix[:, i] / row[i], 0.0)
            return matrix - factor[:, None] * row

        matrix = jax.lax.fori_loop(0, jnp.minimum(size, largest), eliminate, matrix)
        return jnp.where(size <= largest, matrix[-1, -1], jnp.inf)

    return loss


def fit(table: Table, chosen: np.ndarray) -> tuple[float, float]:
    """Training and test error of least squares on the chosen columns, in float64 by LAPACK."""
    weights = np.linalg.lstsq(table.columns[:, chosen], table.target, rcond=None)[0]
    train = np.mean((table.target - table.columns[:, chosen] @ weights) ** 2)
    test = np.mean((table.test_target - table.test_columns[:, chosen] @ weights) ** 2)
    return float(train), float(test)


def greedy(table: Table, k: int) -> np.ndarray:
    """Masks `(k, n)` of forward selection: k times the column that lowers the training error most."""
    n = table.columns.shape[1]
    chosen, path = np.zeros(n, bool), []
    for _ in range(k):
        larger = [chosen | (np.arange(n) == j) for j in np.flatnonzero(~chosen)]
        chosen = min(larger, key=lambda s: fit(table, s)[0])
        path.append(chosen)
    return np.array(path)
