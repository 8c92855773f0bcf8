"""The contract of a pruner: two pure functions over the values that evaluations report."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Pruned(Exception):
    """Ends an evaluation early. `report(step, value)` raises it, and `fun` may raise it by its own rule.

    The search takes `value` as the value of the evaluation. `fun` may clean up with `try: ... finally:`.

    Attributes:
      step: of the last report.
      value: the last reported value.
    """

    def __init__(self, step: float, value: float):
        super().__init__(step, value)
        self.step, self.value = step, value


class Pruner(NamedTuple):
    """A rule that stops bad evaluations early.

        state = pruner.init()
        stops, state = pruner.report(state, number, step, value)   # for each report, in any order

    Lower values are better, also when maximizing. Evaluations may run side by side.

    Attributes:
      init: () -> state, of any type. `report` returns a new state and changes no old one.
      report: (state, number, step, value) -> (stops, state). `number` counts evaluations from 0, `step` is
        the user's. `value` is finite or +inf.

    This rule stops evaluations whose value at step 10 or later is not below 1:

    >>> from zojax import search
    >>> def report(state, number, step, value):
    ...     return step >= 10 and value >= 1, state
    >>> pruner = search.Pruner(init=lambda: None, report=report)
    """

    init: Callable[[], Any]
    report: Callable[[Any, int, float, float], tuple[bool, Any]]
