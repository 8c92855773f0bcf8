"""Reports of a search to its callback and its progress bar."""

from typing import Any

import numpy as np

from zojax._progress import progress_bar
from zojax.search.engine.evaluation import Entry
from zojax.search.engine.result import SearchProgress, trial_of
from zojax.search.engine.task import Clock, Problem


class Reporter:
    """Reports to the callback and the bar (of `bar` evaluations), and watches the clock."""

    def __init__(self, problem: Problem, callback, bar: int, clock: Clock | None):
        self.problem, self.callback, self.clock = problem, callback, clock
        self.bar = progress_bar(bar, "evaluation") if bar else None
        self.is_wanted = bar > 0 or callback is not None or clock is not None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def __call__(
        self, evaluations: int, x: np.ndarray, value: Any, last: Entry | None = None
    ) -> str | None:
        value = self.problem.shown(value)
        if self.bar is not None:
            is_front = self.problem.is_front
            shown = {"front": len(value)} if is_front else {"best": f"{value:.6g}"}
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update(evaluations - self.bar.n)
        if self.callback is not None:
            trial = None if last is None else trial_of(self.problem, last)
            best = self.problem.space.point(x)
            if self.callback(SearchProgress(evaluations, best, value, trial)):
                return "stopped by callback"
        return None if self.clock is None else self.clock.why_stop()
