"""Reliability: random inputs, interrupts and failures, counted. `python -m benchmarks.reliability`."""
