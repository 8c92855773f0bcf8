"""Products of two arrays with named axes."""

import jax
import jax.numpy as jnp
from jax import lax

# Up to this many terms, a sum of outer products is written out: XLA fuses it into its consumer. A matrix
# product of so small a depth would be slower, and stored.
_UNROLLED = 16


def contract(
    a: jax.Array, a_names: tuple, b: jax.Array, b_names: tuple, out: tuple, precision=None
) -> jax.Array:
    """The sum over shared names outside `out`; the result's axes have the order of `out`.

    >>> import jax.numpy as jnp
    >>> contract(jnp.ones((2, 3)), ("i", "k"), jnp.ones((4, 3)), ("j", "k"), ("j", "i")).shape
    (4, 2)
    """
    summed = [n for n in a_names if n in b_names and n not in out]
    if summed == ["rank"] and a.shape[a_names.index("rank")] <= _UNROLLED:
        return _sum_of_products(a, a_names, b, b_names, out)
    batch = [n for n in a_names if n in b_names and n in out]
    dims = (
        ([a_names.index(n) for n in summed], [b_names.index(n) for n in summed]),
        ([a_names.index(n) for n in batch], [b_names.index(n) for n in batch]),
    )
    shared = {*summed, *batch}
    names = [*batch, *(n for n in (*a_names, *b_names) if n not in shared)]
    product = lax.dot_general(a, b, dims, precision=precision)
    return lax.transpose(product, [names.index(n) for n in out])


def _sum_of_products(a, a_names, b, b_names, out):
    sizes = dict(zip(a_names, a.shape, strict=True)) | dict(zip(b_names, b.shape, strict=True))
    shape = tuple(sizes[n] for n in out)

    def term(array, names, k):
        axis = names.index("rank")
        array = lax.index_in_dim(array, k, axis, keepdims=False)
        names = names[:axis] + names[axis + 1 :]
        order = sorted(range(len(names)), key=lambda i: out.index(names[i]))
        array = lax.transpose(array, order)
        return lax.broadcast_in_dim(array, shape, sorted(out.index(n) for n in names))

    terms = [term(a, a_names, k) * term(b, b_names, k) for k in range(sizes["rank"])]
    return sum(terms[1:], terms[0]) if terms else jnp.zeros(shape, a.dtype)
