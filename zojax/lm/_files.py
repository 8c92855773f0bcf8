"""Files from elsewhere: any damage is a ValueError with the file's name and a remedy."""

import contextlib
import json
import math
import os
import pathlib
import reprlib
from collections.abc import Iterator
from typing import Any, TypeAlias

FilePath: TypeAlias = str | os.PathLike[str]
SHOWN = 60  # characters of a value that an error quotes
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = SHOWN


def shown(value: object) -> str:
    """A value's repr, cut to 60 characters before it is made whole.

    >>> shown("a" * 10**7)[:5], len(shown("a" * 10**7))
    ("'aaaa", 60)
    """
    text = _repr.repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError for text that is not JSON, numbers that are not finite, a key given twice in one
    object, and nesting beyond Python's recursion limit.

    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the key 'a' occurs twice
    """
    try:
        numbers: dict[str, Any] = {"parse_float": _finite, "parse_constant": _finite}
        return json.loads(text, object_pairs_hook=_object, **numbers)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: pathlib.Path) -> dict:
    """The object in a JSON file; raises ValueError if it cannot be read or holds anything else."""
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}. Copy the file again.") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must hold an object, got {shown(raw)}.")
    return raw


@contextlib.contextmanager
def refusing(message: str) -> Iterator[None]:
    """Turns any error in its block into `ValueError(f"{message}: {reason}.")`.

    The Rust libraries raise bare `Exception`s. Their panics derive from `BaseException`.

    >>> with refusing("x.json is not a tokenizer"):
    ...     raise Exception("Model missing.")
    Traceback (most recent call last):
    ValueError: x.json is not a tokenizer: Model missing.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(f"{message}: {reason or type(error).__name__}.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} occurs twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {shown(text)} is not finite")
    return number
