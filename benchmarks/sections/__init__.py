"""The sections of `python -m benchmarks`: one file a subject, with works, contestants and tables."""

from benchmarks.sections import (
    attacks,
    checks,
    costs,
    decoding,
    device,
    executors,
    growth,
    methods,
    precision,
    rewards,
    scaling,
    search,
    start,
    steps,
    worth,
    zoo,
)
from benchmarks.sections.section import Section

SECTIONS: dict[str, Section] = {
    **(steps.SECTIONS | costs.SECTIONS | growth.SECTIONS | worth.SECTIONS),
    **(device.SECTIONS | zoo.SECTIONS | attacks.SECTIONS | search.SECTIONS),
    **(start.SECTIONS | checks.SECTIONS | decoding.SECTIONS | methods.SECTIONS),
    **(scaling.SECTIONS | precision.SECTIONS | executors.SECTIONS | rewards.SECTIONS),
}
