"""Steps on up to 4,096 devices, by the compiler's counts and published speeds."""

import math
from collections import defaultdict

from benchmarks.contestants import HOST_DEVICES, MESH_STEPS, MESHES
from benchmarks.contestants.scaling import GROUPS, MACHINES, SHAPES, counted, shares
from benchmarks.sections.section import NAMED, Section, entry, plural
from benchmarks.sections.steps import TINY
from benchmarks.tables import by_work, contest, over


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
    known = {row["contestant"]: row for row in rows if row["contestant"] in HOST_DEVICES}
    timed = {n: 1e3 * row["seconds"]["median"] for n, row in known.items() if "seconds" in row}
    ms, lines = defaultdict(lambda: math.nan, timed), []
    for n in sorted({HOST_DEVICES[name].devices for name in timed}):
        evaluations, sums = (n * ms[f"{part}, 1 on the host"] for part in ("evaluations", "sum"))
        found = {way: ms[f"{way}, {n} on the host"] for way in ("scalars", "sliced")}
        model = {"scalars": evaluations + n * sums, "sliced": evaluations + sums}
        line = {"devices and directions": n}
        for way in found:
            line |= {f"{way}, CPU ms": found[way], f"{way}, model": model[way]}
        ratios = [of["scalars"] / of["sliced"] for of in (found, model)]
        lines.append(line | dict(zip(("scalars / sliced", "model"), ratios, strict=True)))
    return lines


def meshes(rows: list[dict]) -> list[dict]:
    """Collectives and megabytes of one device."""
    lines = []
    for work, here in by_work(rows).items():
        floor = next(iter(here.values()), {}).get("temporaries")
        for name, row in here.items():
            if row.get("failed") == "not measured":
                continue
            line: dict = {"layout": work, "step": name.removesuffix(", on a mesh")}
            line["collectives"] = row.get("failed") or row["collectives"]
            line["up to 1 kB"] = row.get("tiny", "")
            for column in ("largest", "gathered", "arguments", "temporaries"):
                line[f"{column}, MB"] = row[column] / 1e6 if column in row else ""
            line["/ forward"] = over(row.get("temporaries"), floor)
            lines.append(line)
    return lines


def _meshes(layout: str, tiny: bool = False):
    names = [name for name in MESHES if "sliced" not in name or "groups" in layout]
    return entry(layout, "mesh", {"layout": layout, "tiny": tiny}, 1, names, turns=1)


def _mesh_steps(work: str, name: str, settings: dict):
    return entry(
        f"{work}, eight host devices", name, settings, 2, list(MESH_STEPS), list(MESH_STEPS)
    )


def _on_host(n: int, **settings):
    names = [name for name, of in HOST_DEVICES.items() if of.devices == n]
    settings = {"batch": 64, "widths": (1024, 2048, 1024)} | settings
    return entry(plural(n, "device"), "mlp", settings, 2 * n, names)


SECTIONS = {
    "many-devices": Section(
        "shares of a step on up to 4,096 devices, by counts",
        NAMED,
        shares_of_step,
        [_counted(name) for name in SHAPES],
        [_counted("OPT-13B")],
    ),
    "mesh": Section(
        "collectives and memory of a step on eight devices, compiled only; --target tpu-v5e",
        NAMED,
        meshes,
        [_meshes(name) for name in ("tensor parallel", "FSDP", "two groups, tensor parallel")],
        [_meshes("tensor parallel", tiny=True)],
    ),
    "mesh-step": Section(
        "a step of model M on eight devices of this host beside one written by hand",
        NAMED,
        contest,
        [_mesh_steps("model M", "model M", {"batch": 8})],
        [_mesh_steps("transformer", "transformer", TINY | {"batch": 8})],
    ),
    "host-devices": Section(
        "steps on several devices of this host, beside the model of many-devices",
        NAMED,
        trend,
        [_on_host(n) for n in (1, 2, 4, 8)],
        [_on_host(n, widths=(8, 4)) for n in (1, 2)],
    ),
}
