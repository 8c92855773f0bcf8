"""Every figure of the README comes from here: `python -m benchmarks.NAME` reruns one table."""
