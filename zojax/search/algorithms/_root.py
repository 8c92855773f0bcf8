"""The symmetric root of a covariance, a primitive: on the host it needs no eigenvectors."""

import jax
import jax.numpy as jnp
from jax.interpreters import batching, mlir

from zojax._jaxpr import Primitive


def symmetric_root(matrix: jax.Array) -> jax.Array:
    """C^(1/2) of C (d, d). Small eigenvalues stay above the resolution of the dtype."""
    return _root_p.bind(matrix)


def _root(matrix):
    values, basis = jnp.linalg.eigh(matrix)
    least = jnp.max(values, axis=-1, keepdims=True) * jnp.finfo(values.dtype).eps
    lengths = jnp.sqrt(jnp.maximum(values, least))
    return (basis * lengths[..., None, :]) @ jnp.swapaxes(basis, -1, -2)


_root_p = Primitive("symmetric_root")
_root_p.def_impl(jax.jit(_root))
_root_p.def_abstract_eval(lambda matrix: matrix)
mlir.register_lowering(_root_p, mlir.lower_fun(_root, multiple_results=False))
batching.primitive_batchers[_root_p] = lambda args, axes: (
    _root_p.bind(jnp.moveaxis(args[0], axes[0], 0)),
    0,
)
