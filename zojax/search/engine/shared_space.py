"""Spaces without their bounds: searches of other bounds share their programs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from zojax._numerics import float_dtype
from zojax.search.engine.numpy_program import named_input
from zojax.search.spaces import Space
from zojax.search.spaces._domain import Domain


@dataclass(frozen=True)
class Form(Domain):
    """All coordinates of a space, without their bounds."""

    kinds: tuple[int, ...]
    options: tuple[int, ...]

    @property
    def kind(self) -> np.ndarray:
        return np.array(self.kinds)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (len(self.kinds),)

    @property
    def count(self) -> float:
        raise NotImplementedError("a form has no bounds.")

    slack = count


class SharedSpace(Space):
    """The space of a form. A program gets the bounds when it is bound."""

    @property
    def low(self) -> Any:
        return named_input("low", (self.dimension,), float_dtype())

    @property
    def high(self) -> Any:
        return named_input("high", (self.dimension,), float_dtype())

    @cached_property
    def options(self) -> np.ndarray:
        form: Any = self.domains[0]
        return np.array(form.options)


def shared(space: Space) -> Space:
    """The space without its bounds, or the space itself if one of its domains has a `snap`."""
    if any(d.snap is not None or getattr(d, "active", None) for d in space.domains):
        return space
    form = Form(tuple(space.kinds.tolist()), tuple(space.options.tolist()))
    return SharedSpace((form,), jax.tree.structure(0))


def bounds_of(space: Space, dtype: Any) -> dict[str, np.ndarray]:
    """The inputs of a program of the shared space."""
    return {"low": space.low.astype(dtype), "high": space.high.astype(dtype)}
