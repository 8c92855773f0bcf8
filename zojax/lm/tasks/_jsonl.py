"""Files of pairs: rows of text and label, or of prompt and completion."""

import json
from typing import Any, NamedTuple

from zojax.lm._files import FilePath, shown
from zojax.lm.tasks._table import read_table

LABELLED = "text", "label"
WRITTEN = "prompt", "completion"
FEWEST = 10  # rows


class Rows(NamedTuple):
    """A file's rows.

    Attributes:
      fields: `("text", "label")` or `("prompt", "completion")`.
      inputs: strings of the first field.
      outputs: strings of the second.
    """

    fields: tuple[str, str]
    inputs: list[str]
    outputs: list[str]


def read_jsonl(path: FilePath) -> Rows:
    r"""Reads pairs from a JSONL file in UTF-8, or from CSV, TSV or Parquet; values are strings or numbers.

    Args:
      path: of the file; its ending tells the format, see `read_table`.

    Returns:
      Its `Rows`.

    Raises:
      ValueError: if the file is missing, has fewer than 10 rows, or has a wrong line, which is quoted.

    >>> import json, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "task.jsonl")
    >>> rows = [{"text": f"{i} + {i}", "label": 2 * i} for i in range(10)]
    >>> with open(path, "w") as file:
    ...     _ = file.write("\n".join(map(json.dumps, rows)))
    >>> read_jsonl(path).outputs[:3]
    ['0', '2', '4']
    """
    fields, pairs = None, []
    for place, row in read_table(path):
        try:
            fields = fields or next(f for f in (LABELLED, WRITTEN) if set(f) <= set(row))
            pairs.append([as_text(row[name]) for name in fields])
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            known = [fields] if fields else [LABELLED, WRITTEN]
            raise ValueError(
                f"{place} of {path} must be an object with {' or '.join(map(' and '.join, known))}, "
                f"strings or numbers, got {shown(json.dumps(row, default=str))}."
            ) from error
    if fields is None or len(pairs) < FEWEST:
        raise ValueError(f"{path} needs {FEWEST} examples at least, got {len(pairs)}.")
    inputs, outputs = map(list, zip(*pairs, strict=True))
    return Rows(fields, inputs, outputs)


def as_text(value: Any) -> str:
    """A string or number as text; raises TypeError for other values, ValueError for a lone surrogate."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"neither a string nor a number: {shown(value)}")
    text = str(value)
    text.encode()
    return text
