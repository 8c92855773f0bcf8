"""The pictures of the benchmark pages."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from zojax.examples._plots import make_figure

OURS = {"zojax default": "C4", "zojax sracos": "C1"}
PALETTE = ["C0", "C2", "C3", "C5", "C6", "C7", "C8", "C9"]


def draw(folder: Path, sections: dict[str, list[dict]]) -> None:
    """Draws the pictures of all sections that have results."""
    for name, (section, fact, picture) in PICTURES.items():
        if rows := [row for row in sections.get(section, ()) if fact in row]:
            picture(rows).savefig(folder / f"{name}.png")


def peers(rows: list[dict]):
    """Bars: the time of the fastest peer over that of zojax."""
    figure = make_figure(8, 0.35 * len(rows) + 1)
    ax = figure.subplots()
    ratios = [row["time, peer / zojax"] for row in rows]
    ax.barh([r["work"] for r in rows], ratios, color=["C0" if x >= 1 else "C4" for x in ratios])
    for i, row in enumerate(rows):
        text = f" {ratios[i]:.1f}  {row['fastest peer']}"
        ax.annotate(text, (ratios[i], i), va="center", fontsize=8)
    ax.axvline(1, color="0.3", linewidth=0.8)
    ax.set_ylim(len(rows) - 0.5, -0.5)  # the first row at the top
    ax.margins(x=0.26)  # room for the names of the peers
    ax.set(xlabel="time of the fastest peer / time of zojax")
    return figure


def losses(quality: list[dict]):
    """Validation loss against evaluations and against seconds."""
    figure = make_figure(9, 4.2)
    axes = figure.subplots(1, 2, sharey=True)
    figure.suptitle("SmolLM2-135M on movie reviews", fontsize=11)
    labels = {"evaluations": "evaluations", "clock": "seconds"}
    for ax, (key, label) in zip(axes, labels.items(), strict=True):
        for row in quality:
            name = row["contestant"].removeprefix("train ")
            # Checkpointing changes nothing by evaluations: dots let the other curve be seen.
            style = ":" if "checkpointed" in name else "--" if "jax.grad" in name else "-"
            ax.plot(row[key], row["validation loss"], style, label=name, linewidth=2)
        ax.set(xlabel=label)
    axes[0].set(ylabel="validation loss (nats)")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4)
    return figure


def _look(method: str, others: list[str]) -> dict:
    if method in OURS:
        return {"color": OURS[method], "linewidth": 2.2, "label": method}
    again, color = divmod(others.index(method), len(PALETTE))
    style = ("-", "--", ":")[again % 3]
    return {"color": PALETTE[color], "linestyle": style, "linewidth": 1, "label": method}


def _others(rows: list[dict]) -> list[str]:
    return sorted({row["contestant"] for row in rows} - set(OURS))


def curves(search: list[dict]):
    """Mean best value so far; one panel for each problem without noise."""
    rows = [r for r in search if "noise" not in r["work"]]
    rows = [r for r in rows if "zojax" not in r["contestant"] or r["contestant"] in OURS]
    names, others = list(dict.fromkeys(row["work"] for row in rows)), _others(rows)
    height = -(-len(names) // 4)
    figure = make_figure(16, 3 * height)
    axes = figure.subplots(height, 4, squeeze=False)
    for ax, name in zip(axes.ravel(), names, strict=False):
        for row in rows:
            if row["work"] == name:
                curve = np.maximum(row["curve"], 1e-10)
                ax.loglog(row["at"], curve, **_look(row["contestant"], others))
        ax.set_title(name)
    for ax in axes[:, 0]:
        ax.set_ylabel("best value so far")
    figure.align_ylabels(axes[:, 0])
    for ax in axes.ravel()[: len(names)][-4:]:  # the lowest panel of each column
        ax.set_xlabel("evaluations")
    free = axes.ravel()[len(names) :]
    for ax in free:
        ax.set_axis_off()
    _legend(figure, axes, free[0] if len(free) else None)
    return figure


def ecdf(rows: list[dict]):
    """The share of (function, target) pairs reached; one panel for each dimension."""
    works, others = list(dict.fromkeys(row["work"] for row in rows)), _others(rows)
    figure = make_figure(4 * len(works), 3)
    axes = figure.subplots(1, len(works), squeeze=False)
    for ax, work in zip(axes[0], works, strict=True):
        for row in rows:
            if row["work"] == work:
                ax.semilogx(row["at"], row["share"], **_look(row["contestant"], others))
        ax.set(title=work, xlabel="evaluations / d", ylabel="share of targets reached")
    _legend(figure, axes)
    return figure


def _legend(figure, axes, free=None) -> None:
    """One legend for all panels: in a free panel, else below."""
    found = {}
    for ax in axes.ravel():
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    given = found.values(), found.keys()
    if free is None:
        figure.legend(*given, loc="outside lower center", ncols=5)
    else:
        free.legend(*given, loc="upper left", ncols=3).set_in_layout(False)


def efficiency(rows: list[dict]):
    """The share of a step spent evaluating against the number of devices."""
    from benchmarks.contestants.scaling import DEVICES, GROUPS, MACHINES, counted, shares

    figure = make_figure(9, 3.2 * len(rows))
    axes = figure.subplots(len(rows), len(MACHINES), sharex=True, sharey=True, squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        found = counted(row)
        for (name, machine), ax in zip(MACHINES.items(), line, strict=True):
            group = GROUPS[row["work"], name]
            for color, (way, share) in enumerate(shares(found, machine, group).items()):
                ax.plot(
                    list(share), [100 * x for x in share.values()], color=f"C{color}", label=way
                )
            ax.set_title(f"{row['work']} on {name}, {group} a group", fontsize=10)
            ax.set_xscale("log", base=2)
    for ax in axes[-1]:
        ax.set(xlabel="devices", xticks=DEVICES[::3], xticklabels=[f"{n:,}" for n in DEVICES[::3]])
    for ax in axes[:, 0]:
        ax.set(ylabel="evaluating, % of a step", ylim=(0, 103))
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4)
    return figure


def race(rows: list[dict]):
    """Test losses of all methods on each work, mean and standard deviation; best mean rank on top."""
    rows = [row for row in rows if np.isfinite(np.mean(row["test"]))]
    works = list(dict.fromkeys(row["loss"] for row in rows))
    ranks: dict[str, list[float]] = {}
    for work in works:
        here = sorted((np.mean(row["test"]), row["method"]) for row in rows if row["loss"] == work)
        for rank, (_, method) in enumerate(here):
            ranks.setdefault(method, []).append(rank / len(here))
    order = sorted(ranks, key=lambda method: np.mean(ranks[method]))
    figure = make_figure(11, 0.22 * len(order) + 1)
    axes = figure.subplots(1, len(works), sharey=True)
    for work, ax in zip(works, np.atleast_1d(axes), strict=True):
        for row in (row for row in rows if row["loss"] == work):
            look = {"color": "C4" if "backprop" in row["method"] else "C0", "marker": "o", "ms": 4}
            place = order.index(row["method"])
            ax.errorbar(np.mean(row["test"]), place, xerr=np.std(row["test"], ddof=1), **look)
        ax.set_title(work, fontsize=10)
        ax.set(xlabel="test loss")
    first = np.atleast_1d(axes)[0]
    first.set(yticks=range(len(order)), yticklabels=order, ylim=(len(order) - 0.5, -0.5))
    first.tick_params(axis="y", labelsize=7)
    return figure


def solved(rows: list[dict]):
    """Held-out questions solved against steps; a panel for each task, a line for each seed."""
    tasks = list(dict.fromkeys(row["work"].split(",")[0] for row in rows))
    methods = list(dict.fromkeys(row["contestant"] for row in rows))
    figure = make_figure(9, 4)
    axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)
    for task, ax in zip(tasks, axes[0], strict=True):
        for row in (row for row in rows if row["work"].startswith(f"{task},")):
            found, method = row["held_out"], row["contestant"]
            share, color = [100 * one["solved"] for one in found], f"C{methods.index(method)}"
            if len(found) == 1:
                ax.axhline(share[0], color=color, linestyle="--", label=method)
            else:
                steps = [one["step"] for one in found]
                ax.plot(steps, share, color=color, marker="o", ms=4, label=method)
        ax.locator_params(axis="x", integer=True)
        ax.set(title=task, xlabel="steps")
    axes[0, 0].set(ylabel="held-out questions solved, %")
    _legend(figure, axes)
    return figure


PICTURES: dict[str, tuple[str, str, Callable]] = {  # section, a fact of its rows, figure
    "peers": ("versus", "work", peers),
    "quality": ("quality", "clock", losses),
    "search_curves": ("search", "curve", curves),
    "search_ecdf": ("bbob", "share", ecdf),
    "many_devices": ("many-devices", "parameters", efficiency),
    "methods": ("methods", "test", race),
    "rewards": ("rewards", "held_out", solved),
}
