"""Tables and pictures of README.md and benchmarks/README.md, from results/ alone.

A page has places between `<!-- begin NAME -->` and `<!-- end -->`; what stands there is written anew, from
the results of a CPU. Those of another device become a page beside them.
"""

import re
import statistics
from pathlib import Path

from benchmarks import contests, measure
from benchmarks.rivals import RIVALS

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
FOLDER = measure.RESULTS / "cpu"
EMPTY = "Not measured yet."
# What takes the place of zojax's row where a peer draws normals.
NORMAL = {"zojax, signs": "zojax, normal", "zojax, low rank": "zojax, low rank, normal"}
# Of a GPU: a population's examples a second as a part of plain inference's, and a step's time in forwards.
THROUGHPUT, FORWARDS = 0.97, 1.05
# Results whose rows are a table as they are.
PLAIN = (
    *"cosine scaling batches noise memory step population".split(),
    *"table22 compile policy reliability leaks".split(),
)

# work, peer, how much faster, and how many times less memory zojax is meant to be
TARGETS = [
    ("sphere, d = 1e+06", "evosax Open_ES", 13.0, 8.0),
    ("MLP, 256 members, 1 examples", "shardes, low rank", 1.7, None),
    ("MLP, 256 members, 32 examples", "shardes, low rank", 1.0, None),
    ("model M, q = 1", "naive lax.map", 1.9, 4.0),
    ("model M, q = 4", "naive lax.map", 1.9, 4.0),
]


def contest_rows(folder: Path = FOLDER) -> list[dict]:
    return [row for name in contests.CONTESTS for row in measure.load(name, folder)]


def versus(rows: list[dict]) -> list[dict]:
    """For each work the fastest peer that estimates from values, and zojax's standing beside it."""
    lines = []
    for work in dict.fromkeys(row["work"] for row in rows):
        here = {r["contestant"]: r for r in rows if r["work"] == work and "seconds" in r}
        ours = next((here.get(r["ours"]) for r in rows if r["work"] == work), None)
        if ours is None:
            continue
        peers = [r for name, r in here.items() if _peer(name) and r.get("run") == ours.get("run")]
        if not peers:
            continue
        fastest = min(peers, key=lambda r: statistics.median(r["seconds"]))
        mine, theirs = measure.common(ours["seconds"], fastest["seconds"])
        lines.append(
            {
                "work": work,
                "zojax, ms": 1e3 * statistics.median(mine),
                "fastest peer": fastest["contestant"],
                "peer, ms": 1e3 * statistics.median(theirs),
                "peer / zojax, time": contests.compared(fastest, ours),
                "quartiles": contests.spread(fastest, ours),
                "peer / zojax, peak": _over(fastest.get("peak"), ours.get("peak")),
                "peer / zojax, RSS": _over(fastest.get("rss"), ours.get("rss")),
            }
        )
    lost = [isinstance(r, float) and r < 1 for r in (line["peer / zojax, time"] for line in lines)]
    if any(lost):  # a column of its own, and none where there is nothing to say
        lines = [line | {"lost": "lost" * x} for line, x in zip(lines, lost, strict=True)]
    return lines


def _peer(name: str) -> bool:
    rival = RIVALS.get(name)
    return rival is not None and not rival.exact and rival.module not in ("ours", "inference")


def _over(a, b) -> float | str:
    return a / b if a and b else ""


def targets(rows: list[dict]) -> list[dict]:
    """What was aimed at, and what was measured."""
    lines = []
    for work, peer, time, memory in TARGETS:
        here = {row["contestant"]: row for row in rows if row["work"] == work}
        theirs = here.get(peer, {})
        ours = here.get(theirs.get("ours"), {})
        normal = here.get(NORMAL.get(theirs.get("ours")), {})
        ratio = contests.compared(theirs, ours) or "not measured"
        less = _over(theirs.get("peak"), ours.get("peak"))
        met = isinstance(ratio, float) and ratio >= time
        lines.append(
            {
                "work": work,
                "peer": peer,
                "faster, aim": time,
                "measured": theirs.get("failed") or ratio,
                "measured with normals": contests.compared(theirs, normal) or "not measured",
                "less memory, aim": memory or "",
                "by the compiler": less,
                "met": "yes" if met and (memory is None or (less and less >= memory)) else "no",
            }
        )
    return lines


def goals(populations: list[dict], steps: list[dict]) -> list[dict]:
    """What is aimed at on a GPU, and what was measured there."""
    lines = []
    for row in populations:
        if row["contestant"] == "zojax, generation":
            slower = row["/ inference"]
            part = 1 / slower if isinstance(slower, float) else slower
            line = {"work": row["work"], "what": "throughput / inference", "goal": THROUGHPUT}
            lines.append(line | _met(part, lambda x: x >= THROUGHPUT))
    for row in steps:
        if row["step"].startswith("zojax.mezo"):
            line = {"work": f"{row['model']}, {row['step']}", "what": "step / two forwards"}
            met = _met(row["/ two forwards"], lambda x: x <= FORWARDS)
            lines.append(line | {"goal": FORWARDS} | met)
    return lines


