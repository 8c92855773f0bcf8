"""Contestants side by side on a work: a process each, interleaved turns, medians and quartiles.

A contestant that fails is a row with the reason; the others go on. Short steps repeat within a turn. A
ratio pairs the turns of one run, so that a drift of the machine hits both sides alike.
"""

import contextlib
import fnmatch
import json
import math
import os
import random
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

from benchmarks import environments, store
from benchmarks.contestants import CONTESTANTS
from benchmarks.summary import FEW, ratio, summary

SHORT = 0.5  # seconds of a step
TURN = 0.1  # seconds of a turn of short steps


class Entry(NamedTuple):
    """One work of a contest.

    `turns` is the exact number of steps, say one a seed; 0 compiles only. None is as many turns as time
    allows, after a first step that warms up.
    """

    label: str  # the name of the work in its rows
    name: str  # of the work, with settings and evaluations as `works.make` takes them
    settings: dict
    evaluations: int
    contestants: Collection[str]  # names in `CONTESTANTS`
    bases: Collection[str] = ()  # the others are compared with these: first the floor, then zojax
    turns: int | None = None
    together: bool = True  # False if the device has no room for all: one after another

    @property
    def work(self) -> dict:
        return {"name": self.name, "settings": self.settings, "evaluations": self.evaluations}


class Options(NamedTuple):
    """How long a contest may take."""

    rounds: int = 15  # turns of a contestant, at most
    budget: float = 30  # seconds of all turns of a work; `FEW` turns are taken in any case
    slow: float = 40  # seconds of a step beyond which one step has to do
    limit: float = 240  # seconds until a contestant has taken its first step
    make: bool = True  # whether missing environments are made
    platform: str = "cpu"  # the backend of all contestants
    target: str = ""  # a device in `benchmarks.targets` to compile for
    variables: dict = {}  # environment variables of the processes
    until: float = math.inf  # `time.monotonic()` after which no contestant starts

    def left(self) -> float:
        """Seconds until no contestant starts."""
        return self.until - time.monotonic()


class Failed(RuntimeError):
    """A contestant that cannot take part, with the reason."""


