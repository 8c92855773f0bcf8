"""A section: works, contestants, and a table of their rows."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks.harness import Entry

CPU, GPU, NAMED = ("cpu",), ("gpu",), ()


class Section(NamedTuple):
    """Attributes:
    about: one line.
    devices: where it runs without being named; by name it runs anywhere.
    table: rows for a reader, from the stored rows.
    entries: its works.
    quick: works of a trial run; those of all sections take about a minute.
    """

    about: str
    devices: tuple[str, ...]
    table: Callable[[list[dict]], list[dict]]
    entries: list[Entry]
    quick: list[Entry]


def entry(
    label: str,
    name: str,
    settings: dict,
    evaluations: int,
    contestants: Iterable[str],
    bases: Iterable[str] = (),
    **options,
) -> Entry:
    """An entry from the parts of its work; options are `turns` and `together`."""
    work = {"name": name, "settings": settings, "evaluations": evaluations}
    return Entry(label, work, list(contestants), tuple(bases), **options)


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"


def power(d: int) -> str:
    """A power of ten.

    >>> power(1000)
    '10^3'
    """
    return f"10^{len(str(d)) - 1}"
