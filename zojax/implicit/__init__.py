"""Functions at perturbed parameters, without perturbed parameters.

A function is traced once at the parameters themselves. An interpreter then runs the trace, with a
`Perturbed(base, scale, noise)` in place of each perturbed leaf:

- a view (a slice, a gather, a transpose, a layer's slice in `scan`) acts on the base and on the noise
  alike, and computes no noise;
- a product with low-rank noise is taken factor by factor: under `vmap`, all directions share the product
  with the base;
- any other operation materialises the one operand that it reads.

Each primitive of JAX has a rule. Add yours with `rule` or `view`; README.md in this folder shows how.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from zojax._trees import PyTree
from zojax.implicit import rules as rules  # registers the rules of JAX's primitives
from zojax.implicit._explain import explain, strict_context
from zojax.implicit._inputs import Inputs, Read
from zojax.implicit._perturbed import Part, Perturbed
from zojax.implicit._program import held_bytes, require_noise, run, traced
from zojax.implicit._registry import Rule, rule
from zojax.implicit._report import Event, Leaf, Report
from zojax.implicit._rounding import settled_update
from zojax.implicit._view import View, view
from zojax.implicit._walk import Context

__all__ = [
    "Context",
    "Event",
    "Inputs",
    "Leaf",
    "Part",
    "Perturbed",
    "Read",
    "Report",
    "Rule",
    "View",
    "evaluate",
    "explain",
    "points",
    "rule",
    "settled_update",
    "view",
]


def evaluate(
    fun: Callable[..., Any],
    params: PyTree,
    noise: PyTree,
    scale: Any,
    *args: Any,
    on_missing: str = "materialise",
    hold_in_loops: bool | None = None,
    **kwargs: Any,
) -> Any:
    r""":math:`f(x + \mu z)`, without building :math:`x + \mu z`.

    Under `jax.vmap` over `noise` and `scale`, with `params` unbatched, low-rank noise shares every
    product with the parameters. Directions are not differentiated: custom derivative rules inside
    `fun` are ignored.

    With low-rank noise, products add :math:`\mu (x A) B^\top` in float32 (float64 for float64 outputs)
    and round to the dtype of the product afterwards. A perturbation too small for a bfloat16 parameter
    survives. It also survives a cast of the parameter to bfloat16 or float16. A cast to 8 bits or fewer
    acts on the perturbed values, as written.

    Args:
      fun: any function that JAX can trace; it returns any pytree.
      params: pytree. Leaves that are not perturbed may be anything.
      noise: the tree of `params` with a noise object of the leaf's shape (`zojax.noise`) at
        perturbed leaves, which must be real floating point, and None at the others.
      scale: real scalar, may be traced.
      *args, **kwargs: passed on to `fun` as they are.
      on_missing: "materialise", or "error" to raise where noise with structure meets an operation
        without a rule for it. See `explain`.
      hold_in_loops: a loop of `fun` may read dense perturbed weights that it does not change. True perturbs
        them once, before the loop, and holds this copy. False perturbs them in each iteration: no copy, but
        more arithmetic. None holds up to 64 MiB a loop, the smallest first. Low-rank noise needs no copy.

    Returns:
      fun(params + scale * noise, *args, **kwargs), up to rounding. Call it inside `jit`, as the
      estimators do: outside, it runs operation by operation.

    Raises:
      ValueError: for an unknown `on_missing`, or noise without the shape of its leaf.
      TypeError: for a leaf of `noise` other than a noise object, or a `hold_in_loops` that is no bool.
      NotImplementedError: under `on_missing="error"`, naming the parameter and the operation.

    >>> import jax, jax.numpy as jnp, zojax
    >>> params = {"w": jnp.ones((3, 4)), "steps": 2}
    >>> noise = {"w": zojax.noise.StoredNoise(jnp.ones((3, 4))), "steps": None}
    >>> fun = lambda p, x: p["steps"] * (x @ p["w"])
    >>> zojax.implicit.evaluate(fun, params, noise, 0.5, jnp.ones(3))
    Array([9., 9., 9., 9.], dtype=float32)
    """
    if on_missing not in ("materialise", "error"):
        raise ValueError(f'on_missing must be "materialise" or "error", got {on_missing!r}.')
    require_noise(noise)
    context = Context() if on_missing == "materialise" else strict_context()
    context = replace(context, held_bytes=held_bytes(hold_in_loops))
    return run(context, fun, params, noise, scale, args, kwargs)


def points(
    fun: Callable[..., Any], params: PyTree, noise: PyTree, hold_in_loops: bool | None = None
) -> Callable[[PyTree, Any], Any]:
    r"""`at(noise, scale)`, the same as `evaluate(fun, params, noise, scale)` at several scales.

    What no perturbed leaf reaches is evaluated here, once for all points. In a `scan` over stacked
    layers with `noise.LateNoise`, these are the layers below the first one with noise, if the loop has
    a carry and stacks no outputs.

    Args:
      fun: a function of the parameters that JAX can trace.
      params: as in `evaluate`.
      noise: as in `evaluate`; `at` takes noise with the same leaves.
      hold_in_loops: as in `evaluate`.

    Returns:
      `at`, for the same trace.

    >>> import jax.numpy as jnp, zojax
    >>> params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    >>> noise = {"a": None, "b": zojax.noise.StoredNoise(jnp.ones(2))}
    >>> at = zojax.implicit.points(lambda p: jnp.sum(jnp.sin(p["a"]) ** 2 * p["b"]), params, noise)
    >>> [round(float(at(noise, scale)), 2) for scale in (1.0, -1.0)]
    [2.83, 0.0]
    """
    require_noise(noise)
    held = held_bytes(hold_in_loops)
    program = traced(fun, params, noise, 1.0, (), {})
    leaves = program.perturbed(noise, 1.0)
    known = Context().known_of(program.closed.jaxpr, program.closed.consts, leaves)

    def at(noise: PyTree, scale: Any) -> Any:
        return program.at(Context(held_bytes=held, known=known), noise, scale)

    return at
