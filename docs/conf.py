"""Sphinx configuration: `sphinx-build -W docs docs/_build`."""

import functools
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

from sphinx.domains.python import PyObject
from sphinx.util.docutils import SphinxDirective

import zojax

project = "zojax"
author = "the zojax developers"
copyright = "the zojax developers"
release = version = zojax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "jupyter_execute"]
default_role = "py:obj"
nitpicky = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"zojax {release}"
html_static_path = ["_static"]
html_css_files = ["zojax.css"]
html_copy_source = False
html_theme_options = {
    "source_repository": "https://github.com/zojax/zojax",
    "source_branch": "main",
    "source_directory": "docs/",
    "light_css_variables": {"color-brand-primary": "#2563c9", "color-brand-content": "#2563c9"},
    "dark_css_variables": {"color-brand-primary": "#7fb0ff", "color-brand-content": "#7fb0ff"},
}

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parent / "_build" / ".jupyter_cache")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_member_order = "bysource"
autodoc_mock_imports = ["ray"]  # too large to install for two classes
autodoc_typehints = "signature"
autosummary_generate = False
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True


class Public(SphinxDirective):
    """`.. public:: MODULE`: its docstring, a table of its public names, and an entry for each."""

    required_arguments = 1

    def run(self):
        name = self.arguments[0]
        found = {n: x for n, x in _public(name).items() if name != "zojax" or n not in _elsewhere()}
        lines = [f".. automodule:: {name}", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {n}" for n, x in found.items() if callable(x)] + [""]
        for n, x in found.items():
            if callable(x):
                kind = "autoclass" if isinstance(x, type) else "autofunction"
                lines += [f".. {kind}:: {n}"] + ["   :members:"] * isinstance(x, type) + [""]
            else:
                value = f"   :value: {x!r}" if isinstance(x, int | str) else ""
                lines += [f".. py:data:: {n}", value, ""]
        return self.parse_text_to_nodes("\n".join(lines))


def _public(name: str) -> dict:
    """The functions, classes and constants that a module names in `__all__`."""
    parent, _, own = name.rpartition(".")
    module = getattr(importlib.import_module(parent), own) if parent else zojax
    sys.modules.setdefault(name, module)  # `zojax.lm.gpt` lives in a file of another name
    found = {n: getattr(module, n) for n in module.__all__}
    return {n: x for n, x in found.items() if not isinstance(x, ModuleType)}


@functools.cache
def _elsewhere() -> set[str]:
    """Names of `zojax` that a page of a subpackage describes."""
    modules = [f"zojax.{n}" for n in zojax.__all__ if isinstance(getattr(zojax, n), ModuleType)]
    return {n for name in modules for n in _public(name)}


def _skip(app, what, name, obj, skip, options):
    """Fields of NamedTuples stand in the docstring of the class."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def _readable(app, what, name, obj, options, lines):
    """Docstrings are written to be read in an editor: this makes them reStructuredText."""
    text = "\n".join(_escaped(lines, kept="    " if what == "module" else "|-"))
    text = _TABLE.sub(_as_list_table, text)
    if what == "module":
        text = _BLOCK.sub(r"\n\n.. code-block:: python\n\n\1\n", text)
    lines[:] = text.split("\n")


_TABLE = re.compile(r"(?:^\|.*\|\n?){3,}", re.M)
_BLOCK = re.compile(r"(?<!::)\n\n((?: {4}.*\n?|\n)+)")  # indented, as in Markdown
_KEPT = re.compile(r"(`[^`]*`|\*\w[\w -]*\*|\*\*\w[\w -]*\*\*)")  # code, roles, emphasis


def _escaped(lines, kept: str):
    """Stars and bars of formulas in prose; code, doctests and directives stay as they are."""
    indent = None  # of a directive or a doctest
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if line.strip() and indent is not None and depth <= indent and ">>>" not in line:
            indent = None
        if line.lstrip().startswith((".. ", ">>>")):
            indent = depth - line.lstrip().startswith(">>>")
        if not line.strip() and indent is not None and indent < 0:
            indent = None
        if indent is None and not line.startswith(("| ", "|-", kept)):
            parts = _KEPT.split(line)
            parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
            line = re.sub(r"(`[^`]+`)(?=[A-Za-z])", r"\1\\ ", "".join(parts))  # `leaf`s
        yield line


def _as_list_table(match) -> str:
    rows = [line.strip("| ").split(" | ") for line in match[0].strip().split("\n")]
    rows = [row for row in rows if set("".join(row)) - set("-| ")]
    out = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        out += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return "\n".join([*out, "", ""])


def _signature(app, what, name, obj, options, signature, returns):
    """The fields of a NamedTuple are listed under it; its signature would repeat them."""
    if hasattr(obj, "_fields"):
        return "", None
    return signature and (_OBJECT.sub(r"\1", signature), returns)


_OBJECT = re.compile(r"<(?:function|class) '?(?:\w+\.)*(\w+)[^>]*>")  # defaults, by their names


def setup(app):
    for kind in PyObject.doc_field_types:
        kind.label = {"variable": "Attributes"}.get(kind.name, kind.label)
    app.add_directive("public", Public)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _readable, priority=400)  # before napoleon
