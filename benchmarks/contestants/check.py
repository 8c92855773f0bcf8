"""A reliability check or a count of leaks: one step is all of its runs, and its facts are the counts."""

from benchmarks.contestants import once
from benchmarks.reliability import arguments, estimates, files, leaks, logs, models

CHECKS = {
    "interrupts": logs.interrupts,
    "full disks": logs.full_disks,
    "kills": logs.kills,
    "damaged logs": logs.damaged,
    "hostile files": files.hostile,
    "failing models": models.model_failures,
    "estimates": estimates.random_estimates,
    "arguments": arguments.invalid_arguments,
}


def build(work):
    if work.check == "leaks":
        return once(lambda: {"growth": leaks.leaks(work.runs)})
    return once(lambda: {"counts": CHECKS[work.check](work.runs, work.seed)})
