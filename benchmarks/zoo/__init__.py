"""Models and layers of other packages, unchanged: `python -m benchmarks zoo` puts zojax to each of them.

A name is a file of this folder and a function in it that returns a `Model`: loss, initial parameters and
data. A package that is missing makes the rows of its models say so.
"""

import ast
import importlib
from pathlib import Path

from benchmarks.models import Model

FILES = "linen nnx equinox haiku graphs solvers densities losses plain others".split()


def _functions(file: str) -> dict[str, str]:
    """The functions of a file that return a `Model`, with their docstrings; its packages may be missing."""
    tree = ast.parse(Path(__file__).with_name(f"{file}.py").read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.returns]
    return {
        f"{file}.{node.name}": ast.get_docstring(node) or ""
        for node in found
        if ast.unparse(node.returns) == "Model" and not node.args.args and node.name[0] != "_"
    }


ABOUT = {name: text for file in FILES for name, text in _functions(file).items()}
NAMES = tuple(ABOUT)
# Why a use stays without a rule, or a population above its forwards.
_IN_A_LOOP = "the forwards run in a loop, so only one of them is in memory"
_HELD = "the loop holds the factors of all directions, beside small activations"
WHY = {
    "linen.scanned_layers": _HELD,
    "nnx.stacked": _HELD,
    "haiku.layer_stack": _HELD,
    "solvers.neural_ode": _HELD,
    "nnx.lora": "XLA squares the product of each member in place; not a shared product, nor a forward's",
    "plain.ragged": _IN_A_LOOP,
    "plain.hash_routed": _IN_A_LOOP,
    "graphs.attention": "JAX gathers nodes of all directions along another axis, and XLA copies them",
    "densities.real_nvp": "XLA stores an output until shift and scale are read, beside small activations",
    "plain.flat_vector": "a vector has no low-rank noise: each member has weights of its own",
    "plain.masked": "a mask of single entries: each member makes a weight of its own",
    "solvers.linear_solve": "a factorisation reads every entry of the matrix",
    "densities.hidden_markov_model": "softmax over the rows of a parameter acts on each entry",
    "densities.bayesian_network": "supports are checked entry by entry",
}


def make(name: str) -> Model:
    """Loss, parameters and data of a model by its name."""
    file, function = name.split(".")
    return getattr(importlib.import_module(f"benchmarks.zoo.{file}"), function)()


def about(name: str) -> str:
    """What the model is, in one line."""
    return ABOUT[name].rstrip(".")
