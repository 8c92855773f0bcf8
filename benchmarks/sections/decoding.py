"""Drafts of several tokens a forward pass beside decoding token by token."""

from benchmarks.sections.section import NAMED, Section, entry
from benchmarks.summary import clear
from benchmarks.tables import filled, quartiles

PLAIN, LOOKUP, BOTH = "plain decoding", "prompt lookup", "unperturbed text, prompt lookup"
ITSELF = [PLAIN, LOOKUP, "phrase pool", "lookahead"]
ITSELF += ["first 10 layers", "Ouroboros, first 10 layers"]
MEMBER = [PLAIN, LOOKUP, "unperturbed text", BOTH, f"{BOTH}, pool"]
MUS = 1e-3, 5e-3


def _decoding(label, names, mus, batch, batches, members=0, tiny=False):
    settings = {"names": names, "mus": mus, "batch": batch, "members": members}
    settings |= {"tiny": tiny, "new": 12 if tiny else 64}
    return entry(label, "decoding", settings, 1, ["drafts"], turns=batches)


def decoding(rows: list[dict]) -> list[dict]:
    """A line for each draft: counts, and times over plain decoding."""
    lines = []
    for row in rows:
        for one in row.get("drafts", [{"draft": row.get("failed")}]):
            of = f", mu {one['mu']:g}" if one.get("mu") else ""
            line = {"work": row["work"] + of} | {k: v for k, v in one.items() if k != "mu"}
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
            _decoding("members, batch 16", [PLAIN, BOTH], MUS, 16, 32),
            _decoding("members, batch 3", MEMBER, MUS, 3, 8),
            _decoding("the model itself, batch 3", ITSELF, (0.0,), 3, 8),
            *(_decoding(f"members, batch {n}", [PLAIN, LOOKUP, BOTH], MUS, n, 12) for n in (1, 4)),
            *(
                _decoding(f"{n} members, batch 1", [PLAIN, BOTH], MUS, 1, 6, members=n)
                for n in (8, 64)
            ),
        ],
        [_decoding("members, batch 2", [PLAIN, BOTH], MUS, 2, 2, tiny=True)],
    ),
}
