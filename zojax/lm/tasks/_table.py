"""Rows of a file: JSONL, CSV, TSV or Parquet, by its ending."""

import csv
import io
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from zojax.lm._extras import require
from zojax.lm._files import FilePath, parse_json, refusing, shown

Row = dict[str, Any]


def read_table(path: FilePath) -> list[tuple[str, Row]]:
    r"""The rows of a file, each with its place for errors.

    - `.csv`, `.tsv`: a line of column names, then strings.
    - `.parquet`: needs the extra `parquet`.
    - Any other ending: JSONL in UTF-8, an object a line.

    Args:
      path: of the file.

    Returns:
      Pairs of a place, such as `"line 3"`, and a dict from column names to values.

    Raises:
      ValueError: for a missing, damaged or empty file, and for a wrong line, which is quoted.
      ModuleNotFoundError: Parquet without the extra.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "task.csv")
    >>> with open(path, "w") as file:
    ...     _ = file.write("sentence,label\na fine film,1\n")
    >>> read_table(path)
    [('line 2', {'sentence': 'a fine film', 'label': '1'})]
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"the task {path} is no file; give JSONL, CSV, TSV or Parquet.")
    rows = list(_READERS.get(path.suffix.lower(), _jsonl)(path))
    if not rows:
        raise ValueError(f"{path} is empty; a task needs rows.")
    return rows


def _jsonl(path: pathlib.Path) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(_text(path).split("\n"), 1):  # strings may hold other line ends
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is not JSON, got {shown(line)}.") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} of {path} must be an object, got {shown(line)}.")
        yield f"line {number}", row


def _separated(delimiter: str) -> Callable[[pathlib.Path], Iterator[tuple[str, Row]]]:
    def read(path: pathlib.Path) -> Iterator[tuple[str, Row]]:
        lines = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter=delimiter)
        with refusing(f"{path} is damaged"):
            found = [(f"line {lines.line_num}", row) for row in lines]
        for place, row in found:
            if None in row or None in row.values():
                raise ValueError(
                    f"{place} of {path} must have {len(lines.fieldnames or ())} cells, as its first "
                    "line; quote cells that contain the separator."
                )
            yield place, row

    return read


def _parquet(path: pathlib.Path) -> Iterator[tuple[str, Row]]:
    parquet = require("pyarrow.parquet", "parquet")
    with refusing(f"{path} is not a Parquet file"):
        rows = parquet.read_table(path).to_pylist()
    return ((f"row {i}", row) for i, row in enumerate(rows))


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"the task {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8: {error}.") from error


_READERS = {".csv": _separated(","), ".tsv": _separated("\t"), ".parquet": _parquet}
