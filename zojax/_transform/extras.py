"""Extra arguments of an update: which go to the loss, and which to the inner transformation.

optax does not say which extra arguments a transformation takes. Signatures do, also those of the
functions that a transformation holds in its closure, as a chain does.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from zojax._checks import brief

# An inner transformation gets these in every step; `scalars` only if it names it.
GIVEN = frozenset({"value", "grad", "value_fn", "scalars"})
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def routed(
    value_fn: Callable | None,
    extras: dict[str, Any],
    inner_extras: Mapping[str, Any] | None,
    *,
    known: frozenset[str],
    required: frozenset[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(extras of the loss, extras of inner), which takes the names in `known`.

    An extra goes to inner if the loss does not take its name, and inner does.
    """
    by_name = _checked(inner_extras, known)
    taken = _names_of(value_fn)
    own = {k: v for k, v in extras.items() if taken is None or k in taken}
    for name in extras.keys() - own.keys() - known:
        if value_fn is None:
            raise TypeError(
                f"update got values and an extra {name!r}, which no loss takes: do not pass it."
            )
        inner = f", and inner {sorted(known)}" if known else ""
        raise TypeError(
            f"update got an extra {name!r} that value_fn does not take; it takes {taken}{inner}. "
            "Add it to the loss's arguments, or do not pass it."
        )
    by_name = {k: v for k, v in extras.items() if k not in own} | by_name
    missing = sorted(required - by_name.keys())
    if missing:
        raise TypeError(
            f"inner requires {missing}, which update did not get: "
            f"tx.update(None, state, params, value_fn=loss, {missing[0]}=...), or inner_extras= where "
            "the loss takes it too. zojax.minimize has none."
        )
    return own, by_name


def _checked(inner_extras: Mapping[str, Any] | None, known: frozenset[str]) -> dict[str, Any]:
    if not isinstance(inner_extras, Mapping | None):
        raise TypeError(
            f"inner_extras must be a dict from names to values, got {brief(inner_extras)}."
        )
    for name in inner_extras or {}:
        if name not in known:
            raise TypeError(
                f"inner_extras has {name!r}, which inner does not take by name; "
                f"it takes {sorted(known)}. Name it in the signature of inner.update."
            )
    return dict(inner_extras or {})


def _names_of(value_fn: Callable | None) -> list[str] | None:
    """Names of the extras that a loss takes, or None if it takes any."""
    if value_fn is None:
        return []
    try:
        parameters = list(inspect.signature(value_fn).parameters.values())
    except (TypeError, ValueError):  # no signature to read, as for some builtins
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters[1:] if p.kind in _BY_NAME]


def extra_names(update: Callable) -> frozenset[str]:
    """Names of the extra arguments of an update, and of updates that it holds.

    An update that is held, as in a chain, has three positional parameters: updates, state and params.
    """
    found = {p.name for p in _parameters(update)[3:] if p.kind in _BY_NAME}
    held, seen = [*_parts(update)], set()
    while held:
        part = held.pop()
        if not callable(part) or id(part) in seen:
            continue
        seen.add(id(part))
        parameters = _parameters(part)
        if [p.kind in _BY_POSITION for p in parameters[:4]] in ([True] * 3, [True] * 3 + [False]):
            found |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        held += _parts(part)
    return frozenset(found)


def required_names(fun: Callable) -> frozenset[str]:
    """Names of the keyword-only arguments without a default."""
    parameters = _parameters(fun)
    return frozenset(
        p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty
    )


def accepting(update: Callable) -> Callable:
    """`update` called with any extra arguments; it gets those that it takes."""
    parameters, names = _parameters(update), extra_names(update)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    own = {p.name for p in parameters[3:] if p.kind in _BY_NAME}

    def call(updates, state, params, **extras):
        given = extras if takes_all else {k: v for k, v in extras.items() if k in own}
        try:
            return update(updates, state, params, **given)
        except TypeError as error:
            missing = sorted(names - set(extras))
            if missing:
                error.add_note(
                    f"inner takes {missing}: pass them by name, tx.update(..., {missing[0]}=...). "
                    "zojax.minimize has none."
                )
            raise

    return call


def _parameters(fun: Callable) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # no signature to read, as for some builtins
        return []


def _parts(fun: Callable) -> list:
    """The objects in a function's closure, in the object of a method, or in a partial's arguments."""
    if isinstance(fun, partial):
        return [fun.func, *jax.tree.leaves((fun.args, fun.keywords))]
    held = list(vars(fun.__self__).values()) if inspect.ismethod(fun) else []
    for cell in getattr(inspect.unwrap(fun), "__closure__", None) or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return jax.tree.leaves(held)
