"""A traced function, and its value at perturbed parameters."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zojax._checks import require_flag
from zojax._sharding import varying_like
from zojax._trees import PyTree
from zojax.implicit import _compat
from zojax.implicit._perturbed import Perturbed, perturb
from zojax.implicit._walk import HELD_BYTES, Context


def held_bytes(hold_in_loops: bool | None) -> float:
    """The bytes of weights that a loop may hold; see `zojax.implicit.evaluate`."""
    if hold_in_loops is None:
        return HELD_BYTES
    require_flag("hold_in_loops", hold_in_loops)
    return math.inf if hold_in_loops else 0


def require_noise(noise: PyTree) -> None:
    """Raises TypeError unless all leaves are noise objects."""

    def is_noise(z):
        return hasattr(z, "dense")

    for z in jax.tree.leaves(noise, is_leaf=is_noise):
        if not is_noise(z):
            hint = "; did you forget to call the direction?" if callable(z) else "."
            raise TypeError(
                "noise must be a direction (of explain) or a tree of zojax.noise objects, "
                f"got a {type(z).__name__}{hint}"
            )


class Traced(NamedTuple):
    """A function, traced at its parameters.

    Attributes:
      closed: the program, of the perturbed leaves.
      fill: gives the outputs their structure.
      perturbed: `perturbed(noise, scale)`, the leaves at a point.
    """

    closed: Any
    fill: Callable[[list], Any]
    perturbed: Callable[[PyTree, Any], list[Perturbed]]

    def at(self, context: Context, noise: PyTree, scale) -> Any:
        """The value at one point."""
        perturbed = self.perturbed(noise, scale)
        context = replace(context, is_low_rank=any(x.is_low_rank for x in perturbed))
        for x in perturbed:
            context.on_perturbed(x)
            context.fixed[id(x.base)] = x.base
        outs = context.interpret(self.closed.jaxpr, self.closed.consts, perturbed)
        return self.fill([context.plain(x, None) for x in outs])


def run(context: Context, fun: Callable, params: PyTree, noise: PyTree, scale, args, kwargs):
    """fun(params + scale * noise, *args, **kwargs) under `context`."""
    return traced(fun, params, noise, scale, args, kwargs).at(context, noise, scale)


def traced(fun: Callable, params: PyTree, noise: PyTree, scale, args, kwargs) -> Traced:
    """The program of fun(params, *args, **kwargs), of the leaves that have noise."""
    treedef: Any  # mypy knows no methods of it
    paths, treedef = jax.tree_util.tree_flatten_with_path(params)
    leaves = [leaf for _, leaf in paths]
    chosen = [i for i, z in enumerate(treedef.flatten_up_to(noise)) if z is not None]
    # Under shard_map, a perturbed leaf varies over the same mesh axes as its noise, for the trace too.
    bases = [varying_like(jnp.asarray(leaves[i]), (noise, scale)) for i in chosen]

    def evaluation(arrays):
        """All other leaves are captured, and stay static if they were."""
        filled = list(leaves)
        for i, array in zip(chosen, arrays, strict=True):
            filled[i] = array
        return fun(treedef.unflatten(filled), *args, **kwargs)

    def perturbed(noise, scale):
        noises, scale = treedef.flatten_up_to(noise), jnp.asarray(scale)
        return [
            perturb(f"params{jax.tree_util.keystr(paths[i][0])}", base, scale, noises[i])
            for base, i in zip(bases, chosen, strict=True)
        ]

    return Traced(*_compat.trace(evaluation, bases), perturbed)
