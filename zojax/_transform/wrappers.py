"""Which transformations of optax may stand around a gradient source.

optax does not tell a source what wraps it. The functions that call `init` and `update` do.
"""

import inspect
from collections.abc import Callable
from types import FrameType

import jax
import optax
from optax.tree_utils import _state_utils

from zojax._transform.extras import required_names
from zojax._trees import PyTree
from zojax._warnings import package_of

# These pass parameters, state and extra arguments on unchanged.
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


def require_no_wrapper() -> None:
    """Raises TypeError if a wrapper of optax calls the `init` of a source."""
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
    """Raises TypeError if a later stage of an optax chain requires an argument of inner ones."""
    for frame in _optax_frames():
        for held in frame.f_locals.values():
            parts = jax.tree.leaves(held) if isinstance(held, (tuple, list)) else []
            place = next((i for i, part in enumerate(parts) if part is update), len(parts))
            for stage in parts[place + 1 :]:
                missing = sorted(required_names(stage) - given)
                if missing:
                    name = getattr(stage, "__qualname__", repr(stage)).split(".")[0]
                    raise TypeError(
                        f"{name} stands after zeroth_order in a chain and requires {missing}, which a "
                        f"chain cannot hand on. Put it inside: zeroth_order(optax.chain(..., {name}))."
                    )


def require_possible(inner_state: PyTree) -> None:
    """Raises TypeError for the state of a transformation that cannot use estimated gradients."""

    def is_refused(node) -> bool:
        return type(node) in _REFUSED_STATES

    for node in jax.tree.leaves(inner_state, is_leaf=is_refused):
        if is_refused(node):
            name = _REFUSED_STATES[type(node)]
            raise TypeError(
                f"inner must take the gradients that zeroth_order gives, got {name}: {_REASONS[name]}. "
                "With gradients of zojax.value_and_grad you can write its loop yourself."
            )


def is_placeholder(params: PyTree) -> bool:
    """Whether `optax.tree.map_params` calls, to find the parameters in a state."""
    return isinstance(params, _state_utils._ParamsPlaceholder)


def _optax_frames() -> list[FrameType]:
    """The functions of optax that called into zojax, innermost first."""
    frame, found = inspect.currentframe(), []
    while frame is not None and package_of(frame) == "zojax":
        frame = frame.f_back
    while frame is not None and package_of(frame) == "optax":
        found.append(frame)
        frame = frame.f_back
    return found
