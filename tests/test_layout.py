"""The dependencies between modules: the four choices never import one another."""

import ast
from pathlib import Path

import pytest

import zojax

ROOT = Path(zojax.__file__).parent
BASE = {"_types", "noise"}
CHOICES = {"directions", "stencils", "shaping", "execution"}
ESTIMATOR = BASE | CHOICES | {"implicit"}
ALLOWED = {  # what each part may import
    "_types": set(),
    "noise": set(),
    "directions": BASE | {"directions"},
    "stencils": BASE,
    "shaping": BASE,
    "execution": BASE,
    "implicit": BASE | {"implicit"},
    "_call": set(),
    "_estimator": ESTIMATOR | {"_call"},
    "_gradient": ESTIMATOR | {"_estimator", "_call"},
    "_transform": ESTIMATOR | {"_estimator", "_call"},
    "_progress": set(),
    "_minimize": BASE | {"_transform", "_progress"},
    "search": BASE | {"search", "_progress"},
    "attacks": ESTIMATOR | {"_estimator", "_call", "attacks"},
    "optimizers": ESTIMATOR | {"_estimator", "_transform", "optimizers"},
    "trajectory": BASE | {"_transform", "trajectory"},
}


def _imports(path: Path) -> set[str]:
    """The zojax parts that a file imports, doctests aside."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "zojax":
            below = node.module.split(".")[1:]
            found |= {below[0]} if below else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("zojax.")}
    return found


@pytest.mark.parametrize("part", ALLOWED)
def test_parts_import_only_what_lies_below(part):
    files = sorted((ROOT / part).rglob("*.py")) or [ROOT / f"{part}.py"]
    for path in files:
        assert _imports(path) <= ALLOWED[part], path


def test_every_part_is_listed():
    parts = {p.stem if p.is_file() else p.name for p in ROOT.iterdir()}
    parts -= {"__init__", "__pycache__", "py", "examples"}
    assert parts <= set(ALLOWED)


def test_public_names_are_documented():
    for name in zojax.__all__:
        assert getattr(zojax, name).__doc__, name
