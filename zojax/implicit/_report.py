"""The report of `explain`: a table, and a picture."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zojax._plot import new_axes

_UNITS = ("B", "KiB", "MiB", "GiB")
_USES = {
    "slice": "part in use by",
    "held": "HELD over a loop for",
    "activation": "looked up or broadcast for",
    "elementwise": "vector for",
    "missing": "NO RULE for",
}


class Event(NamedTuple):
    """One use of a parameter, or of a part of it.

    Attributes:
      kind: one of

        - "kept": a view or a product keeps the noise implicit;
        - "slice": dense noise is added to the part in use;
        - "held": the same before a loop, which keeps the result;
        - "activation": noise is added to the entries picked by a lookup;
        - "elementwise": the part is a vector, or broadcast against a larger array;
        - "missing": the part is materialised for want of a rule, although its noise has structure or the
          part is only moved.

      primitive: the operation that uses it.
      where: the line of source, or "".
      shape: of the part.
      nbytes: of the part.
      remedy: an argument or a rule that saves these bytes, or "".
    """

    kind: str
    primitive: str
    where: str
    shape: tuple[int, ...]
    nbytes: int
    remedy: str


@dataclass
class Leaf:
    """One perturbed parameter and its uses, each listed once."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    noise: str
    events: list[Event] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of the largest materialised part, activations aside."""
        return max((e.nbytes for e in self.materialised), default=0)

    @property
    def materialised(self) -> list[Event]:
        """The uses that materialise a part, activations aside."""
        return [e for e in self.events if e.kind not in ("kept", "activation")]


@dataclass
class Report:
    """The findings of `explain`; print it for a table.

    Attributes:
      leaves: a `Leaf` for each perturbed parameter, by name.
      parameters: bytes of all parameters.
      together: bytes of the perturbed parts that may be in memory together. An evaluation with dense noise
        needs at most a forward and these.
      held: the part of `together` that loops hold.
      factors: bytes of the factors of low-rank noise, which an evaluation needs as well.
    """

    leaves: dict[str, Leaf]
    parameters: int
    together: int
    held: int
    factors: int

    @property
    def missing(self) -> list[tuple[str, Event]]:
        """(leaf name, event) for each use of kind "missing"."""
        found = [(leaf.name, e) for leaf in self.leaves.values() for e in leaf.events]
        return [(name, e) for name, e in found if e.kind == "missing"]

    @property
    def largest_slice(self) -> int:
        """Bytes of the largest part of a parameter, materialised at once."""
        return max((leaf.nbytes for leaf in self.leaves.values()), default=0)

    @property
    def forwards(self) -> float:
        """At most the memory of an evaluation over that of a forward, which has all parameters.

        Low-rank noise also needs its `factors`, and a product a second output, an activation.
        """
        return 1 + self.together / max(self.parameters, 1)

    def plot(self, ax: Any = None) -> Any:
        """Draws the table's largest parts as bars on `ax`, or on new axes, and returns the axes.

        Needs matplotlib.
        """
        return _bars(new_axes(ax, (6.4, 3.6)), self)

    def __str__(self) -> str:
        rows = [row for leaf in self.leaves.values() for row in _rows(leaf)]
        rows.sort(key=lambda row: -row[0])
        header = ("bytes", "parameter", "noise", "part", "use", "where", "remedy")
        table = [header, *((_size(n) if n else "-", *cells) for n, *cells in rows)]
        return "\n".join([*_aligned(table), "", _summary(self)])


def _rows(leaf: Leaf) -> list[tuple]:
    """(bytes, *cells) for each use, and one row for all that keep the noise. A lookup's bytes depend on the
    batch, and are left out."""

    def row(use: str, nbytes: int = 0, part: str = _part(leaf.dtype, leaf.shape), *cells: str):
        return nbytes, leaf.name, leaf.noise, part, use, *cells

    rows = []
    for e in leaf.events:
        use = f"{_USES.get(e.kind)} {e.primitive}"
        if e.kind == "activation":
            rows.append(row(use, 0, "activations", _line(e)))
        elif e.kind != "kept":
            rows.append(row(use, e.nbytes, _part(leaf.dtype, e.shape), _line(e), e.remedy))
    kept = ", ".join(dict.fromkeys(e.primitive for e in leaf.events if e.kind == "kept"))
    if kept or not rows:
        rows.append(row(f"kept through {kept}" if kept else "unused"))
    return list(dict.fromkeys(rows))


def _line(event: Event) -> str:
    """The line without the name of its function, from the current folder if it is there."""
    return event.where.split(" (")[0].removeprefix(os.getcwd() + os.sep)


def _part(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with the columns of a table, two spaces apart."""
    columns = range(max(map(len, table)))
    widths = [max(len(row[i]) for row in table if len(row) > i) for i in columns]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in table
    ]


def _summary(report: Report) -> str:
    together = f"perturbed parts in memory together: at most {_size(report.together)}"
    if report.held:
        together += f", of which loops hold {_size(report.held)}"
    total = f"parameters: {_size(report.parameters)}; an evaluation needs at most "
    total += f"{report.forwards:.2f} forwards"
    if report.factors:
        total += f", {_size(report.factors)} of factors and a second output of a low-rank product"
    lines = [together, total]
    if report.missing:
        names = ", ".join(dict.fromkeys(name for name, _ in report.missing))
        lines.append(f"no rule for some uses of {names}")
    return "\n".join(lines)


_MOST_BARS = 12


class _Bar(NamedTuple):
    name: str
    label: str
    nbytes: int
    text: str


def _bars(ax: Any, report: Report) -> Any:
    """All parts in memory together, and the largest part of each parameter."""
    bars = sorted((_bar(x) for x in report.leaves.values() if x.nbytes), key=lambda b: -b.nbytes)
    together = f"{_size(report.together)}, {report.forwards:.2f} forwards"
    bars = [_Bar("together", "at most", report.together, together), *bars[:_MOST_BARS]]
    power = _power(max(bar.nbytes for bar in bars))
    sizes = [bar.nbytes / 1024**power for bar in bars]
    for color, label in enumerate(["at most", *map(_label, _USES)]):
        places = [i for i, bar in enumerate(bars) if bar.label == label]
        if places:
            ax.barh(places, [sizes[i] for i in places], color=f"C{color}", label=label)
    for i, (bar, size) in enumerate(zip(bars, sizes, strict=True)):
        ax.annotate(bar.text, (size, i), (3, 0), textcoords="offset points", va="center")
    ax.set(yticks=range(len(bars)), yticklabels=[bar.name for bar in bars], xlabel=_UNITS[power])
    ax.invert_yaxis()
    ax.margins(x=0.3)  # for the texts
    ax.grid(axis="y", visible=False)
    ax.legend(frameon=False, loc="lower right")
    return ax


def _bar(leaf: Leaf) -> _Bar:
    event = max(leaf.materialised, key=lambda e: (e.nbytes, e.kind == "missing"))
    name = leaf.name.removeprefix("params") or leaf.name
    return _Bar(name, _label(event.kind), event.nbytes, f"{_size(event.nbytes)}, {event.primitive}")


def _label(kind: str) -> str:
    """A use, without its preposition."""
    return _USES[kind].rsplit(" ", 1)[0]


def _power(nbytes: int) -> int:
    """The unit of a number, as an index of `_UNITS`."""
    return min(int(math.log(max(nbytes, 1), 1024)), len(_UNITS) - 1)


def _size(nbytes: int) -> str:
    power = _power(nbytes)
    return f"{nbytes / 1024**power:.4g} {_UNITS[power]}"
