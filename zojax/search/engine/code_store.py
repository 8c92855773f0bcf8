"""Traced programs in JAX's compilation cache: a new process reads their code and traces nothing.

The key of a program is a hash of zojax's sources and of the algorithm by value: each of its functions
with the variables that it closes over. The name of an algorithm would not do, since a function may have
been replaced in it.

A program is code, as JAX's own entries are: nothing is read but files of the cache folder that the same
user has written.
"""

import dataclasses
import hashlib
import os
import pickle
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from io import BytesIO
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import jax
import numpy as np

import zojax
from zojax._whole_file import replacing

Value = TypeVar("Value")
PACKAGES = {"builtins", "collections", "functools", "jax", "jaxlib", "ml_dtypes", "numpy", "zojax"}


def stored(make: Callable[..., Value]) -> Callable[..., Value]:
    """`make`, which returns what an equal call returned in an earlier process: a dataclass.

    The result is stored when nothing holds it any more, or at the end of the process, since writing the
    code of all branches takes time. Nothing is stored without a cache folder of JAX, or if an argument
    holds functions of others, whose code may change.
    """

    @wraps(make)
    def call(*args: Any) -> Value:
        file = _file_of((make, args))
        if file is None:
            return make(*args)
        try:
            return _read(file)
        except Exception:  # of any kind: no such file, or a damaged one
            made = make(*args)
            weakref.finalize(made, _write, file, type(made), vars(made))
            return made

    return call


def _read(file: Path) -> Any:
    """The stored object. Unpickling runs code, so a file of another user is refused."""
    with file.open("rb") as opened:
        if hasattr(os, "getuid") and os.fstat(opened.fileno()).st_uid != os.getuid():
            raise PermissionError(f"{file} belongs to another user.")
        return pickle.load(opened)


def _write(file: Path, kind: type, fields: dict[str, Any]) -> None:
    with suppress(Exception):  # of any kind: a full disk, or a branch without a form in NumPy
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_bytes(pickle.dumps(kind(**fields)))


def _folder() -> Path | None:
    """In the cache of JAX, if the user has set one on this machine."""
    config: Any = jax.config
    folder = config.jax_compilation_cache_dir
    if not folder or "://" in folder or not config.jax_enable_compilation_cache:
        return None
    return Path(folder, "zojax")


def _file_of(key: tuple) -> Path | None:
    folder = _folder()
    if folder is None:
        return None
    data = BytesIO()
    pickler = _Keys(data)
    pickler.fast = True  # by value: equal keys have equal bytes
    try:
        pickler.dump((_versions(), key))
    except Exception:  # of any kind: a function of others, or an object without a pickle
        return None
    return folder / hashlib.sha256(data.getvalue()).hexdigest()


class _Keys(pickle.Pickler):
    """Pickles zojax's functions with all that they close over."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, (type, FunctionType)):
            if value.__module__.partition(".")[0] not in PACKAGES:
                raise pickle.PicklingError(f"{value} may change")
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            # The table of lines tells two lambdas of one function apart.
            place = value.__module__, value.__qualname__, value.__code__.co_linetable
            return tuple, ((*place, cells, value.__defaults__, value.__kwdefaults__),)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            # A space, without what it remembers.
            values = [getattr(value, field.name) for field in dataclasses.fields(value)]
            return tuple, ((type(value), values),)
        if isinstance(value, jax.tree_util.PyTreeDef):
            return str, (str(value),)
        return NotImplemented


@cache
def _versions() -> tuple:
    """All that the code of a program depends on, besides its key."""
    root = Path(zojax.__file__).parent
    parts = "*.py", "noise/*.py", "search/**/*.py"
    sources = sorted(file for part in parts for file in root.glob(part))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).digest()
    return digest, jax.__version__, np.__version__, sys.version_info[:2]
