"""Pictures of `results/cpu/search.json`: best so far against evaluations, and the ECDF of BBOB targets."""

from pathlib import Path

import numpy as np

OURS = {"zojax default": "C3", "zojax sracos": "C1"}


def _axes(rows: int, columns: int):
    import matplotlib

    matplotlib.use("Agg")  # draw without a display
    from matplotlib import pyplot as plt

    size = (4 * columns, 3 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for ax in axes.ravel():
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _style(method: str, others: list[str]) -> dict:
    if method in OURS:
        return {"color": OURS[method], "linewidth": 2.2, "label": method}
    palette = ["C0", "C2", "C4", "C5", "C6", "C7", "C8", "C9"]
    again, color = divmod(others.index(method), len(palette))
    style = ("-", "--", ":")[again % 3]
    return {"color": palette[color], "linestyle": style, "linewidth": 1, "label": method}


def curves(rows: list[dict], path: Path) -> None:
    """Mean best so far; one panel a problem without noise."""
    rows = [r for r in rows if "curve" in r and "noise" not in r["problem"]]
    rows = [r for r in rows if "zojax" not in r["method"] or r["method"] in OURS]
    names = list(dict.fromkeys(row["problem"] for row in rows))
    others = sorted({row["method"] for row in rows} - set(OURS))
    figure, axes = _axes(-(-len(names) // 4), 4)
    for ax, name in zip(axes.ravel(), names, strict=False):
        for row in rows:
            if row["problem"] == name:
                ax.loglog(
                    row["at"], np.maximum(row["curve"], 1e-10), **_style(row["method"], others)
                )
        ax.set_title(name, fontsize=9)
    for ax in axes[:, 0]:
        ax.set_ylabel("best value so far")
    figure.align_ylabels(axes[:, 0])
    for ax in axes.ravel()[: len(names)][-4:]:  # the lowest panel of each column
        ax.set_xlabel("evaluations")
    free = axes.ravel()[len(names) :]
    for ax in free:
        ax.set_axis_off()
    _legend(figure, axes, free[0] if len(free) else None)
    figure.savefig(path, dpi=110)


def ecdf(rows: list[dict], path: Path) -> None:
    """The share of (function, target) pairs solved; one panel a dimension."""
    dims = sorted({row["d"] for row in rows})
    others = sorted({row["method"] for row in rows} - set(OURS))
    figure, axes = _axes(1, len(dims))
    for ax, dim in zip(axes[0], dims, strict=True):
        for row in rows:
            if row["d"] == dim:
                ax.semilogx(row["at"], row["share"], **_style(row["method"], others))
        ax.set(title=f"BBOB, d = {dim}", xlabel="evaluations / d", ylabel="targets solved")
    _legend(figure, axes)
    figure.savefig(path, dpi=110)


def _legend(figure, axes, free=None) -> None:
    """One legend for all panels: from a panel that is free to the right, else below."""
    found = {}
    for ax in axes.ravel():
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    given = found.values(), found.keys()
    if free is None:
        figure.legend(*given, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    else:
        free.legend(*given, loc="upper left", ncols=3, frameon=False).set_in_layout(False)


def draw(results: dict, folder: Path) -> None:
    """What is there of the two pictures."""
    if "quality" in results:
        curves(results["quality"], folder / "search_curves.png")
    if "bbob" in results:
        ecdf(results["bbob"], folder / "search_ecdf.png")
