"""Sizes and shares of the source code of a package, by `ast`.

A package is found where Python would import it, and is not imported:

    python -m pip install --target /tmp/peers --no-deps optax optimistix blackjax quax equinox
    PYTHONPATH=/tmp/peers python -m benchmarks code

Functions include methods and nested functions. Public arguments are those of functions and methods without
a leading underscore, `self` and `cls` apart. Blank lines count in a file, not in its shares.
"""

import ast
import importlib.util
import io
import re
import statistics
import tokenize
from pathlib import Path

from benchmarks.contestants import once

DEF = (ast.FunctionDef, ast.AsyncFunctionDef)


def build(work):
    return once(lambda: {"code": measure(work.package)})


def measure(package: str) -> dict:
    """The columns of a package's row."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        raise ModuleNotFoundError(f"{package} is not installed.", name=package)
    paths = sorted(Path(spec.origin).parent.rglob("*.py"))
    # Tests that a package ships are no part of it.
    is_test = re.compile(r"/tests/|/test_[^/]*$|_test\.py$").search
    files = [path.read_text() for path in paths if not is_test(path.as_posix())]
    trees = [ast.parse(text) for text in files]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, DEF)]
    lengths = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]
    annotated = [bool(a.annotation) for tree in trees for a in public_arguments(tree)]
    comments, docstrings, code = map(sum, zip(*map(lines, files), strict=True))
    return {
        "files": len(files),
        "code lines": code,
        "file lines: median / 90 % / max": spread([len(text.splitlines()) for text in files]),
        "function lines: median / 90 % / max": spread(lengths),
        "annotated public arguments, %": 100 * statistics.mean(annotated),
        "comment lines / code line": comments / code,
        "docstring lines / code line": docstrings / code,
    }


def spread(values: list[int]) -> str:
    ordered = sorted(values)
    ninth = ordered[int(0.9 * len(ordered))]
    return f"{statistics.median(ordered):.0f} / {ninth} / {ordered[-1]}"


def public_arguments(tree: ast.Module) -> list[ast.arg]:
    """Arguments of public functions and of public methods of public classes."""
    found: list[ast.arg] = []
    for node in tree.body:
        members = [node]
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            members = node.body
        for member in members:
            if isinstance(member, DEF) and (
                not member.name.startswith("_") or member.name in ("__init__", "__call__")
            ):
                given = member.args
                every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
                every += [a for a in (given.vararg, given.kwarg) if a]
                found += [a for a in every if a.arg not in ("self", "cls")]
    return found


def lines(text: str) -> tuple[int, int, int]:
    """Lines with a comment, of docstrings, and of code."""
    tree, docstrings = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *DEF)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    comments, code = set(), set()
    skipped = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        rows = set(range(token.start[0], token.end[0] + 1))
        if token.type == tokenize.COMMENT:
            comments |= rows
        elif token.type not in skipped:
            code |= rows
    return len(comments), len(docstrings), len(code - docstrings)
