"""How time and memory grow, and how many directions to evaluate at once."""

from benchmarks.contestants import BATCHES, CONTESTANTS
from benchmarks.harness import Entry
from benchmarks.sections import steps
from benchmarks.sections.section import CPU, Section, entry, power
from benchmarks.store import rounded
from benchmarks.summary import clear, exponent
from benchmarks.tables import by_work, quartiles

BASE = dict(batch=2, length=32, layers=4, width=256, hidden=1024, vocabulary=1024, heads=4)
GROWS = {
    "d": [10**5, 10**6, 10**7, 10**8],
    "width": [128, 256, 512, 1024],
    "q": [1, 4, 16, 64],
    "batch": [2, 8, 32, 128],
    "layers": [2, 4, 8, 16],
}
STEPS = ["zojax, signs", "naive lax.map", "jax.grad"]


def grown(grows: str, size: int, base=BASE) -> Entry:
    """The base work with one quantity of another size; the hidden layer grows with the width."""
    if grows == "d":
        return entry(f"d = {power(size)}", "sphere", {"d": size}, 2, STEPS)
    label, settings = f"{grows} = {size}", dict(base)
    if grows == "q":  # jax.grad has no directions
        return entry(label, "transformer", settings, 2 * size, STEPS[:2])
    settings |= {"hidden": 4 * size} if grows == "width" else {}
    return entry(label, "transformer", settings | {grows: size}, 2, STEPS)


def _sphere_batches(d: int, sizes) -> Entry:
    names = ["signs, default at once", *(f"signs, {size} at once" for size in sizes)]
    return entry(f"sphere, d = {power(d)}", "sphere", {"d": d}, 64, names, names)


def _population_batches(one: Entry) -> Entry:
    pairs = one.evaluations // 2
    sizes = {n: BATCHES[n].settings["batch_size"] or pairs for n in BATCHES if "low rank" in n}
    names = [name for name, size in sizes.items() if 8 <= size <= pairs]
    return one._replace(contestants=names, bases=names)


def _populations() -> list[Entry]:
    sections = (steps.SECTIONS[name] for name in ("mlp", "transformers", "convnet"))
    return [e for section in sections for e in section.entries if e.evaluations <= 512]


def scaling(rows: list[dict]) -> list[dict]:
    """Exponents b of a size^b; memory beyond the parameters, which every step holds and overwrites."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        if "seconds" in row:
            groups.setdefault((row["work"].split(" = ")[0], row["contestant"]), []).append(row)
    lines = []
    for (grows, name), here in groups.items():
        sizes = [_size(row["work"]) for row in here]
        ms = [1e3 * row["seconds"]["median"] for row in here]
        held = [(row["peak"] - row["parameters"]) / 1e6 for row in here]
        lines.append(
            {
                "grows": grows,
                "sizes": ", ".join(row["work"].split(" = ")[1] for row in here),
                "step": name,
                "ms": _listed(ms),
                "exponent of time": exponent(sizes, ms),
                "MB beyond the parameters": _listed(held),
                "exponent of memory": exponent(sizes, held),
            }
        )
    return lines


def _size(work: str) -> float:
    text = work.split(" = ")[1]
    return 10.0 ** int(text[3:]) if text.startswith("10^") else float(text)


def _listed(values: list[float]) -> str:
    return ", ".join(rounded(float(v), 2) for v in values)


def batches(rows: list[dict]) -> list[dict]:
    """Milliseconds of each number of directions at once, and the default over the best."""
    lines = []
    for work, here in by_work(rows).items():
        ms = {
            CONTESTANTS[n].settings["batch_size"] or "default": 1e3 * r["seconds"]["median"]
            for n, r in here.items()
            if "seconds" in r
        }
        if "default" not in ms:
            continue
        best = min(ms, key=ms.get)
        default = next(row for name, row in here.items() if "default" in name)
        winner = next(n for n in here if n.split(", ")[1].split()[0] == str(best))
        line = {"work": work, "directions": default["evaluations"] // 2}
        line |= {f"{size}, ms": ms.get(size, "") for size in (1, 2, 4, 8, 16, 32, 64, 128, 256)}
        line |= {"default, ms": ms["default"], "best": best}
        line["default / best"] = clear(default["over"].get(winner))
        lines.append(line | {"quartiles": quartiles(default["over"].get(winner))})
    return lines


SECTIONS = {
    "scaling": Section(
        "exponents of time and memory",
        CPU,
        scaling,
        [grown(grows, size) for grows, sizes in GROWS.items() for size in sizes],
        [grown("q", size, BASE | {"layers": 1, "width": 32}) for size in (1, 2)],
    ),
    "batches": Section(
        "how many directions at once",
        CPU,
        batches,
        [
            _sphere_batches(d, [s for s in (1, 2, 4, 8, 16, 32) if s * d <= 2 * 10**8])
            for d in (10**2, 10**3, 10**4, 10**5, 10**6, 10**7)
        ]
        + [_population_batches(one) for one in _populations()],
        [_sphere_batches(100, (1, 32))],
    ),
}
