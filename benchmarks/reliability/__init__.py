"""Reliability: random inputs, interrupts and failures, counted: `python -m benchmarks reliability`.

A check is a function of (runs, seed) that returns counts by name. All counts but `runs` must be 0, except
`accepted`, `refused` and `interrupted`, which describe the inputs.
"""
