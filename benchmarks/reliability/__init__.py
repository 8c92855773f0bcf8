"""Reliability: random inputs, interrupts and failures, counted: `python -m benchmarks reliability`.

A check is a function of (runs, seed) that returns counts by name. All counts but `runs` must be 0, except
`accepted`, `refused` and `interrupted`, which describe the inputs.
"""


def run(check: str, runs: int, seed: int = 0) -> dict:
    """The counts of a check by name, or the growth of each entry point for "leaks"."""
    from benchmarks.reliability import arguments, estimates, files, leaks, logs, models

    if check == "leaks":
        return {"growth": leaks.leaks(runs)}
    checks = {
        "interrupts": logs.interrupts,
        "full disks": logs.full_disks,
        "kills": logs.kills,
        "damaged logs": logs.damaged,
        "hostile files": files.hostile,
        "failing models": models.model_failures,
        "estimates": estimates.random_estimates,
        "arguments": arguments.invalid_arguments,
    }
    return {"counts": checks[check](runs, seed)}
