"""Steps on up to 4,096 devices, by the compiler's counts and published speeds."""

from benchmarks import host_devices
from benchmarks.scaling import GROUPS, MACHINES, SHAPES, counted, shares
from benchmarks.sections.section import NAMED, Section, entry


def _counted(model: str):
    return entry(model, "scaling", {"model": model}, 1, ["the compiler's counts"], turns=1)


def shares_of_step(rows: list[dict]) -> list[dict]:
    """The share of a step spent evaluating, in percent, for each way to share the directions."""
    lines = []
    for row in (row for row in rows if "parameters" in row):
        found = counted(row)
        for name, machine in MACHINES.items():
            group = GROUPS[row["work"], name]
            for way, share in shares(found, machine, group).items():
                line = {"model": row["work"], "machine": name, "devices of a group": group}
                line["way"] = way
                for devices in (16, 64, 256, 1024, 4096):
                    line[f"{devices:,} devices, %"] = round(100 * share[devices])
                lines.append(line)
    return lines


def trend(rows: list[dict]) -> list[dict]:
    """CPU seconds of a step on all devices of the host, measured and by the model."""
    lines = []
    for seconds in (row["cpu_seconds"] for row in rows if "cpu_seconds" in row):
        for devices, found in seconds.items():
            model = host_devices.predicted(seconds["1"], int(devices))
            line = {"devices and directions": devices}
            for way in ("scalars", "sliced"):
                line |= {f"{way}, CPU ms": 1e3 * found[way], f"{way}, model": 1e3 * model[way]}
            line["scalars / sliced"] = found["scalars"] / found["sliced"]
            lines.append(line | {"model": model["scalars"] / model["sliced"]})
    return lines


def _on_host(*devices: int):
    settings = {"devices": devices}
    return entry("perceptron", "host devices", settings, 1, ["devices of the host"], turns=1)


SECTIONS = {
    "many-devices": Section(
        "shares of a step on up to 4,096 devices, by counts",
        NAMED,
        shares_of_step,
        [_counted(name) for name in SHAPES],
        [_counted("OPT-13B")],
    ),
    "host-devices": Section(
        "steps on several devices of this host, beside the model of many-devices",
        NAMED,
        trend,
        [_on_host(*host_devices.DEVICES)],
        [_on_host(1)],
    ),
}
