"""Steps on up to 4,096 devices, by the compiler's counts and published speeds."""

from benchmarks.scaling import GROUPS, MACHINES, SHAPES, Counts, shares
from benchmarks.sections.section import NAMED, Section, entry


def _counted(model: str):
    return entry(model, "scaling", {"model": model}, 1, ["the compiler's counts"], turns=1)


def scaling(rows: list[dict]) -> list[dict]:
    """The share of a step spent evaluating, in percent, for each way to share the directions."""
    lines = []
    for row in (row for row in rows if "parameters" in row):
        found = Counts(*(row[name] for name in Counts._fields))
        for name, machine in MACHINES.items():
            group = GROUPS[row["work"], name]
            for way, share in shares(found, machine, group).items():
                line = {"model": row["work"], "machine": name, "devices of a group": group}
                line["way"] = way
                for devices in (16, 64, 256, 1024, 4096):
                    line[f"{devices:,} devices, %"] = round(100 * share[devices])
                lines.append(line)
    return lines


SECTIONS = {
    "scaling": Section(
        "shares of a step on up to 4,096 devices, by counts",
        NAMED,
        scaling,
        [_counted(name) for name in SHAPES],
        [_counted("OPT-13B")],
    )
}
