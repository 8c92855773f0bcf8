"""`Architecture`: a model's config, and the place of each parameter in its files."""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

EPSILONS = 1e-30, 1.0  # positive in float32


class Stored(NamedTuple):
    """The place of a parameter in the files."""

    name: str  # of the tensor, with `{}` for the layer
    transposed: bool = False  # True for matrices stored as (out, in)
    columns: tuple[int, int, int] | None = None  # begin, end and total of a fused tensor's outputs

    def of_layer(self, i: int) -> "Stored":
        """The place in layer i."""
        return self._replace(name=self.name.format(i))

    def shape(self, tensors: Any) -> tuple[int, ...]:
        """The parameter's shape in a `Tensors` or `GGUF`."""
        shape = tensors.shape(self.name)
        shape = shape[::-1] if self.transposed else shape
        if self.columns is not None and shape and shape[-1] == self.columns[2]:
            shape = (*shape[:-1], self.columns[1] - self.columns[0])
        return shape

    def read(self, tensors: Any) -> np.ndarray:
        """The parameter as a NumPy array."""
        array = tensors.read(self.name)
        array = array.T if self.transposed else array
        return array if self.columns is None else array[..., slice(*self.columns[:2])]


class Architecture(NamedTuple):
    """A model without its weights."""

    module: ModuleType
    config: Any
    places: dict[str, Stored]
    optional: tuple[str, ...] = ()  # of `module.optional_shapes`
    is_tied: bool = False  # by default

    def shapes(self, has_head: bool) -> dict:
        """The shape of every parameter, as `module.shapes`."""
        shapes = self.module.shapes(self.config)
        if self.optional:
            known = self.module.optional_shapes(self.config)
            shapes["layers"] |= {name: known[name] for name in self.optional}
        return shapes | ({"head": shapes["embed"]} if has_head else {})


def fused(name: str, transposed: bool, **widths: int) -> dict[str, Stored]:
    """The places of parameters that are one tensor, side by side.

    >>> fused("qkv.weight", True, query=4, key=2)["key"]
    Stored(name='qkv.weight', transposed=True, columns=(4, 6, 6))
    """
    ends = np.cumsum(list(widths.values())).tolist()
    begins = [0, *ends[:-1]]
    return {
        part: Stored(name, transposed, (begin, end, ends[-1]))
        for part, begin, end in zip(widths, begins, ends, strict=True)
    }


def with_bias(name: str, path: str, transposed: bool = False) -> dict[str, Stored]:
    """The places of a parameter and of its bias.

    >>> list(with_bias("up", "mlp.up"))
    ['up', 'up_bias']
    """
    return {name: Stored(f"{path}.weight", transposed), f"{name}_bias": Stored(f"{path}.bias")}