def _met(value: float | str, good) -> dict:
    met = isinstance(value, float) and good(value)
    return {"measured": value, "met": "yes" if met else "no"}


def tables(folder: Path = FOLDER) -> dict[str, str]:
    """Markdown by name of a place, and of what has no place on a page but its own."""
    rows = contest_rows(folder)
    found = {name: contests.table(measure.load(name, folder)) for name in contests.CONTESTS}
    found |= {"versus": versus(rows)} | {name: measure.load(name, folder) for name in PLAIN}
    if folder == FOLDER:
        found["targets"] = targets(rows) if rows else []
    else:
        found = {"goals": goals(found["population"], found["step"])} | found
    found["quality"] = [ends(curve) for curve in measure.load("quality", folder)]
    return {name: measure.markdown(lines) if lines else EMPTY for name, lines in found.items()}


def device_page(folder: Path) -> str | None:
    """All tables and pictures of a device, or None where there is no table."""
    found = {name: table for name, table in tables(folder).items() if table != EMPTY}
    if not found:
        return None
    parts = [f"# Results: {folder.name}", "Written by `python -m benchmarks --tables`."]
    parts += [f"## {name}\n\n{table}" for name, table in found.items()]
    parts += [f"![{path.stem}]({path.name})" for path in sorted(folder.glob("*.png"))]
    return "\n\n".join(parts) + "\n"


def ends(curve: dict) -> dict:
    """Where a loss curve began and ended."""
    losses = curve["validation loss"]
    return {
        "optimizer": curve["optimizer"],
        "evaluations": curve["evaluations"][-1],
        "seconds": curve["seconds"][-1],
        "loss before": losses[0],
        "loss after": losses[-1],
    }


def fill(text: str, parts: dict[str, str]) -> str:
    """The text with its places written anew; a name that is not known is an error."""

    def place(match):
        return f"{match[1]}\n\n{parts[match[2]]}\n\n<!-- end -->"

    return re.sub(r"(<!-- begin (\w+) -->).*?<!-- end -->", place, text, flags=re.DOTALL)


def check() -> None:
    """Ends with the reason where results cannot be written or read: before anything is measured."""
    measure.ready(measure.RESULTS)
    for folder in _folders():
        tables(folder)


def _folders() -> list[Path]:
    return sorted(path for path in measure.RESULTS.iterdir() if path.is_dir())


def write() -> None:
    """Every picture for which there is a result, then every page."""
    for folder in _folders():
        draw(folder)
        text = device_page(folder) if folder != FOLDER else None
        if text:
            (folder / "README.md").write_text(text)
    parts = tables()
    for path in PAGES:
        path.write_text(fill(path.read_text(), parts))


# --- pictures -----------------------------------------------------------------------------------------


def draw(folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")  # draw without a display
    from matplotlib import pyplot as plt

    rows = [r for r in versus(contest_rows(folder)) if isinstance(r["peer / zojax, time"], float)]
    if rows:
        figure, ax = plt.subplots(figsize=(8, 0.35 * len(rows) + 1), layout="constrained")
        ratios = [row["peer / zojax, time"] for row in rows]
        ax.barh([r["work"] for r in rows], ratios, color=["C0" if x >= 1 else "C3" for x in ratios])
        for i, row in enumerate(rows):
            ax.annotate(f" {row['fastest peer']}", (ratios[i], i), va="center", fontsize=8)
        ax.axvline(1, color="0.3", linewidth=0.8)
        ax.set_ylim(len(rows) - 0.5, -0.5)  # the first row at the top
        ax.margins(x=0.22)  # room for the peers' names
        _finish(
            figure, [ax], folder / "peers.png", xlabel="time of the fastest peer / time of zojax"
        )
    curves = measure.load("quality", folder)
    if curves:
        figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
        figure.suptitle("SmolLM2-135M on movie reviews", fontsize=11)
        for ax, against in zip(axes, ("evaluations", "seconds"), strict=True):
            for row in curves:
                name = row["optimizer"]
                # By evaluations, checkpointing changes nothing: dots let the other curve be seen.
                style = ":" if "checkpointed" in name else "--" if "jax.grad" in name else "-"
                ax.plot(row[against], row["validation loss"], style, label=name, linewidth=2)
            ax.set(xlabel=against)
        axes[0].set(ylabel="validation loss")
        handles = axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        _finish(figure, axes, folder / "quality.png")
    plt.close("all")


def _finish(figure, axes, path: Path, **labels) -> None:
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.set(**labels)
    figure.savefig(path, dpi=110)
