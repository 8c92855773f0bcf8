"""The documentation builds without a warning; its links, its search and its reference are complete."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import zojax

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MODULES = [name for name in zojax.__all__ if not callable(getattr(zojax, name))]


@pytest.mark.parametrize("name", ["zojax", *(f"zojax.{name}" for name in MODULES)])
def test_every_public_module_has_a_page(name):
    page = DOCS / "api" / f"{name.split('.')[-1]}.rst"
    assert f".. public:: {name}\n" in page.read_text()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_on_a_package_index_are_absolute(page):
    targets = re.findall(r"\]\(([^)]*)\)", (ROOT / page).read_text())
    assert targets and all(target.startswith("https://") for target in targets)
    own = [t for t in targets if t.startswith("https://github.com/zojax/zojax/")]
    for target in own:  # .../blob/main/PATH
        path = target.removeprefix("https://github.com/zojax/zojax/").split("/", 2)[2]
        assert (ROOT / path).exists(), target


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        self.links += [attrs[name] for name in ("href", "src") if attrs.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-D", "nb_execution_mode=force"]
    command += [str(DOCS), str(folder)]  # the cache of executed pages does not know of zojax
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_no_broken_link_inside(site):
    pages = {path: _Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 40
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:|//|\?", link):
                continue
            target, _, anchor = unquote(link).split("?")[0].partition("#")
            found = (path.parent / target).resolve() if target else path
            found = found / "index.html" if found.is_dir() else found
            known = pages[found].anchors if found in pages else {anchor, ""}
            if not found.exists() or anchor and anchor not in known:
                broken.append((path.name, link))
    assert not broken


@pytest.mark.slow
def test_the_search_of_the_site_finds_names_and_words(site):
    index = json.loads(
        (site / "searchindex.js").read_text().removeprefix("Search.setIndex(").rstrip(")\n;")
    )
    assert {"diverg", "orthogon", "optuna"} <= set(index["terms"])
    names = {entry[-1] for entries in index["objects"].values() for entry in entries}
    for name in ("estimator", "rademacher", "sracos", "Recorder", "explain"):
        assert name in names


@pytest.mark.slow
def test_every_public_name_has_an_entry(site):
    pages = {path.stem: _Page(path) for path in (site / "api").glob("*.html")}
    anchors = set().union(*(page.anchors for page in pages.values()))
    for module in MODULES:
        for name in getattr(zojax, module).__all__:
            anchor = f"zojax.{module}.{name}"
            assert {anchor, f"module-{anchor}"} & anchors, anchor
