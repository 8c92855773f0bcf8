"""Scalars in a CSV file."""

import csv as table
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TextIO

from zojax._whole_file import replacing
from zojax.logging._logger import Logger


def csv(path: str | os.PathLike[str]) -> Logger:
    """Logs to a CSV file: a row a step, a column a name.

    An existing file is continued: rows from the first new step on are replaced. A column that appears later
    is added to the file, with empty cells before.

    Args:
      path: of the file.

    Raises:
      ValueError: for a file without a column `step`.
      OSError: for a file that cannot be written.

    >>> import os, tempfile, jax.numpy as jnp, zojax
    >>> path = os.path.join(tempfile.mkdtemp(), "run.csv")
    >>> with zojax.logging.csv(path) as log:
    ...     result = zojax.minimize(jnp.sum, jnp.ones(2), zojax.mezo(0.1), 3, callback=log)
    >>> open(path).read().split()[0]
    'step,value'
    """
    file = _File(pathlib.Path(path))
    return Logger(file.write, file.close)


class _File:
    """The open file; `names` are its columns, () before the first row."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.names: list[str] = []
        self.file: TextIO | None = None
        with open(path, "a"):  # raises now for a path that cannot be written
            _read(path)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        row: dict[str, Any] = {"step": step, **scalars}
        if self.file is None or not row.keys() <= set(self.names):
            self.close()
            self._rewrite(row)
            self.file = open(self.path, "a", newline="", encoding="utf-8")
        table.DictWriter(self.file, self.names, lineterminator="\n").writerow(row)
        self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        self.file = None

    def _rewrite(self, row: dict[str, Any]) -> None:
        """Writes the rows before this one again, under all names."""
        rows = [old for old in _read(self.path) if int(old["step"]) < row["step"]]
        self.names = list(dict.fromkeys([name for old in [*rows[:1], row] for name in old]))
        with replacing(self.path) as part, open(part, "w", newline="", encoding="utf-8") as file:
            writer = table.DictWriter(file, self.names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _read(path: pathlib.Path) -> list[dict[str, Any]]:
    with open(path, newline="", encoding="utf-8") as file:
        reader = table.DictReader(file)
        names, rows = reader.fieldnames, list(reader)
    if names and "step" not in names:
        raise ValueError(f"{path} is no log: it has no column step. Choose another path.")
    return rows
