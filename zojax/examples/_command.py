"""The command lines of the examples: parsers, checks of arguments, and errors with exit status 2."""

import argparse
import contextlib
import importlib
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from zojax.lm import AssetError


def make_parser(
    name: str, description: str, epilog: str | None = None, draws: bool = True
) -> argparse.ArgumentParser:
    """The parser of `python -m zojax.examples.NAME`, with `--out` for its picture if it draws one."""
    parser = argparse.ArgumentParser(
        prog=f"python -m zojax.examples.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog=epilog,
    )
    if draws:
        parser.add_argument("--out", default=f"zojax-{name}.png", help="where the PNG goes")
    return parser


def fill(args: argparse.Namespace, defaults: NamedTuple) -> None:
    """Gives arguments that are None their defaults; all of them must be positive."""
    for name, default in defaults._asdict().items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    require_positive(args, **defaults._asdict())


def require_positive(args: argparse.Namespace, **examples: Any) -> None:
    """Raises ValueError unless these arguments are positive and finite; the error has the example.

    >>> require_positive(argparse.Namespace(batch_rows=0), batch_rows=8)
    Traceback (most recent call last):
    ValueError: --batch-rows must be positive, got 0; try 8.
    """
    for name, example in examples.items():
        value = getattr(args, name)
        if not 0 < value < math.inf:
            wanted = "positive" if value <= 0 else "finite"
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be {wanted}, got {value}; try {example}.")


def require_seed(args: argparse.Namespace) -> None:
    """Raises ValueError for a `--seed` that is no key."""
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed must be from 0 to 2**32 - 1, got {args.seed}; try 0.")


def require_picture(path: str) -> None:
    """Makes the folder of a picture; raises ValueError if Matplotlib cannot write there.

    >>> require_picture("curve.xyz")
    Traceback (most recent call last):
    ValueError: --out curve.xyz must end in one of ...
    """
    from matplotlib.backend_bases import FigureCanvasBase

    picture = pathlib.Path(path).expanduser()
    known = [f".{ending}" for ending in sorted(FigureCanvasBase.get_supported_filetypes())]
    if picture.suffix.lower() not in known:
        raise ValueError(f"--out {picture} must end in one of {', '.join(known)}.")
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {picture} cannot be written: {error}.") from error
    if picture.is_dir() or not os.access(picture.parent, os.W_OK):
        raise ValueError(f"--out {picture} cannot be written; choose another path.")


@contextlib.contextmanager
def refusing(parser: argparse.ArgumentParser, extra: str, *modules: str) -> Iterator[None]:
    """Ends the program with status 2 and a remedy for errors in its block.

    `modules`, which `extra` installs, are imported first: a run without its later modules does not begin.

    >>> with refusing(argparse.ArgumentParser(prog="it"), "tuning", "json", "no_such_module"):
    ...     print("not reached")
    Traceback (most recent call last):
    SystemExit: 2
    """
    try:
        for module in modules:
            importlib.import_module(module)
        yield
    except (AssetError, ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except ModuleNotFoundError as error:
        text = str(error)  # zojax names the extra, Python does not
        if "python -m pip" not in text:
            remedy = f'install the extra: python -m pip install ".[{extra}]"'
            text = f"{error.name} is missing; {remedy}"
        parser.exit(2, f"{parser.prog}: {text}\n")
