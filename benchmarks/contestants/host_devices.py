"""Steps on several devices of this host, each number in a process of its own."""

from benchmarks import host_devices
from benchmarks.contestants import Host


def build(work):
    found: dict = {}

    def run():
        for devices in work.devices:
            found[str(devices)] = host_devices.measured(devices)

    return Host(run, facts=lambda: {"cpu_seconds": found})
