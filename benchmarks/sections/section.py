"""A section: works, contestants, and a table of their rows."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.harness import Entry

CPU, GPU, NAMED = ("cpu",), ("gpu",), ()
entry = Entry  # one work of a section


class Section(NamedTuple):
    about: str  # one line
    devices: tuple[str, ...]  # where it runs without being named; by name it runs anywhere
    table: Callable[[list[dict]], list[dict]]  # rows for a reader, from the stored rows
    entries: list[Entry]  # its works
    quick: list[Entry]  # works of a trial run; those of all sections take about a minute


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"


def power(d: int) -> str:
    """A power of ten.

    >>> power(1000)
    '10^3'
    """
    return f"10^{len(str(d)) - 1}"
