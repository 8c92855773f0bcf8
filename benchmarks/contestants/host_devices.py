"""Steps on several devices of this host, each number in a process of its own."""

from benchmarks.contestants import once
from benchmarks.host_devices import measured


def build(work):
    return once(lambda: {"cpu_seconds": {str(n): measured(n) for n in work.devices}})
