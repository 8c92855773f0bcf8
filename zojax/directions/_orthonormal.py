"""QR of random matrices."""

import jax
import jax.numpy as jnp


@jax.custom_batching.sequential_vmap
def qr(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Q `(m, r)` and R `(r, r)` of one matrix `(m, r)`; `vmap` takes one matrix after another.

    Two batched decompositions at once may wait for each other for ever, on a CPU (JAX 0.10): each holds
    a thread of XLA's pool until the pool has done its batch.

    >>> q, r = qr(jnp.ones((3, 1)))
    >>> bool(jnp.allclose(q @ r, 1))
    True
    """
    q, r = jnp.linalg.qr(x)
    return q, r
