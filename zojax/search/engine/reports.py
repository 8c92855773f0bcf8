"""The reports of evaluations to a pruner: from this thread, other threads and other processes."""

import os
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from threading import Lock, Thread
from typing import Any
from weakref import WeakSet

import numpy as np

from zojax._checks import brief
from zojax._scalars import host_scalar
from zojax.search.engine.task import Problem
from zojax.search.pruners import Pruned, Pruner

LISTENERS: WeakSet[Listener] = WeakSet()


def _close_inherited() -> None:
    """A forked worker that held a listener would keep calls to a closed one waiting."""
    for listener in list(LISTENERS):
        listener.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


class Reports:
    """The pruner of a run with its state. Evaluations in other processes reach it through a socket.

    `earlier` has the reports (number, step, value) of evaluations from a journal, in their order.
    """

    def __init__(self, pruner: Pruner, problem: Problem, earlier: Sequence = ()):
        self.pruner, self.problem, self.state = pruner, problem, pruner.init()
        for number, step, value in earlier:
            self.state = pruner.report(self.state, number, step, self._signed(value))[1]
        self.count = len(earlier)
        # By evaluation: the place of a report among all, its step and value.
        self.made: dict[int, list] = {}
        self.lock = Lock()
        self.is_open = True  # whether it may stop evaluations
        self.server: Server | None = None

    def __enter__(self) -> "Reports":
        return self

    def __exit__(self, *_: Any) -> None:
        self.is_open = False
        if self.server is not None:
            self.server.close()

    def stops(self, number: int, step: float, value: float) -> bool:
        """Enters a report. Returns whether the evaluation should stop."""
        told = self._signed(value)
        with self.lock:
            if not self.is_open:
                return False
            stops, self.state = self.pruner.report(self.state, number, step, told)
            self.made.setdefault(number, []).append((self.count, step, value))
            self.count += 1
        return bool(stops)

    def of(self, number: int) -> "Report":
        """The `report` of an evaluation."""
        return Report(self, number)

    def take(self, number: int) -> list[tuple[int, float, float]]:
        """The reports of an evaluation that has ended: (place among all reports, step, value)."""
        with self.lock:
            return self.made.pop(number, [])

    def _signed(self, value: float) -> float:
        value = self.problem.signed(value)
        return value if np.isfinite(value) else np.inf

    def address(self) -> tuple[Any, bytes]:
        """(address, key) of the server, started on first use."""
        with self.lock:
            self.server = self.server or Server(self)
        return self.server.listener.address, self.server.key


class Report:
    """`report(step, value)` of one evaluation. Its pickled copies call the process of the search."""

    def __init__(self, reports: Reports, number: int):
        self.reports, self.number = reports, number

    def __call__(self, step: float, value: float) -> None:
        """Reports a value at a step. Raises `search.Pruned` if the evaluation should stop."""
        step, value = _numbers(step, value)
        if self.reports.stops(self.number, step, value):
            raise Pruned(step, value)

    def __reduce__(self):
        return RemoteReport, (*self.reports.address(), self.number)


class RemoteReport:
    """`Report` in another process of the same machine."""

    def __init__(self, address: Any, key: bytes, number: int):
        self.address, self.key, self.number = address, key, number
        self.connection: Connection | None = None

    def __call__(self, step: float, value: float) -> None:
        step, value = _numbers(step, value)
        try:
            self.connection = self.connection or Client(self.address, authkey=self.key)
            self.connection.send((self.number, step, value))
            answer = self.connection.recv()
        except (OSError, EOFError) as error:
            error.add_note(
                "report() calls the process of the search, which has ended or runs on another machine."
            )
            raise
        if isinstance(answer, Exception):
            raise answer
        if answer:
            raise Pruned(step, value)


class Server:
    """Answers the reports of other processes, one thread for each evaluation."""

    def __init__(self, reports: Reports):
        self.reports, self.key = reports, os.urandom(32)
        self.listener, self.is_open = Listener(authkey=self.key, backlog=64), True
        LISTENERS.add(self.listener)
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.is_open = False
        with suppress(OSError, EOFError):  # the thread may have seen it and closed the listener
            Client(self.listener.address, authkey=self.key).close()  # wakes the thread

    def _accept(self) -> None:
        while self.is_open:
            try:
                connection = self.listener.accept()
            except (AuthenticationError, OSError, EOFError):
                continue
            Thread(target=self._answer, args=(connection,), daemon=True).start()
        self.listener.close()  # refuses callers that wait

    def _answer(self, connection: Connection) -> None:
        with connection:
            try:
                while True:
                    connection.send(self._stops(*connection.recv()))
            except (EOFError, OSError):  # the evaluation has ended
                return

    def _stops(self, number: int, step: float, value: float) -> bool | Exception:
        try:
            return self.reports.stops(number, step, value)
        except Exception as error:  # of the user's pruner
            return error


def _numbers(step: Any, value: Any) -> tuple[float, float]:
    try:
        return host_scalar(step), host_scalar(value)
    except TypeError as error:
        got = f"{brief(step)} and {brief(value)}"
        raise TypeError(f"report(step, value) takes two numbers, got {got}.") from error
