"""The inputs of matrices: H'H A from one evaluation, beside the same written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax.implicit import Inputs, Read

RNG = np.random.RandomState(0)
H, K = RNG.randn(5, 4).astype(np.float32), 2
W, STACK = RNG.randn(4, 3).astype(np.float32), RNG.randn(3, 4, 4).astype(np.float32)


def bases(leaf, rows):
    """A and B of a leaf whose first `rows` axes are rows."""
    parts = leaf.shape[:rows], leaf.shape[rows:]
    return tuple(jnp.asarray(RNG.randn(K, *part), jnp.float32) for part in parts)


def stacked(w):
    def layer(h, w):
        return jnp.tanh(h @ w), None

    return jax.lax.scan(layer, jnp.asarray(H), w)[0]


def layers():
    """The inputs of each layer of `stacked`."""
    found = [H]
    for w in STACK[:-1]:
        found.append(np.tanh(found[-1] @ w))
    return np.stack(found)


# The loss, the matrix, the number of its row axes; how it is read, and the inputs (blocks, T, size).
CASES = {
    "product": (lambda w: H @ w, W, 1, Read(0, 4), H[None]),
    "transposed": (lambda w: (jnp.asarray(H) @ w.T, w[0]), W.T.copy(), 1, Read(1, 4), H[None]),
    "narrow": (
        lambda w: H.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16),
        W,
        1,
        Read(0, 4),
        np.asarray(jnp.asarray(H, jnp.bfloat16), np.float32)[None],
    ),
    "twice": (
        lambda w: H @ w + 2 * H[::-1] @ (3 * w),
        W,
        1,
        Read(0, 4),
        np.concatenate([H, 2 * H])[None],
    ),
    "inside": (
        lambda w: jax.jit(
            lambda w: jax.lax.cond(w[0, 0] > 9, lambda: H, lambda: H @ w @ jnp.ones((3, 4)))
        )(w),
        W,
        1,
        Read(0, 4),
        H[None],
    ),
    "layers": (stacked, STACK, 2, Read(0, 4), layers()),
    "heads": (
        lambda w: jnp.einsum("td,dhk->thk", H, w),
        STACK.transpose(1, 0, 2).copy(),
        1,
        Read(0, 4),
        H[None],
    ),
    "experts": (
        lambda w: jnp.einsum("etd,edf->etf", np.stack([H, 2 * H, -H]), w),
        STACK,
        2,
        Read(0, 4),
        np.stack([H, 2 * H, H]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_products_of_inputs(name):
    fun, w, rows, read, h = CASES[name]
    pair = bases(w, rows)
    inputs = Inputs(fun, jnp.asarray(w))
    assert inputs.reads(pair) == read
    found = inputs.products(pair)
    blocks = np.asarray(pair[read.side]).reshape(K, len(h), -1)
    expected = np.einsum("bti,btj,kbj->kbi", h, h, blocks)
    np.testing.assert_allclose(
        found[read.side].reshape(expected.shape), expected, rtol=2e-5, atol=1e-5
    )
    assert not np.any(found[1 - read.side])


def test_other_readers_have_no_inputs():
    """A lookup, a nonlinear function, and a matrix that meets another one."""

    def fun(p):
        return p["a"][jnp.array([0, 2])], jnp.exp(p["b"]) @ p["c"]

    params = {"a": jnp.asarray(W), "b": jnp.asarray(W), "c": jnp.ones((3, 2)), "d": jnp.ones(3)}
    pairs = {name: bases(params[name], 1) for name in "abc"} | {"d": None}
    reads = Inputs(fun, params).reads(pairs)
    assert reads == {"a": None, "b": None, "c": Read(0, 3), "d": None}
