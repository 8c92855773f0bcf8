"""Drafts of several tokens a forward pass beside decoding token by token."""

from benchmarks.sections.section import NAMED, Section, entry
from benchmarks.summary import clear
from benchmarks.tables import quartiles

PLAIN, LOOKUP, TEXT, AUTO = "plain decoding", "lookup 8", "text 12, 3", "auto text 8"
ITSELF = [PLAIN, LOOKUP, "pool", "lookahead", "first 10 layers", "Ouroboros, first 10 layers"]
MUS = 1e-3, 5e-3
PROMPTS = 48  # of a replayed work


def _decoding(names, mu, batch, batches, members=0, **more):
    """`sorted` prompts are batched by length, else as they come."""
    more = {"tiny": False, "replayed": False, "sorted": 0, **more}
    what = f"{members} members" if members else "a member" if mu else "the model itself"
    label = f"{what}, mu {mu:g}, batch {batch}" if mu else f"{what}, batch {batch}"
    label += f", {more['sorted']} prompts" * bool(more["sorted"]) + ", replayed" * more["replayed"]
    settings = {"names": names, "mu": mu, "batch": batch, "members": members} | more
    settings["new"] = 12 if more["tiny"] else 64
    return entry(label, "decoding", settings, 1, ["drafts"], turns=batches)


def _replayed(mu):
    """Counts of a member, and of populations."""
    names = [LOOKUP, TEXT, "text 3, 0", AUTO]
    for batch in (1, 4, 16):
        yield _decoding(names, mu, batch, PROMPTS // batch, replayed=True)
    for members in (8, 64):
        yield _decoding(names, mu, 1, 5, members, replayed=True)


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
    return lines


SECTIONS = {
    "decoding": Section(
        "drafts beside decoding token by token: SmolLM2 on reasoning-gym",
        NAMED,
        decoding,
        [
            *(_decoding([PLAIN, AUTO], mu, 64, 8, sorted=512) for mu in MUS),
            *(replayed for mu in MUS for replayed in _replayed(mu)),
            _decoding(ITSELF, 0.0, 3, 8),
            *(_decoding([PLAIN, LOOKUP, TEXT, AUTO], mu, b, 12) for b in (1, 4) for mu in MUS),
            *(_decoding([PLAIN, AUTO], mu, 1, 6, 8) for mu in MUS),
            *(_decoding([PLAIN, AUTO], mu, 1, 2, 64) for mu in MUS),
        ],
        [
            _decoding([PLAIN, TEXT], 1e-3, 2, 2, tiny=True, sorted=4),
            _decoding([PLAIN, TEXT], 5e-3, 2, 2, tiny=True),
            _decoding([PLAIN, TEXT], 1e-3, 2, 2, tiny=True, replayed=True),
        ],
    ),
}
