"""Which transformations of optax may stand around a gradient source, and which inside of it.

optax tells a source neither what wraps it nor which extra arguments its inner transformation takes. The
functions that call `init` and `update` answer the first question, signatures the second.
"""

import inspect
from collections.abc import Callable
from functools import partial
from types import FrameType

import jax
import optax
from optax.tree_utils import _state_utils

from zojax._trees import PyTree

# These hand parameters, state and extra arguments through to what they hold.
_TRANSPARENT = {"chain", "named_chain", "inject_hyperparams"}
_REASONS = {
    "optax.lookahead": "it keeps a second set of parameters, which the loss does not take",
    "optax.contrib.sam": "it needs gradients at points of its own",
    "optax.contrib.sophia": (
        "its default Hessian differentiates obj_fn: pass it a hessian_diagonal_fn that does not"
    ),
}
_REFUSED_STATES = {
    optax.LookaheadState: "optax.lookahead",
    optax.contrib.SAMState: "optax.contrib.sam",
    optax.contrib.HutchinsonState: "optax.contrib.sophia",
}
# What an inner transformation gets in every step.
GIVEN = frozenset({"value", "grad", "value_fn"})


def require_no_wrapper() -> None:
    """Raises TypeError where a wrapper of optax calls the `init` of a source."""
    name = None
    for frame in _optax_frames():
        factory = frame.f_code.co_qualname.split(".")[0]
        if frame.f_code.co_name in ("init", "init_fn") and factory not in _TRANSPARENT:
            contrib = "contrib." if ".contrib." in frame.f_globals["__name__"] else ""
            name = f"optax.{contrib}{factory}"
    if name in _REASONS:
        raise TypeError(
            f"zeroth_order cannot stand inside {name}: {_REASONS[name]}. "
            f"Give {name} the gradients of zojax.value_and_grad."
        )
    if name is not None:
        raise TypeError(
            f"zeroth_order makes the gradients that {name} works on: put it inside, "
            f"zeroth_order({name}(...), estimator)."
        )


def require_no_reader(update: Callable, given: set[str]) -> None:
    """Raises TypeError where a later stage of an optax chain requires what only an inner one gets."""
    for frame in _optax_frames():
        for held in frame.f_locals.values():
            parts = jax.tree.leaves(held) if isinstance(held, (tuple, list)) else []
            place = next((i for i, part in enumerate(parts) if part is update), len(parts))
            for stage in parts[place + 1 :]:
                missing = sorted(_required(stage) - given)
                if missing:
                    name = getattr(stage, "__qualname__", repr(stage)).split(".")[0]
                    raise TypeError(
                        f"{name} stands after zeroth_order in a chain and requires {missing}, which a "
                        f"chain cannot hand on. Put it inside: zeroth_order(optax.chain(..., {name}))."
                    )


def require_possible(inner_state: PyTree) -> None:
    """Raises TypeError where a state shows a transformation that no source can feed."""

    def is_refused(node) -> bool:
        return type(node) in _REFUSED_STATES

    for node in jax.tree.leaves(inner_state, is_leaf=is_refused):
        if is_refused(node):
            name = _REFUSED_STATES[type(node)]
            raise TypeError(
                f"inner must take the gradients that zeroth_order gives, got {name}: {_REASONS[name]}. "
                "With gradients of zojax.value_and_grad you can write its loop yourself."
            )


def extra_names(update: Callable) -> frozenset[str]:
    """Names of the extra arguments that an update, or one that it holds, takes beside `GIVEN`.

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
    return frozenset(found) - GIVEN


def required_names(update: Callable) -> frozenset[str]:
    """Names of the extra arguments beside `GIVEN` without which an update cannot be called."""
    return frozenset(_required(update)) - GIVEN


def accepting(update: Callable) -> Callable:
    """`update` called with any extra arguments, of which it gets those that it takes."""
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


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def is_placeholder(params: PyTree) -> bool:
    """Whether `optax.tree.map_params` asks where in a state the parameters are."""
    return isinstance(params, _state_utils._ParamsPlaceholder)


def _optax_frames() -> list[FrameType]:
    """The functions of optax that called into zojax, innermost first."""
    frame, found = inspect.currentframe(), []
    while frame is not None and _package(frame) == "zojax":
        frame = frame.f_back
    while frame is not None and _package(frame) == "optax":
        found.append(frame)
        frame = frame.f_back
    return found


def _package(frame: FrameType) -> str:
    return frame.f_globals.get("__name__", "").split(".")[0]


def _parameters(fun) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # no signature to read, as for some builtins
        return []


def _required(fun) -> set[str]:
    return {p.name for p in _parameters(fun) if p.kind is p.KEYWORD_ONLY and p.default is p.empty}


def _parts(fun: Callable) -> list:
    """What a function holds: in its closure, as a method in its object, as a partial in its arguments."""
    if isinstance(fun, partial):
        return [fun.func, *jax.tree.leaves((fun.args, fun.keywords))]
    held = list(vars(fun.__self__).values()) if inspect.ismethod(fun) else []
    for cell in getattr(inspect.unwrap(fun), "__closure__", None) or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return jax.tree.leaves(held)
