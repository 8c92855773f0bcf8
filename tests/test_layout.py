"""The dependencies between modules: the four choices never import one another."""

import ast
import re
from pathlib import Path

import pytest

import zojax

ROOT = Path(zojax.__file__).parent
NAMES = (
    "attacks diagnostics directions executors implicit lm logging noise optimizers processes "
    "rollouts search shaping stencils trajectory"
)
PUBLIC = zojax, *(getattr(zojax, name) for name in NAMES.split())
SMALL = {"_checks", "_jaxpr", "_keys", "_mesh_axis", "_numerics", "_scalars", "_sharding", "_trees"}
SMALL |= {"_warnings"}
BASE = SMALL | {"_barriers", "_contract", "_direction", "_failures", "noise"}
CHOICES = {"directions", "stencils", "shaping", "execution"}
ESTIMATOR = BASE | CHOICES | {"implicit", "_call", "_kept", "_estimator"}
ALLOWED = {  # what each part may import
    "_checks": set(),
    "_jaxpr": set(),
    "_keys": {"_checks"},
    "_locks": set(),
    "_mesh_axis": {"_alike", "_trees"},
    "_numerics": {"_warnings"},
    "_scalars": {"_checks"},
    "_alike": {"_jaxpr"},
    "_sharding": {"_alike"},
    "_trees": {"_checks", "_sharding"},
    "_direction": {"_trees"},
    "_documented": set(),
    "_on_shards": {"_jaxpr"},
    "_barriers": {"_jaxpr", "_on_shards", "_sharding"},
    "_contract": set(),
    "_evaluation": {"_evaluation"},
    "_extras": set(),
    "_failures": set(),
    "noise": {"_barriers", "_contract", "_sharding", "noise"},
    "directions": BASE | {"directions"},
    "stencils": BASE,
    "shaping": BASE,
    "execution": BASE,
    "implicit": BASE | {"implicit", "_plot"},
    "_call": {"_kept"},
    "_kept": {"_warnings"},
    "_estimator": ESTIMATOR,
    "_gradient": ESTIMATOR,
    "_transform": ESTIMATOR | {"_transform"},
    "_plot": set(),
    "_public": {*ESTIMATOR, "_gradient", "_minimize", "_transform", "_verdict", "optimizers"},
    "_progress": set(),
    "_verdict": BASE | {"_transform"},
    "_warnings": set(),
    "_whole_file": set(),
    "_minimize": BASE
    | {
        "_call",
        "_evaluation",
        "_kept",
        "_minimize",
        "_plot",
        "_progress",
        "_transform",
        "_verdict",
    },
    "search": BASE
    | {"__version__", "_call", "_evaluation", "_kept", "_locks", "_plot", "_progress"}
    | {"_whole_file", "search"},
    "attacks": ESTIMATOR | {"_documented", "_evaluation", "attacks"},
    "executors": {"_evaluation", "_failures", "_scalars", "_warnings", "executors"},
    "diagnostics": ESTIMATOR | {"diagnostics", "_plot"},
    "optimizers": ESTIMATOR | {"_documented", "_transform", "optimizers"},
    "processes": {"_checks"},
    "rollouts": {"_transform"},
    "lm": {
        "_checks",
        "_evaluation",
        "_extras",
        "_keys",
        "_kept",
        "_transform",
        "_warnings",
        "_whole_file",
        "directions",
        "lm",
        "optimizers",
        "trajectory",
    },
    "logging": {"_extras", "_whole_file", "logging"},
    "trajectory": BASE
    | {
        "Progress",
        "__version__",
        "_call",
        "_kept",
        "_locks",
        "_transform",
        "processes",
        "trajectory",
    },
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
    assert parts == set(ALLOWED)
    text = (ROOT.parent / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`(?:zojax/)?(\w+)[/.`]", text[: text.index("## Names")]))
    assert {part for part in parts if part[0] != "_"} <= named


def test_the_map_of_the_house_names_functions_that_exist():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text()
    section = text[text.index("## Map of the house") : text.index("The rooms around it")]
    named = re.findall(r"`(\w+)` \(`([\w/]+\.py)`", section)
    assert 5 <= len(named) < 10
    for name, path in named:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M), name


def test_no_file_imports_private_modules_of_jax():
    """They change without notice: JAX 0.11 dropped one, and zojax did not import."""
    private = re.compile(r"^ *(import|from) (jax\._|jaxlib)", re.M)
    found = {path.name for path in ROOT.rglob("*.py") if private.search(path.read_text())}
    # When they are called: the coordination service has no public name, nor has a partitioner, without
    # which `_on_shards.py` has another way.
    assert found == {"processes.py", "_on_shards.py"}


def test_examples_import_public_parts_only():
    for path in (ROOT / "examples").glob("*.py"):
        assert not [part for part in _imports(path) if part.startswith("_")], path


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_public_names_are_documented(module):
    for name in module.__all__:
        found = getattr(module, name)
        # A NamedTuple without a docstring has one of its own, its signature.
        assert found.__doc__ and not found.__doc__.startswith(f"{name}("), name
        for field in getattr(found, "_fields", ()):
            assert re.search(rf"\b{field}\b", found.__doc__), (name, field)
