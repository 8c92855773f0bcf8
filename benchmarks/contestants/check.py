"""A reliability check or a count of leaks: one step is all of its runs, and its facts are the counts."""

from benchmarks.contestants import Host


def build(work):
    from benchmarks import reliability

    found = {}
    return Host(
        lambda: found.update(reliability.run(work.check, work.runs, work.seed)), facts=lambda: found
    )
