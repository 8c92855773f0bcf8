"""The compiler's counts of a large model, for the model of a step on many devices."""

from benchmarks import scaling
from benchmarks.contestants import once


def build(work):
    return once(lambda: scaling.counts(work.model)._asdict())
