"""Tables and numbers of the examples as text."""

import math
from collections.abc import Iterable, Sequence


def table(widths: Sequence[int], rows: Iterable[Sequence[object]]) -> str:
    """Rows of cells in columns of these widths; a negative width aligns to the left.

    >>> print(table((-6, 4), [("name", "k"), ("poss", 12)]))
    name     k
    poss    12
    """
    formats = [f"<{-width}" if width < 0 else f">{width}" for width in widths]
    lines = ((f"{c!s:{f}}" for c, f in zip(row, formats, strict=True)) for row in rows)
    return "\n".join("".join(line).rstrip() for line in lines)


def of_bytes(count: float) -> str:
    """A number of bytes with its unit.

    >>> of_bytes(39000), of_bytes(2.5 * 2**30)
    ('38.1 KiB', '2.5 GiB')
    """
    power = max(1, min(4, int(math.log2(max(1, count)) // 10)))
    return f"{count / 2 ** (10 * power):.1f} {'KMGT'[power - 1]}iB"


def of_seconds(seconds: float) -> str:
    """A time with its unit.

    >>> of_seconds(0.000923), of_seconds(2.5)
    ('0.92 ms', '2.5 s')
    """
    return f"{1e3 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"
