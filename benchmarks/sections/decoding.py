"""Drafts of several tokens a forward pass beside decoding token by token."""

from benchmarks.contestants import DECODINGS
from benchmarks.sections.section import NAMED, Section, entry
from benchmarks.summary import clear
from benchmarks.tables import by_work, filled, quartiles

PLAIN = "plain decoding"
OF_TEXT = [name for name in DECODINGS if "unperturbed" in name]
FACTS = "tokens a forward", "positions a token", "texts that differ"


def _decoding(batch: int, mu: float = 0.0, tiny: bool = False, names=None, **options):
    what = f"member, mu {mu:g}" if mu else "the model itself"
    label = f"{what}, batch {batch}"
    settings = {"batch": batch, "new": 12 if tiny else 64, "mu": mu, "tiny": tiny}
    settings["size"] = 10 if mu == 1e-3 else 8  # members that agree more take longer drafts
    names = names or [name for name in DECODINGS if mu or name not in OF_TEXT]
    return entry(label, "decoding", settings, 1, names, [PLAIN], together=False, **options)


def decoding(rows: list[dict]) -> list[dict]:
    """Tokens a forward pass by row, positions computed for a token, and times over plain decoding."""
    lines = []
    for work, here in by_work(rows).items():
        for name, row in here.items():
            ratio = row.get("over", {}).get(PLAIN)
            line = {"work": work, "draft": name, **{fact: row.get(fact, "") for fact in FACTS}}
            line["ms"] = row.get("failed") or 1e3 * row["seconds"]["median"]
            lines.append(line | {"time / plain": clear(ratio), "quartiles": quartiles(ratio)})
    return filled(lines)


SECTIONS = {
    "decoding": Section(
        "drafts beside decoding token by token: SmolLM2 on reasoning-gym",
        NAMED,
        decoding,
        [_decoding(batch, mu) for mu in (0.0, 1e-3, 5e-3) for batch in (1, 4, 16)],
        [_decoding(2, 1e-3, tiny=True, names=[PLAIN, OF_TEXT[1]])],
    ),
}
