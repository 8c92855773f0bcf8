"""Checkpoints of a run: parameters, optimizer state, losses and evaluations in one safetensors file."""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from zojax._keys import is_key, key_data
from zojax._whole_file import replacing
from zojax.lm._extras import require
from zojax.lm._files import FilePath, parse_json, refusing

_NOTE = "zojax.lm.train"


class Checkpoint(NamedTuple):
    """A run so far.

    Attributes:
      params: the trained pytree.
      state: of the optimizer.
      losses: of every step.
      outputs: dict from a number of steps to the outputs on the evaluated split.
    """

    params: Any
    state: Any
    losses: list[float]
    outputs: dict[int, np.ndarray]


def write(path: FilePath, checkpoint: Checkpoint, note: Any) -> None:
    """Writes a checkpoint; a kill leaves the old file or the new one."""
    path = pathlib.Path(path).expanduser()
    tensors = {name: np.asarray(leaf) for name, leaf in _named(checkpoint.params, checkpoint.state)}
    tensors["losses"] = np.array(checkpoint.losses, np.float32)
    tensors |= {f"outputs {steps}": outputs for steps, outputs in checkpoint.outputs.items()}
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    save_file = require("safetensors.numpy").save_file
    with replacing(path) as part:
        save_file(tensors, part, {_NOTE: json.dumps(note)})


def read(path: FilePath, params: Any, state: Any) -> Checkpoint:
    """The run of a checkpoint, for parameters and a state of these shapes.

    Raises ValueError for another file, and for another model, trained part or optimizer.
    """
    path = pathlib.Path(path).expanduser()
    require("safetensors")
    with refusing(f"{path} is no checkpoint; choose another path"):
        tensors = require("safetensors.flax").load_file(path)
    names = [name for name, _ in _named(params, state)]
    own = {"losses", *(name for name in tensors if name.startswith("outputs "))}
    leaves, treedef = jax.tree.flatten((params, state))
    like = dict(zip(names, leaves, strict=True))
    for name in [*names, *sorted(tensors.keys() - own - like.keys())]:
        found, wanted = _shown(tensors.get(name)), _shown(like.get(name))
        if found != wanted:
            raise ValueError(
                f"{path} is of another run: its {name} is {found}, this run's is {wanted}. Choose another "
                "path, or the model and the optimizer of that run."
            )
    restored = [_like(tensors[name], leaf) for name, leaf in zip(names, leaves, strict=True)]
    outputs = {int(name.split()[1]): np.asarray(tensors[name]) for name in own - {"losses"}}
    losses = np.asarray(tensors["losses"]).tolist()
    params, state = jax.tree.unflatten(treedef, restored)
    return Checkpoint(params, state, losses, dict(sorted(outputs.items())))


def checkpoint_note(path: FilePath) -> tuple[Any, int]:
    """The note and the number of steps of a checkpoint of `zojax.lm.train`; `(None, 0)` without a file.

    Raises ValueError for another file.

    >>> checkpoint_note("no_such_checkpoint")
    (None, 0)
    """
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        return None, 0
    with refusing(f"{path} is no checkpoint; choose another path"):
        with require("safetensors").safe_open(path, framework="numpy") as file:
            note = parse_json(file.metadata()[_NOTE])
            return note, file.get_slice("losses").get_shape()[0]


def _named(params: Any, state: Any) -> list[tuple[str, Any]]:
    """The leaves with their names, keys as data."""
    found = []
    for kind, tree in (("params", params), ("state", state)):
        for place, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found.append((kind + jax.tree_util.keystr(place), key_data(leaf)))
    return found


def _like(tensor: Any, leaf: Any) -> Any:
    if is_key(leaf):
        return jax.random.wrap_key_data(tensor, impl=jax.random.key_impl(leaf))
    return jax.device_put(tensor, getattr(leaf, "sharding", None))


def _shown(array: Any) -> str:
    if array is None:
        return "missing"
    array = key_data(array)
    return f"{array.dtype}{list(array.shape)}"
