"""Functions at perturbed parameters, without perturbed parameters.

A function is traced once at the parameters themselves. An interpreter then runs what was traced,
with each perturbed leaf replaced by `Perturbed(base, scale, noise)`:

- views (slices, gathers, transposes, reshapes, a layer's slice in `scan`) look through the same
  window at the base and at the noise, which is not computed;
- products with low-rank noise are taken factor by factor, so that under `vmap` over directions the
  product with the base is shared by all;
- any other operation materialises the operand it reads, where it reads it, and nothing else.
"""

from zojax._trees import PyTree
from zojax.implicit._explain import Event, Leaf, Report, explain, strict_context
from zojax.implicit._interpret import Context, require_noise, run
from zojax.implicit._rounding import settled_update

__all__ = ["Event", "Leaf", "Report", "evaluate", "explain", "settled_update"]


def evaluate(fun, params, noise, scale, *args, on_missing="materialise", **kwargs) -> PyTree:
    r""":math:`f(x + \mu z)`, without building :math:`x + \mu z`.

    Under `jax.vmap` over `noise` and `scale`, with `params` unbatched, low-rank noise shares every
    product with the parameters. Directions are not differentiated: custom derivative rules inside
    `fun` are ignored.

    With low-rank noise, products add :math:`\mu (x A) B^\top` in float32 (float64 for float64
    outputs) before rounding to the dtype of the product, so that a perturbation too small for a
    bfloat16 parameter survives. So it does where `fun` casts a parameter to bfloat16 or float16; a cast to
    8 bits or less is applied to the perturbed values, as it is written.

    Args:
      fun: any function that JAX can trace; it returns any pytree.
      params: pytree. Leaves that are not perturbed may be anything.
      noise: the tree of `params` with a noise object of the leaf's shape (`zojax.noise`) at
        perturbed leaves, which must be real floating point, and None at the others.
      scale: real scalar, may be traced.
      *args, **kwargs: passed on to `fun` as they are.
      on_missing: "materialise", or "error" to raise where noise with structure meets an operation
        that has no rule for it. See `explain`.

    Returns:
      fun(params + scale * noise, *args, **kwargs), equal to rounding. Call it inside `jit`, as the
      estimators do: outside, as any function of arrays, it runs operation by operation.

    Raises:
      ValueError: for an unknown `on_missing`, or noise that does not have the shape of its leaf.
      TypeError: for a leaf of `noise` that is no noise object.
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
    return run(context, fun, params, noise, scale, args, kwargs)
