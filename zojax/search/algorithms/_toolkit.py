"""Helpers that most algorithms share."""

import functools
import inspect
import re
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import require_count, require_flag, require_number, require_option
from zojax._numerics import float_dtype, promoting
from zojax.search._random import Random, to_unit, words
from zojax.search.algorithms._algorithm import Algorithm, TellFn
from zojax.search.spaces import CONTINUOUS, Space
from zojax.search.spaces._precision import namespace_of

Factory = TypeVar("Factory", bound=Callable[..., Algorithm])
REPLACEMENTS = ("worst", "random", "margin")


def reused(factory: Factory) -> Factory:
    """Equal settings give the same object, so that JAX compiles one program for them."""
    signature = inspect.signature(factory)

    def new(*args: Any, **settings: Any) -> Algorithm:
        algorithm = promoting_all(factory(*args, **settings))
        return algorithm._replace(
            name=_name_of(factory.__name__, signature.bind(*args, **settings))
        )

    remembered = functools.lru_cache(maxsize=64, typed=True)(new)

    @functools.wraps(factory)
    def make(*args: Any, **settings: Any) -> Algorithm:
        try:
            given = signature.bind(*args, **settings)
        except TypeError:
            return factory(*args, **settings)  # raises, with its name
        given.apply_defaults()
        # An array, also a traced one, has no hash.
        hashable = all(isinstance(s, Hashable) for s in (*given.args, *given.kwargs.values()))
        return (remembered if hashable else new)(*given.args, **given.kwargs)

    return make  # type: ignore[return-value]  # it keeps the factory's signature


def _name_of(name: str, given: inspect.BoundArguments) -> str:
    """The call as text, without arguments that equal their defaults."""
    shown = []
    for key, value in given.arguments.items():
        parameter = given.signature.parameters[key]
        if parameter.kind is parameter.VAR_POSITIONAL:
            shown += [_text_of(v) for v in value]
        elif _text_of(value) != _text_of(parameter.default):
            shown.append(f"{key}={_text_of(value)}")
    return f"{name}({', '.join(shown)})"


def _text_of(value: Any) -> str:
    """An argument as text: an algorithm by its name, anything else without addresses."""
    if isinstance(value, Algorithm):
        return value.name or "an algorithm"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def promoting_all(algorithm: Algorithm) -> Algorithm:
    """The algorithm with all its functions under JAX's default promotion."""
    names = ("init", "ask", "tell", "best", "inject")
    new: dict[str, Any] = {name: promoting(getattr(algorithm, name)) for name in names}
    return algorithm._replace(**new)


def bounds_of(space: Space) -> tuple[jax.Array, jax.Array]:
    """The encoded lower and upper bounds, (d,) each."""
    return jnp.asarray(space.low, float_dtype()), jnp.asarray(space.high, float_dtype())


def span_of(space: Space) -> jax.Array:
    """The width of each coordinate's range, (d,); never zero."""
    span = space.high - space.low
    return jnp.asarray(namespace_of(span).maximum(span, 1e-30), float_dtype())


def starts_between(space: Space, random: Random, n: int, x: jax.Array, value) -> jax.Array:
    """Points (n, d): random ones before x has a value, later between x and random ones."""
    d = space.dimension
    u = to_unit(words(random, n * (d + 1))).reshape(n, d + 1)
    anywhere = space.from_unit(u[:, :d])
    share = 10 ** jnp.minimum(0, 2 - 4 * u[:, d:])
    return jnp.where(jnp.isfinite(value), x + share * (anywhere - x), anywhere)


def select(condition: jax.Array, a: Any, b: Any) -> Any:
    """One of two pytrees with equal types. Unlike `jnp.where`, it adds no inner program for each leaf."""
    return jax.tree.map(lambda x, y: x if x is y else jax.lax.select(condition, x, y), a, b)


def keep_best(state: Any, x: jax.Array, value: jax.Array) -> Any:
    """`state` with the point as its `x` and `value`, if the point is better."""
    return moved_if(value < state.value, state, x, value)


def moved_if(condition: jax.Array, state: Any, x: jax.Array, value: jax.Array) -> Any:
    """`state` with the point as its `x` and `value`, if the condition holds."""
    x, value = jnp.where(condition, x, state.x), jnp.where(condition, value, state.value)
    return state._replace(x=x, value=value)


def recommended(state: Any) -> tuple[jax.Array, jax.Array]:
    """The `x` and `value` of a state: `best` for algorithms that use `keep_best`."""
    return state.x, state.value


def sequential(tell_one: Callable[..., Any]) -> TellFn:
    """A `tell` for batches of one point, from a function of that point."""

    def tell(space: Space, state: Any, x: jax.Array, values: jax.Array) -> Any:
        return tell_one(space, state, x[0], values[0])

    return tell


def require_continuous(name: str, space: Space) -> None:
    """Raises unless the space has a continuous coordinate."""
    if not np.any(space.kinds == CONTINUOUS):
        raise ValueError(f"{name} needs a continuous coordinate, got the space\n{space}")


def require_share(name: str, value: Any) -> None:
    """Raises unless the value is a number in [0, 1]. Traced values pass."""
    if isinstance(value, jax.core.Tracer):
        return
    require_number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}.")


def require_racos(
    exploration: Any, parity: Any, num_positives: Any, replacement: Any = "worst"
) -> int | None:
    """Checks the settings that all of the RACOS family take; returns num_positives."""
    require_option("replacement", replacement, REPLACEMENTS)
    require_share("exploration", exploration)
    require_flag("parity", parity)
    return None if num_positives is None else require_count("num_positives", num_positives)
