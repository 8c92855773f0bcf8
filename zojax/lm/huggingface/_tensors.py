"""Tensors of a folder's safetensors files. Unused and doubled tensors are errors."""

import pathlib
from typing import Any

import numpy as np

from zojax.lm._extras import require
from zojax.lm._files import read_json, refusing, shown

INDEX = "model.safetensors.index.json"
FLOATS = ("BF16", "F16", "F32", "F64")


class Tensors:
    """All tensors of a folder, by name. Only `read` reads them.

    Raises ValueError if there is no file, a file is damaged, two files have the same tensor, or the files
    differ from the index.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._file_of: dict[str, Any] = {}
        self._used: set[str] = set()
        path_of: dict[str, pathlib.Path] = {}
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise ValueError(f"{folder} has no *.safetensors file.")
        safetensors = require("safetensors")
        for path in paths:
            with refusing(f"{path} is not a safetensors file, or cut off"):
                file = safetensors.safe_open(path, framework="flax")  # numpy knows no bfloat16
            for name in file.keys():
                if name in path_of:
                    raise ValueError(
                        f"{path} and {path_of[name]} both have the tensor {shown(name)}; "
                        "keep one of the files."
                    )
                path_of[name], self._file_of[name] = path, file
        if (folder / INDEX).exists():
            _check_index(folder / INDEX, {name: path.name for name, path in path_of.items()})

    def find(self, name: str) -> str | None:
        """The name in the files; some files omit the model's prefix. None if it is missing."""
        bare = name.removeprefix("model.").removeprefix("transformer.")
        return next((known for known in (name, bare) if known in self._file_of), None)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a float tensor, which counts as used from now on; ValueError for another one."""
        known = self._name(name)
        with refusing(f"the tensor {known} of {self.folder} cannot be read"):
            part = self._file_of[known].get_slice(known)
            dtype, shape = part.get_dtype(), tuple(part.get_shape())
        if dtype not in FLOATS:
            raise ValueError(
                f"the tensor {known} of {self.folder} has dtype {dtype}, which is none of "
                f"{', '.join(FLOATS)}; quantized weights are not supported."
            )
        self._used.add(known)
        return shape

    def read(self, name: str) -> np.ndarray:
        """The tensor as a NumPy array."""
        known = self._name(name)
        with refusing(f"the tensor {known} of {self.folder} cannot be read"):
            with np.errstate(over="ignore"):  # of float64
                return np.asarray(self._file_of[known].get_tensor(known))

    def _name(self, name: str) -> str:
        known = self.find(name)
        if known is None:
            raise ValueError(f"{self.folder} has no tensor {name}; config.json asks for it.")
        return known

    def unused(self) -> list[str]:
        """Sorted names of the tensors that `shape` was not asked for."""
        return sorted(self._file_of.keys() - self._used)


def _check_index(path: pathlib.Path, file_of: dict[str, str]) -> None:
    """Raises ValueError unless the index names the same file for each tensor."""
    claimed = read_json(path).get("weight_map")
    if not isinstance(claimed, dict):
        raise ValueError(f"{path} must have an object weight_map, got {shown(claimed)}.")
    for name in sorted(claimed.keys() | file_of.keys()):
        there, found = claimed.get(name, "no file"), file_of.get(name, "no file")
        if there != found:
            raise ValueError(
                f"{path} says that the tensor {shown(name)} is in {shown(there)}, but it is in "
                f"{shown(found)}. Copy the model again, or delete the index if its files are whole."
            )
