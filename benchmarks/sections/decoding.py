"""Drafts of several tokens a forward pass beside decoding token by token."""

from benchmarks.sections.section import NAMED, Section, entry
from benchmarks.summary import clear
from benchmarks.tables import filled, quartiles

PLAIN, LOOKUP, TEXT, SHORT = "plain decoding", "lookup 8", "text 12, 3", "text 4, 2"
ITSELF = [PLAIN, LOOKUP, "pool", "lookahead", "first 10 layers", "Ouroboros, first 10 layers"]
MUS = 1e-3, 5e-3


def _decoding(names, mu, batch, batches, members=0, tiny=False):
    what = f"{members} members" if members else "a member" if mu else "the model itself"
    label = f"{what}, mu {mu:g}, batch {batch}" if mu else f"{what}, batch {batch}"
    settings = {"names": names, "mu": mu, "batch": batch, "members": members}
    settings |= {"tiny": tiny, "new": 12 if tiny else 64}
    return entry(label, "decoding", settings, 1, ["drafts"], turns=batches)


def decoding(rows: list[dict]) -> list[dict]:
    """A line for each draft: counts, and times over plain decoding."""
    lines = []
    for row in rows:
        for one in row.get("drafts", [{"draft": row.get("failed")}]):
            line = {"work": row["work"]} | one
            for name in ("time", "processor time"):
                ratio = line.pop(name, None)
                line |= {f"{name} / plain": clear(ratio), f"{name}, quartiles": quartiles(ratio)}
            lines.append(line)
    return filled(lines)


SECTIONS = {
    "decoding": Section(
        "drafts beside decoding token by token: SmolLM2 on reasoning-gym",
        NAMED,
        decoding,
        [
            *(_decoding([PLAIN, TEXT], mu, 16, 32) for mu in MUS),
            _decoding(ITSELF, 0.0, 3, 8),
            *(_decoding([PLAIN, LOOKUP, TEXT, SHORT], mu, 1, 12) for mu in MUS),
            *(_decoding([PLAIN, LOOKUP, TEXT, SHORT], mu, 4, 12) for mu in MUS),
            *(
                _decoding([PLAIN, TEXT, SHORT, "text 3, 0"], mu, 1, 6, members)
                for members in (8, 64)
                for mu in MUS
            ),
        ],
        [_decoding([PLAIN, TEXT], mu, 2, 2, tiny=True) for mu in MUS],
    ),
}
