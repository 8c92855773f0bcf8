"""Writes the tables and pictures of the pages from results/ alone.

Between `<!-- begin NAME -->` and `<!-- end -->` a page has the table NAME of the CPU's results, or the
table `NAME-DEVICE`. Every other device gets a page beside its results.
"""

import re
from pathlib import Path

from benchmarks import pictures, store, tables
from benchmarks.sections import SECTIONS, steps

PAGES = tuple(store.ROOT / page for page in ("benchmarks/README.md", "docs/guides/scaling.md"))
EMPTY = "Not measured yet."


def contest_rows(folder: Path) -> list[dict]:
    """The rows of all contests with other libraries."""
    return [row for name in steps.SECTIONS for row in store.load(folder, name)]


def parts(folder: Path) -> dict[str, str]:
    """Markdown tables by the name of their place."""
    found = {name: s.table(store.load(folder, name)) for name, s in SECTIONS.items()}
    text = {name: store.markdown(lines) if lines else EMPTY for name, lines in found.items()}
    headline = tables.versus(contest_rows(folder))
    return {"versus": store.markdown(headline, digits=2) if headline else EMPTY} | text


def all_parts(results: Path) -> dict[str, str]:
    """The parts of the CPU, and those of all devices with their names."""
    others = {
        f"{name}-{folder.name}": table
        for folder in folders(results)
        for name, table in parts(folder).items()
    }
    return parts(results / "cpu") | others


def device_page(folder: Path) -> str | None:
    """All tables and pictures of a device, or None without results."""
    found = {name: table for name, table in parts(folder).items() if table != EMPTY}
    if not found:
        return None
    text = [f"# Results: {folder.name}", "Written by `python -m benchmarks --tables`."]
    text += [f"## {name}\n\n{table}" for name, table in found.items()]
    text += [f"![{path.stem}]({path.name})" for path in sorted(folder.glob("*.png"))]
    return "\n\n".join(text) + "\n"


def fill(text: str, parts: dict[str, str]) -> str:
    """The text with its places written anew; an unknown name is a KeyError."""

    def place(match):
        return f"{match[1]}\n\n{parts[match[2]]}\n\n<!-- end -->"

    return re.sub(r"(<!-- begin ([\w-]+) -->).*?<!-- end -->", place, text, flags=re.DOTALL)


def folders(results: Path) -> list[Path]:
    return sorted(path for path in results.iterdir() if path.is_dir()) if results.exists() else []


def check(results: Path) -> None:
    """Raises SystemExit if a result cannot be read: before anything is measured."""
    for folder in folders(results):
        parts(folder)


def write(results: Path, pages: tuple[Path, ...] = PAGES) -> None:
    """Every picture that has a result, then every page; the pages are of the repository's results."""
    for folder in folders(results):
        rows = {name: store.load(folder, name) for name in SECTIONS}
        versus = tables.versus(contest_rows(folder))
        rows["versus"] = [r for r in versus if isinstance(r["time, peer / zojax"], float)]
        pictures.draw(folder, rows)
        text = device_page(folder) if folder.name != "cpu" else None
        if text:
            (folder / "README.md").write_text(text)
    if results == store.RESULTS:
        found = all_parts(results)
        for path in pages:
            path.write_text(fill(path.read_text(), found))
