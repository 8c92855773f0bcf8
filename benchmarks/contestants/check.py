"""A reliability check or a count of leaks: one step is all of its runs, and its facts are the counts."""

from benchmarks.contestants import once


def build(work):
    from benchmarks import reliability

    return once(lambda: reliability.run(work.check, work.runs, work.seed))
