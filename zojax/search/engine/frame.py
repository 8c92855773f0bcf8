"""The evaluations of a search as a table of pandas."""

from typing import TYPE_CHECKING, Any

import numpy as np

from zojax.search.engine.names import flat
from zojax.search.spaces import Branch

if TYPE_CHECKING:
    from zojax.search.engine.result import History


def frame_of(history: "History") -> Any:
    """One row an evaluation: the point, value, best, seconds, failed, pruned and attributes."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("frame() needs pandas: pip install pandas.") from error
    values = history.values
    columns = flat({"value": values}, axes=1) | flat({"best": history.best_values}, axes=1)
    usable = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    columns |= {"seconds": history.seconds, "failed": ~usable}
    if history.violations is not None:
        columns["violation"] = history.violations
        columns["failed"] &= ~(history.violations > 0)
    if history.pruned.any():
        columns["pruned"] = history.pruned
    if history.attributes is not None:
        rows = [{} if a is None else flat({"attributes": a}) for a in history.attributes]
        for name in dict.fromkeys(name for row in rows for name in row):
            columns[name] = [row.get(name) for row in rows]
    point: dict[str, Any] = {}
    for name, column in ({} if history.points is None else flat(history.points, axes=1)).items():
        if any(isinstance(value, Branch) for value in column):
            rows = [flat({name: value}) for value in column]
            point |= {n: [row.get(n) for row in rows] for n in sorted({n for r in rows for n in r})}
        else:
            point[name] = column
    prefix = "point." if point.keys() & columns.keys() else ""
    return pandas.DataFrame({prefix + name: column for name, column in point.items()} | columns)
