"""Models and layers of other packages, as they are."""

from benchmarks import zoo
from benchmarks.expressions import EXPRESSIONS
from benchmarks.sections.section import CPU, Section, entry
from benchmarks.summary import clear
from benchmarks.tables import over, quartiles

DIRECTIONS = 32


def _specimen(name: str, directions: int = DIRECTIONS):
    settings = {"model": name, "directions": directions}
    return entry(name, "zoo", settings, directions, ["a model of the zoo"], turns=1)


def table(rows: list[dict]) -> list[dict]:
    """Values, an evaluation with signs, a population of low-rank directions, and uses without a rule."""
    return [_line(row) for row in rows]


def _line(row: dict) -> dict:
    signs, low_rank = row.get("signs", {}), row.get("low rank", {})
    errors = [kind["error"] for kind in (signs, low_rank) if "error" in kind]
    peaks, of_many = signs.get("peaks", {}), low_rank.get("peaks", {})
    is_known = "forward" in peaks and "together" in signs
    missing = "; ".join(low_rank.get("no rule", []))
    failures = [kind["failed"] for kind in (row, signs, low_rank) if "failed" in kind]
    # A package that is missing explains its row.
    is_explained = row["work"] in zoo.WHY and "failed" not in row
    reason = [zoo.WHY[row["work"]]] if is_explained else []
    return {
        "model": row["work"],
        "layers": row.get("about", ""),
        "d": row.get("size", ""),
        "error": max(errors, default=""),
        "signs: peak / forward": over(peaks.get("zojax"), peaks.get("forward")),
        "signs: rule": 1.01 + signs["together"] / peaks["forward"] if is_known else "",
        "signs: peak / naive": over(peaks.get("zojax"), peaks.get("naive")),
        "signs: time / forward": clear(signs.get("time")),
        "low rank: peak / forwards": over(of_many.get("zojax"), of_many.get("forward")),
        "low rank: peak / naive": over(of_many.get("zojax"), of_many.get("naive")),
        "low rank: time / forwards": clear(low_rank.get("time")),
        "NO RULE, signs": "; ".join(signs.get("no rule", [])),
        "NO RULE, low rank": missing,
        "why": "; ".join([*failures, *reason]),
    }


def _expression(name: str):
    return entry(name, "expression", {"expression": name}, 1, ["zojax and its design"], turns=1)


def expressions(rows: list[dict]) -> list[dict]:
    """Temporaries, peak and processor time over those of the design."""
    lines = []
    for row in rows:
        ours, design = row.get("zojax", {}), row.get("design", {})
        seconds = ours.get("seconds", {}).get("median")
        lines.append(
            {
                "expression": row["work"],
                "ms": 1e3 * seconds if seconds else row.get("failed", ""),
                "temporaries, MB": ours["temporaries"] / 1e6 if ours else "",
                "temporaries / design": over(ours.get("temporaries"), design.get("temporaries")),
                "peak / design": over(ours.get("peak"), design.get("peak")),
                "time / design": clear(row.get("time")),
                "quartiles": quartiles(row.get("time")),
                "error": row.get("error", ""),
            }
        )
    return lines


SECTIONS = {
    "expressions": Section(
        "weights that a loss changes before their product, beside the right design",
        CPU,
        expressions,
        [_expression(name) for name in EXPRESSIONS],
        [_expression("x @ (w * column scales)")],
    ),
    "zoo": Section(
        "models and layers of flax, Equinox, Haiku, jraph, diffrax, numpyro and others",
        CPU,
        table,
        [_specimen(name) for name in zoo.NAMES],
        [_specimen("linen.mlp", 2)],
    ),
}
