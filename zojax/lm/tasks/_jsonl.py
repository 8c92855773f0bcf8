"""JSONL files of a task: lines of text and label, or of prompt and completion."""

import pathlib
from os import PathLike
from typing import NamedTuple

from zojax.lm._files import parse_json, shown

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


def read_jsonl(path: str | PathLike) -> Rows:
    r"""Reads a JSONL file in UTF-8; values are strings or numbers.

    Args:
      path: of the file.

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
    path = pathlib.Path(path).expanduser()
    fields, pairs = None, []
    for number, line in enumerate(_text(path).split("\n"), 1):  # strings may hold other line ends
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            fields = fields or next(f for f in (LABELLED, WRITTEN) if set(f) <= set(row))
            pairs.append([_as_text(row[name]) for name in fields])
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            known = [fields] if fields else [LABELLED, WRITTEN]
            raise ValueError(
                f"line {number} of {path} must be an object with "
                f"{' or '.join(map(' and '.join, known))}, strings or numbers, got {shown(line)}."
            ) from error
    if fields is None or len(pairs) < FEWEST:
        raise ValueError(f"{path} needs {FEWEST} examples at least, got {len(pairs)}.")
    inputs, outputs = map(list, zip(*pairs, strict=True))
    return Rows(fields, inputs, outputs)


def _text(path: pathlib.Path) -> str:
    if not path.is_file():
        raise ValueError(f"the task {path} is no file; give a JSONL file, one object a line.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"the task {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8: {error}.") from error


def _as_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"neither a string nor a number: {shown(value)}")
    text = str(value)
    text.encode()  # a lone surrogate is no text
    return text
