"""A journal of a search: a line of JSON for each evaluation, from which a killed search goes on.

The first line identifies the search. A search that finds a journal of its own asks for the same points
again and takes their values from the lines. It evaluates only points without a line.
"""

import hashlib
import json
import math
import os
import re
from concurrent.futures import Executor
from typing import Any

import jax
import numpy as np

from zojax._locks import lock
from zojax._numerics import float_dtype
from zojax._scalars import is_finite
from zojax._warnings import warn
from zojax.search.engine.evaluation import Entry
from zojax.search.engine.names import flat
from zojax.search.engine.task import Problem, SearchTask

FORMAT = "zojax search journal 1"
START = b'{"journal": "zojax search'  # of every journal
CONTINUE = " To continue a finished search, pass state=result.search_state and another log."


class Journal:
    """The open file, locked against other searches.

    A last line that was cut off is dropped, with a warning.

    Raises:
      ValueError: the file is no journal, is damaged before its end, or another search writes it.
      OSError: the file cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"log must be a path, a str or a pathlib.Path, got {path!r}.")
        self.path = os.fspath(path)
        self.file = open(path, "a+b", buffering=0)
        self.header: dict[str, Any] | None = None
        self.lines: dict[int, dict[int, dict]] = {}  # by run and number, in the order of their ends
        try:
            busy = f"log {self.path} is being written by another search: choose another path."
            lock(self.file, busy)
            self._read()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    @property
    def seed(self) -> int | None:
        """The key of the search, if it was an int."""
        return None if self.header is None else self.header["seed"]

    def begin(self, search: dict[str, Any], seed: Any) -> None:
        """Writes the header of a new journal, or compares that of an old one.

        Raises:
          ValueError: the journal is of another search.
        """
        if self.header is None:
            self.header = {"journal": FORMAT, "versions": _versions(), "search": search}
            self.header["seed"] = seed if isinstance(seed, int) else None
            return self.write(self.header)
        found, search = self.header["search"], json.loads(json.dumps(search))
        names = [n for n in search if found.get(n) != search[n]]
        if names:
            pairs = [(n, *_apart(found.get(n), search[n])) for n in names]
            both = [f"{n} ({_brief(then)}, now {_brief(now)})" for n, then, now in pairs]
            raise ValueError(
                f"log {self.path} is of a search with another {', another '.join(both)}: choose another "
                f"path, or pass the same arguments.{CONTINUE if names == ['budget'] else ''}"
            )

    def run(self, number: int, problem: Problem) -> "RunJournal":
        return RunJournal(self, number, problem)

    def write(self, line: dict[str, Any]) -> None:
        rest = memoryview(json.dumps(line, default=_plain).encode() + b"\n")
        while rest:
            rest = rest[self.file.write(rest) :]

    def _read(self) -> None:
        self.file.seek(0)
        data = self.file.read()
        *lines, rest = data.split(b"\n")
        if not lines and (not rest or START.startswith(rest[: len(START)])):  # a header, cut off
            self.file.truncate(0)
            return
        parsed = [_parsed(line) for line in lines]
        if not parsed or (parsed[0] or {}).get("journal") != FORMAT:
            raise ValueError(f"log {self.path} is no journal of a search: choose another path.")
        if None in parsed[:-1]:
            raise ValueError(
                f"log {self.path} is damaged in line {parsed.index(None) + 1}: remove it with all lines "
                "after it, to evaluate these again."
            )
        if parsed[-1] is None:
            rest, parsed = lines[-1] + b"\n" + rest, parsed[:-1]
        if rest:
            warn(f"log {self.path}: the last line was cut off, and is dropped")
            self.file.truncate(len(data) - len(rest))
        self.header = parsed[0]
        for line in parsed[1:]:
            if line is not None:
                self.lines.setdefault(line["run"], {})[line["number"]] = line


class RunJournal:
    """The lines of one run."""

    def __init__(self, journal: Journal, number: int, problem: Problem):
        self.journal, self.number, self.problem = journal, number, problem
        self.known = dict(journal.lines.get(number, {}))

    def entry(self, number: int, x: np.ndarray) -> Entry | None:
        """The evaluation with a number, at the point that the search asks for; None without a line.

        Raises:
          ValueError: the line has another point.
        """
        line = self.known.get(number)
        if line is None:
            return None
        if not np.array_equal(np.asarray(line["x"], float), np.asarray(x, float)):
            header = self.journal.header or {}
            raise ValueError(
                f"log {self.journal.path} has another point for evaluation {number} of run {self.number}: "
                f"it was written by {header.get('versions')}, and this is {_versions()}. Choose another "
                "path."
            )
        value = np.full(self.problem.value_shape, np.inf)[()]
        if line["value"] is not None:
            value = self.problem.signed(line["value"])
        seconds = math.nan if line["seconds"] is None else line["seconds"]
        attributes, pruned = line.get("attributes"), line.get("pruned", False)
        return Entry(value, np.asarray(x), line["error"], seconds, attributes, True, pruned)

    def reports(self) -> list[tuple[int, float, float]]:
        """All reports (number, step, value) of the lines, in their order."""
        made = [
            (place, number, step, math.inf if value is None else value)
            for number, line in self.known.items()
            for place, step, value in line.get("reports", ())
        ]
        return [(number, step, value) for _, number, step, value in sorted(made)]

    def next_told(self, numbers: Any) -> int | None:
        """Which of these evaluations ended first. It is not returned again."""
        number = next((n for n in self.known if n in numbers), None)
        if number is not None:
            del self.known[number]
        return number

    def write(self, number: int, entry: Entry, reports: list[tuple[int, float, float]]) -> None:
        point = flat(self.problem.space.point(entry.x))
        line = {
            "run": self.number,
            "number": number,
            "value": self.problem.signed(entry.value) if is_finite(entry.value) else None,
            "error": entry.error,
            "seconds": entry.seconds if math.isfinite(entry.seconds) else None,
            "point": {
                n: v if isinstance(v, (int, float, str)) else repr(v) for n, v in point.items()
            },
            "x": np.asarray(entry.x).tolist(),
        }
        if entry.attributes is not None:
            line["attributes"] = entry.attributes
        if entry.pruned:
            line["pruned"] = True
        if reports:
            line["reports"] = [(i, step, v if math.isfinite(v) else None) for i, step, v in reports]
        self.journal.write(line)


def identity_of(task: SearchTask, executor: Executor | None) -> dict[str, Any]:
    """What decides which points a search asks for, besides `fun` and `args`."""
    problem, starts, state = task.problem, task.starts, task.state
    algorithm, space = problem.algorithm, problem.space
    key = jax.random.key_data(task.key)
    return {
        "space": [str(space.treedef), *(_text_of(d) for d in space.domains)],
        "algorithm": algorithm.name or "one without a name",
        "batch_size": algorithm.batch_size,
        "in_flight": algorithm.in_flight if executor is not None else 1,
        "budget": problem.budget,
        "key": [str(jax.random.key_impl(task.key)), *np.asarray(key).tolist()],
        "maximize": np.less(problem.sign, 0).tolist(),
        "repeats": problem.runs,
        "with_key": problem.with_key,
        "has_aux": task.has_aux,
        "constraints": problem.constraints,
        "init_points": starts.x.tolist(),
        "init_values": None if starts.values is None else starts.values.tolist(),
        "dtype": str(float_dtype()),
        "pruner": None if task.pruner is None else _text_of(task.pruner, task.pruner.init()),
        "state": None if state is None else _digest((state.x, state.values, state.evaluations)),
    }


def _digest(arrays: tuple) -> str:
    return hashlib.sha256(b"".join(np.asarray(a, float).tobytes() for a in arrays)).hexdigest()


def _text_of(*values: Any) -> str:
    """The values as text, without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(map(repr, values)))


def _apart(then: Any, now: Any) -> tuple[Any, Any]:
    """Two values; of lists of equal length, the first items that differ."""
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return next(_apart(a, b) for a, b in zip(then, now, strict=True) if a != b)
    return then, now


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _versions() -> str:
    from zojax import __version__

    return f"zojax {__version__}, jax {jax.__version__}, numpy {np.__version__}"


def _parsed(line: bytes) -> dict | None:
    """The object of a line, or None if it is damaged."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _plain(value: Any) -> Any:
    """Numbers and arrays of NumPy and JAX as lists and numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(
        f"attributes must be JSON for log=, got {value!r}: use numbers, strings, lists and dicts."
    )
