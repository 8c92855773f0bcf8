"""Checks of the options of a choice. No option of a list may contain a domain."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from zojax.search.spaces._arguments import CONSTANT
from zojax.search.spaces._domain import Domain, is_domain


def as_options(name: str, options: Any) -> tuple:
    """At least two options, as a tuple."""
    if isinstance(options, str) or not hasattr(options, "__iter__"):
        raise TypeError(f"options of {name} must be a list such as ['a', 'b'], got {options!r}.")
    options = tuple(options)
    if len(options) < 2:
        raise ValueError(f"{name} needs at least two options, got {options!r}{CONSTANT}.")
    for option in options:
        nested = _domain_in(option, {})
        if nested is not None:
            raise TypeError(
                f"options of {name} must be values, got {option!r} with the domain {nested}: "
                "name the options, choice({'svc': uniform(0, 1), 'knn': integers(1, 9)})."
            )
    return options


def _domain_in(option: Any, seen: dict[int, Any]) -> Domain | None:
    """A domain inside an option, at any depth. `seen` maps ids to visited objects."""
    if id(option) in seen or isinstance(option, (str, int, float, np.generic)):
        return None
    if is_domain(option):
        return option
    seen[id(option)] = option
    found = (_domain_in(part, seen) for part in _parts(option))
    return next((domain for domain in found if domain is not None), None)


def _parts(option: Any) -> Iterable:
    """The members of a container."""
    if isinstance(option, Mapping):
        return [*option.keys(), *option.values()]
    if isinstance(option, (list, tuple, set, frozenset)):
        return option
    if isinstance(option, np.ndarray) and option.dtype == object:
        return option.ravel().tolist()
    if isinstance(option, functools.partial):
        return [option.args, option.keywords]
    if dataclasses.is_dataclass(option) and not isinstance(option, type):
        return [getattr(option, f.name, None) for f in dataclasses.fields(option)]
    leaves = jax.tree.leaves(option, is_leaf=lambda x: x is not option)  # a registered class
    return [] if len(leaves) == 1 and leaves[0] is option else leaves
