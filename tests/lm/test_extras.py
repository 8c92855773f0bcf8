"""`zojax.lm` imports without optional packages; functions that need one name the extra."""

import ast
import pathlib
import sys

import jax
import numpy as np
import pytest

from zojax import lm

ROOT = pathlib.Path(lm.__file__).parent
ALWAYS_THERE = {"jax", "numpy", "optax", "scipy", "zojax"}  # JAX depends on SciPy
MODEL = pathlib.Path(__file__).with_name("reference_models") / "llama"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: p.stem)
def test_modules_import_nothing_optional(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names = [node.module]
        else:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        assert {name.split(".")[0] for name in names} <= ALWAYS_THERE | sys.stdlib_module_names


CONFIG = lm.llama.Config(vocabulary=4, width=4, layers=1, heads=1, kv_heads=1, hidden=4)


def save(path):
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    params = jax.tree.map(np.ones, lm.llama.shapes(CONFIG), is_leaf=is_shape)
    params = jax.tree.map(np.float32, params)
    lm.save(path, lm.Model(lm.llama, CONFIG, params))


def train():
    task = lm.Task({}, {}, {"nll": len}, len, dict, iter, list)
    lm.train(task, None, 1, iter([]), [])


@pytest.mark.parametrize(
    "module, call",
    [
        ("safetensors", lambda path: lm.load(MODEL)),
        ("safetensors", save),
        ("tokenizers", lambda path: lm.smollm2()),
        ("tqdm", lambda path: train()),
    ],
)
def test_a_missing_package_names_the_extra(module, call, tmp_path, monkeypatch):
    for loaded in list(sys.modules):  # None in place of a module makes its import fail
        if loaded == module or loaded.startswith(f"{module}."):
            monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf'{module}.*install "zojax\[finetune\]"'):
        call(tmp_path / "new")
