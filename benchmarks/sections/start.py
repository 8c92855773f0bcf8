"""The first call of a small program, which a newcomer and a test suite wait for."""

from benchmarks.contestants import FIRST_CALLS
from benchmarks.sections.section import CPU, Section, entry, plural
from benchmarks.tables import contest

ESTIMATES = list(FIRST_CALLS)[:-1]  # the last is a search, which has no directions


def _first_call(directions: int, names=FIRST_CALLS):
    label, settings = plural(directions, "direction"), {"directions": directions}
    base = "first call of SPSA by hand"
    return entry(label, "first call", settings, 2 * directions, names, [base], turns=5)


SECTIONS = {
    "start": Section(
        "processor time of a first call with four parameters",
        CPU,
        contest,
        [_first_call(1), *(_first_call(directions, ESTIMATES) for directions in (8, 32))],
        [_first_call(1, list(FIRST_CALLS)[:2])],
    ),
}
