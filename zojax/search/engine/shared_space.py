"""Spaces without their bounds: searches of other bounds share their programs."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import jax
import numpy as np

from zojax._numerics import float_dtype
from zojax.search.engine.numpy_program import named_input
from zojax.search.spaces import Space
from zojax.search.spaces._domain import Domain


@dataclass(frozen=True)
class Form(Domain):
    """Coordinates without their bounds. Of those without an order, `high` tells the number of options."""

    kinds: tuple[int, ...]
    options: tuple[int, ...]
    low = 0

    @property
    def high(self) -> np.ndarray:
        return np.array(self.options) - 1

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
    """A space of forms. A program gets the bounds when it is bound."""

    @property
    def low(self) -> Any:
        return named_input("low", (self.dimension,), float_dtype())

    @property
    def high(self) -> Any:
        return named_input("high", (self.dimension,), float_dtype())


def shared(space: Space) -> Space:
    """The space without its bounds. A domain that snaps keeps its own, which its `snap` reads."""
    parts: list[Domain] = []
    for snaps, group in groupby(space.domains, _snaps):
        domains = tuple(group)
        parts += domains if snaps else [_form(domains)]
    return SharedSpace(tuple(parts), jax.tree.structure([0] * len(parts)))


def _snaps(domain: Domain) -> bool:
    return domain.snap is not None or getattr(domain, "active", None) is not None


def _form(domains: tuple[Domain, ...]) -> Form:
    space = Space(domains, jax.tree.structure([0] * len(domains)))
    return Form(tuple(space.kinds.tolist()), tuple(space.options.tolist()))


def bounds_of(space: Space, dtype: Any) -> dict[str, np.ndarray]:
    """The inputs of a program of the shared space."""
    return {"low": space.low.astype(dtype), "high": space.high.astype(dtype)}
