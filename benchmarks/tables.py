"""Tables for a reader, from stored rows: medians, clear ratios, and the reasons for empty cells."""

from collections.abc import Iterator

from benchmarks.contestants import CONTESTANTS
from benchmarks.store import rounded
from benchmarks.summary import LEAST, clear


def by_work(rows: list[dict]) -> dict[str, dict[str, dict]]:
    """Rows by work and contestant, in order."""
    found: dict[str, dict[str, dict]] = {}
    for row in rows:
        found.setdefault(row["work"], {})[row["contestant"]] = row
    return found


def bases_of(rows: dict[str, dict]) -> list[str]:
    """The contestants that the others of a work are compared with: floor, zojax, zojax with normals."""
    return next((row["bases"] for row in rows.values() if "bases" in row), [])


def beside(rows: list[dict], base: str) -> Iterator[tuple[str, str, dict, dict]]:
    """Each row after its work and contestant, and before the row of a base on this work."""
    for work, here in by_work(rows).items():
        for name, row in here.items():
            yield work, name, row, here.get(base, {})


def peak_of(row: dict, unit: float) -> float | str:
    """The peak by the compiler, or the reason for an empty cell."""
    return row["peak"] / unit if row.get("peak") else row.get("failed", "")


def contest(rows: list[dict]) -> list[dict]:
    """Every contestant of every work."""
    works = by_work(rows).values()
    return [_line(row, bases_of(here)) for here in works for row in here.values()]


def _line(row: dict, bases: list[str]) -> dict:
    ratios = row.get("over", {})
    line = {
        "work": row["work"],
        "contestant": row["contestant"],
        "evaluations": _evaluations(row),
        "ms": row.get("failed") or (1e3 * row["seconds"]["median"] if "seconds" in row else ""),
    }
    line |= {f"/ {base}": clear(ratios.get(base)) for base in bases[:2]}
    last = bases[:2][-1:]  # the base of the column before
    line["quartiles"] = quartiles(ratios.get(*last)) if last != [row["contestant"]] and last else ""
    line["compile, s"] = row.get("compile_seconds", "")
    for name, key in (("peak", "peak"), ("RSS", "rss"), ("device peak", "device_peak")):
        line[f"{name}, MB"] = row[key] / 1e6 if row.get(key) else ""
    return line


def quartiles(ratio: dict | None) -> str:
    """The interquartile range of a ratio, also of a noisy one."""
    if ratio is None or ratio["n"] is not None and ratio["n"] < LEAST:
        return ""
    return f"{rounded(ratio['low'])} to {rounded(ratio['high'])}"


def _evaluations(row: dict) -> int | str:
    """Of the loss; contestants that differentiate do something else."""
    count, contestant = row.get("evaluations", 1), CONTESTANTS.get(row["contestant"])
    if contestant is None or not contestant.exact:
        return count if count > 1 else ""
    if contestant.module != "forward_gradient":
        return "gradient"
    return f"{count // 2} jvp{'s' * (count > 2)}"


def versus(rows: list[dict]) -> list[dict]:
    """For each work the fastest peer that estimates from values, beside zojax in the same run."""
    lines = []
    for work, here in by_work(rows).items():
        mine, normal = [*bases_of(here)[1:], "", ""][:2]
        peers = [r for n, r in here.items() if is_peer(n) and mine in r.get("over", {})]
        if not peers:
            continue
        ours, peer = here[mine], min(peers, key=lambda row: row["seconds"]["median"])
        lines.append(
            {
                "work": work,
                "zojax, ms": 1e3 * ours["seconds"]["median"],
                "fastest peer": peer["contestant"],
                "peer, ms": 1e3 * peer["seconds"]["median"],
                "time, peer / zojax": clear(peer["over"][mine]),
                "with normals": clear(peer["over"].get(normal)),
                "peak, peer / zojax": over(peer.get("peak"), ours.get("peak")),
                "RSS, peer / zojax": over(peer.get("rss"), ours.get("rss")),
            }
        )
    return lines


def is_peer(name: str) -> bool:
    """Whether a contestant is of another library, or the naive code, and estimates from values."""
    contestant = CONTESTANTS.get(name)
    if contestant is None or contestant.exact:
        return False
    return contestant.module not in ("ours", "inference")


def over(a, b) -> float | str:
    """a / b, or an empty cell."""
    return a / b if a and b else ""


def rates(rows: list[dict]) -> list[dict]:
    """Work a second; a ratio above 1 is faster than the base."""
    lines = []
    for row in rows:
        base, ratio = next(iter(row.get("over", {}).items()), ("", None))
        speed = ratio and {
            "median": 1 / ratio["median"],
            "low": 1 / ratio["high"],
            "high": 1 / ratio["low"],
            "n": ratio["n"],
        }
        lines.append(
            {
                "work": row["work"],
                "contestant": row["contestant"],
                "per second": _rate(row),
                "speed over base": clear(speed),
                "quartiles": quartiles(speed),
                "base": base,
                "s a call": row["seconds"]["median"] if "seconds" in row else "",
            }
        )
    return lines


def _rate(row: dict) -> float | str:
    if "seconds" not in row or "rate" in row:
        return row.get("rate", row.get("failed", ""))
    return row["amount"] / row["seconds"]["median"]