class Worker:
    """A contestant on a work in a process of its own, ready to step; else raises Failed with a reason."""

    def __init__(self, contestant: str, entry: Entry, options: Options):
        if (left := options.left()) <= 0:
            raise Failed("no time left")
        environment = CONTESTANTS[contestant].environment
        try:
            python = sys.executable
            if environment:
                python = environments.python_of(environment, options.make)
        except environments.Unavailable as error:
            raise Failed(str(error)) from None
        request = [contestant, entry.work, options.platform, entry.turns != 0, options.target]
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", json.dumps(request)],
            cwd=store.ROOT,
            env=os.environ | _variables(entry.together) | options.variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        # Searches and trainings take their time; a step that is timed may not.
        self._limit = 600 if entry.turns is None else None
        try:
            limit = options.limit if entry.turns is None else math.inf
            self.facts = self._answer(_finite(min(limit, left)))
        except BaseException:  # an interrupt, too, must leave no process behind
            self.end()
            raise

    def turn(self) -> float:
        """Seconds of a step; the median of several if they are short."""
        return often(self.step)

    def step(self) -> float:
        self._say("step")
        return self._answer(self._limit)["seconds"]

    def close(self) -> dict:
        """Ends the process; returns its facts."""
        self._say("stop")
        facts = self._answer(self._limit)
        if self._limit is None:  # of checks and searches: cases that went wrong
            sys.stderr.write(self.messages())
        self.end()
        return facts

    def messages(self) -> str:
        """All that the process wrote to its standard error."""
        self._errors.seek(0)
        return self._errors.read()

    def end(self) -> None:
        """Kills the process if it still runs, and closes its files; once or more often."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _say(self, word: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{word}\n".encode())
            self._process.stdin.flush()

    def _answer(self, limit: float | None) -> dict:
        ready, _, _ = select.select([self._process.stdout], [], [], limit)
        line = self._process.stdout.readline() if ready else b""
        answer = json.loads(line) if line else {}
        if line and "failed" not in answer:
            return answer
        reason = answer.get("failed") or (self._last_words() if ready else f"over {limit:g} s")
        self.end()
        raise Failed(reason)

    def _last_words(self) -> str:
        code = self._process.wait()
        if code == -9:
            return "killed, probably out of memory"
        lines = [line.strip() for line in self.messages().splitlines() if line.strip()]
        return (lines[-1] if lines else f"exit status {code}")[:200]


def _finite(seconds: float) -> float | None:
    return None if math.isinf(seconds) else seconds


def _variables(together: bool) -> dict:
    """Compile anew, since a cached program tells neither seconds nor memory; share a GPU, or take it."""
    memory = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if not together:
        memory = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.93"}
    return {"JAX_ENABLE_COMPILATION_CACHE": "false"} | memory


def often(step: Callable[[], float]) -> float:
    """Seconds of one step; a short one repeats, and the median of all but the first counts.

    The contestant before may have filled caches and memory with gigabytes, and the scheduler disturbs a
    step of milliseconds.
    """
    first = step()
    if first >= SHORT:
        return first
    more = min(20, max(1, int(TURN / max(first, 1e-9))))
    return statistics.median(step() for _ in range(more))


def groups(entry: Entry, names: list[str]) -> list[list[str]]:
    """The contestants that run side by side."""
    return [names] if entry.together else [[name] for name in names]


def contest(entry: Entry, names: list[str], options: Options, start=Worker) -> list[dict]:
    """Runs these contestants of a work; one row each, with the summary of its turns."""
    sides = [_side_by_side(entry, group, options, start) for group in groups(entry, names)]
    return summarised(entry, [row for rows in sides for row in rows])


def _side_by_side(entry: Entry, names: list[str], options: Options, start) -> list[dict]:
    workers: dict[str, Worker] = {}
    failures: dict[str, str] = {}
    try:
        for name in names:
            print(f"{entry.label}: starting {name}", file=sys.stderr, flush=True)
            with _noting(failures, name):
                workers[name] = start(name, entry, options)
        seconds = _all_turns(entry, workers, failures, options)
        run = {"at": time.strftime("%Y-%m-%d %H:%M"), "processor": store.processor()}
        about = {"work": entry.label, "run": run | {"commit": store.commit()}}
        about["evaluations"] = entry.evaluations
        rows = []
        for name in names:
            row = about | {"contestant": name}
            if name not in failures:
                with _noting(failures, name):
                    row |= workers[name].facts | {"rounds": seconds[name]} | workers[name].close()
            if name in failures:
                row["failed"] = failures[name]
            rows.append(row)
        return rows
    finally:
        for worker in workers.values():
            worker.end()


@contextlib.contextmanager
def _noting(failures: dict, name: str):
    try:
        yield
    except Failed as failure:
        failures[name] = str(failure)


def _all_turns(entry: Entry, workers: dict, failures: dict, options: Options) -> dict[str, list]:
    """Seconds of the turns of each contestant.

    A very slow contestant keeps the time of its first step. The others take as many turns as the budget
    allows. Those with short steps then go on among themselves.
    """
    if entry.turns == 0:
        return dict.fromkeys(workers, [])
    first = {name: worker.facts["first"] for name, worker in workers.items()}
    if entry.turns is not None:
        timers = {n: partial(_noted, n, w.step, failures) for n, w in workers.items()}
        taken = in_turn(timers, dict.fromkeys(workers, entry.turns - 1))
        return {name: taken[name] or [first[name]] for name in workers}
    patient = [name for name in workers if first[name] <= options.slow]
    each = sum(first[name] for name in patient)
    rounds = int(min(options.rounds, max(FEW, options.budget / max(each, 1e-9))))
    turns = {n: options.rounds if first[n] < SHORT else rounds for n in patient}
    timers = {name: partial(_noted, name, workers[name].turn, failures) for name in patient}
    return {name: [first[name]] for name in workers} | in_turn(timers, turns)


def _noted(name: str, turn: Callable[[], float], failures: dict) -> float:
    """Seconds of a turn; NaN for a contestant that has failed: its row has no times."""
    if name not in failures:
        with _noting(failures, name):
            return turn()
    return math.nan


def in_turn(timers: dict[str, Callable[[], float]], turns: dict[str, int]) -> dict[str, list]:
    """The result of every turn of each timer; the order within a round is shuffled anew."""
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    shuffler = random.Random(0)
    for i in range(max(turns.values(), default=0)):
        order = [name for name in timers if turns[name] > i]
        shuffler.shuffle(order)
        for name in order:
            seconds[name].append(timers[name]())
    return seconds


def summarised(entry: Entry, rows: list[dict]) -> list[dict]:
    """Rows with summaries in place of the rounds, and with their ratios `over` each base."""
    measured = [row for row in rows if "failed" not in row]
    each = {row["contestant"]: [s / row["amount"] for s in row["rounds"]] for row in measured}
    done = []
    for row in rows:
        row = {k: v for k, v in row.items() if v is not None and k not in ("rounds", "first")}
        mine = each.get(row["contestant"])
        if mine:
            row["seconds"] = summary([s * row["amount"] for s in mine])
            found = {base: ratio(mine, each[base]) for base in entry.bases if each.get(base)}
            row["over"] = {base: one for base, one in found.items() if one}
        if "values" in row:  # of its steps, say one a seed
            sd = statistics.stdev(row["values"]) if len(row["values"]) > 1 else 0.0
            moments = {"mean": statistics.mean(row["values"]), "sd": sd}
            row["values"] = summary(row["values"]) | moments
        done.append(row)
    return done


def merged(entry: Entry, new: list[dict], old: list[dict]) -> list[dict]:
    """All rows of a work, in its order; a contestant that was not run again keeps its row.

    No ratio is of two runs: one over a base that ran again without the contestant is dropped.
    """
    new = [row for row in new if row["work"] == entry.label]
    again = {row["contestant"] for row in new}
    found = {name: {"failed": "not measured"} for name in entry.contestants}
    for row in old:
        if row["work"] == entry.label and row["contestant"] not in again:
            over = {b: r for b, r in row.get("over", {}).items() if b not in again}
            found[row["contestant"]] = row | ({"over": over} if "over" in row else {})
    found |= {row["contestant"]: row for row in new}
    about = {"work": entry.label, "bases": list(entry.bases)}
    return [about | {"contestant": name} | row for name, row in found.items()]


def chosen(entries: list[Entry], works: list[str], contestants: list[str]) -> list[tuple]:
    """The entries with a work that matches, each with its contestants that match."""
    labels = matching("--only", [e.label for e in entries], works)
    named = [entry for entry in entries if entry.label in labels]
    some = [name for entry in named for name in entry.contestants]
    names = matching("--contestants", some, contestants)
    kept = [(entry, [n for n in entry.contestants if n in names]) for entry in named]
    return [(entry, some) for entry, some in kept if some]


def missing(chosen: list[tuple], rows: list[dict]) -> list[tuple]:
    """The entries with those of their contestants that have no row, or a failed one."""
    done = {(row["work"], row["contestant"]) for row in rows if "failed" not in row}
    left = [(entry, [n for n in names if (entry.label, n) not in done]) for entry, names in chosen]
    return [(entry, names) for entry, names in left if names]


def matching(option: str, names: list[str], patterns: list[str]) -> set[str]:
    """The names that match. Raises SystemExit if a pattern matches none of them."""
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            some = [*dict.fromkeys(names)]
            known = ", ".join(map(repr, some[:8])) + f" and {len(some) - 8} more" * (len(some) > 8)
            raise SystemExit(f"{option} {pattern!r} matches none of {known}; try '*{pattern}*'.")
    return {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
