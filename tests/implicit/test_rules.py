"""Every rule alone: small functions, each named after the primitive and the view it exercises.

A case says what `explain` must find: the primitives through which dense and low-rank noise is kept,
and whether low-rank or dense noise has to be given up ("missing").
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl

from tests._numpy import by_numpy
from tests.implicit._helpers import close, each_of, materialised, noises, normal
from zojax import directions
from zojax.implicit import evaluate, explain


class Case(NamedTuple):
    name: str
    fun: object
    shape: tuple
    cut: int | None = 1  # the low-rank factors span the axes before and after; None: no low rank
    missing: str = ""  # kinds of noise that have no rule: "dense", "low_rank"
    kept: str = ""  # a primitive through which all structured noise is kept


def x(*shape):
    return normal(9, shape)


def dot(w, *shape, dims, flip=False):
    a, b = (w, x(*shape)) if flip else (x(*shape), w)
    return lax.dot_general(a, b, dims)


def conv(w, spec, lhs, strides=(1, 1), padding="SAME", **options):
    return lax.conv_general_dilated(x(*lhs), w, strides, padding, dimension_numbers=spec, **options)


def weight_norm(w, *axes):
    """One length for each output, perturbed as the weights are."""
    return w * lax.rsqrt(jnp.sum(w * w, axes, keepdims=True) + 0.1)


def standardised(w):
    return (w - jnp.mean(w, 0)) / (jnp.std(w, 0) + 0.1)


def ragged(w, sizes):
    return lax.ragged_dot(x(7, 4), w, jnp.array(sizes))


def quantised(s, zero=0.0):
    """Integer weights times perturbed scales of the columns."""
    return x(3, 4) @ ((jnp.asarray(INTEGERS).astype(s.dtype) - zero) * s)


def grouped(s):
    """Integer weights times perturbed scales of groups of two rows."""
    weights = jnp.asarray(INTEGERS).reshape(2, 2, 5).astype(s.dtype) * s[:, None]
    return x(1, 4) @ weights.reshape(4, 5)


def layer(h, w):
    return jnp.tanh(h @ w), w[0]


def to_8_bits(w):
    return w.astype(jnp.float8_e4m3fn).astype(jnp.float32)


def row(w, i):
    return w[i]


def kernel(w):
    """No other platform can lower it."""

    def body(w, out):
        out[...] = w[:3]

    return pl.pallas_call(body, out_shape=jax.ShapeDtypeStruct((3, 4), w.dtype))(w)


def windows(w, start, size):
    return jax.vmap(lambda i: lax.dynamic_slice(w, start(i), size))(INDEX[:, 0])


H = x(2, 4)
INDEX = np.array([[3, 0], [1, 1], [2, 3]])
INTEGERS = np.arange(-10, 10, dtype=np.int8).reshape(4, 5)
NUMBER = jnp.float32(1.7)
ROWS, COLUMNS, ENTRIES = x(4, 1) > 0, x(5) > 0, x(4, 5) > 0
DYNAMIC = jnp.array(2)  # a traced index: captured, so a constant of the jaxpr
NHWC, NCHW = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")

# These keep low-rank noise only.
FOR_LOW_RANK = "add conv_general_dilated dot_general ragged_dot_general reduce_sum".split()

CASES = [
    # multiples
    Case("times a number", lambda w: x(3, 4) @ (0.5 * w), (4, 5), kept="mul"),
    Case("times a traced number", lambda w: x(3, 4) @ (w * NUMBER), (4, 5), kept="mul"),
    Case("over a number", lambda w: (w / NUMBER)[INDEX[:, 0]], (4, 5), kept="div"),
    Case("negative", lambda w: x(3, 4) @ -w, (4, 5), kept="neg"),
    Case("number over", lambda w: x(3, 4) @ (NUMBER / (2 + w**2)), (4, 5), missing="low_rank"),
    Case("times itself", lambda w: x(3, 4) @ (w * w), (4, 5), missing="low_rank"),
    Case("over itself", lambda w: x(3, 4) @ (w / w), (4, 5), missing="low_rank"),
    Case("less itself", lambda w: x(3, 4) @ (w - w), (4, 5), missing="low_rank"),
    Case("and itself", lambda w: x(3, 4) @ (w + w), (4, 5)),
    Case("times an array", lambda w: x(1, 4) @ (w * x(4, 5)), (4, 5), kept="dot_general"),
    Case("times columns", lambda w: x(3, 4) @ (w * x(5)), (4, 5), kept="dot_general"),
    Case("times rows", lambda w: x(3, 4) @ (w * x(4, 1)), (4, 5), kept="dot_general"),
    Case("times both", lambda w: x(3, 5) @ (w * x(4, 1) / x(5)).T, (4, 5), kept="dot_general"),
    Case("times a broadcast",
         lambda w: x(3, 4) @ (w * jnp.broadcast_to(x(5), (4, 5))), (4, 5), kept="dot_general"),
    Case("weight norm then lookup",
         lambda w: jnp.take(weight_norm(w, 0), INDEX, axis=0) * x(5), (4, 5)),
    Case("square then fills nine",
         lambda w: jnp.sum(jnp.take(w**2, INDEX + 2, axis=0, mode="fill", fill_value=9)), (4, 5), 1,
         "low_rank"),
    Case("weight norm then fills nine",
         lambda w: jnp.take(weight_norm(w, 0), INDEX + 2, axis=0, fill_value=9), (4, 5), 1,
         "low_rank"),
    Case("weight norm then pad",
         lambda w: x(3, 6) @ jnp.pad(weight_norm(w, 0), 1, constant_values=3), (4, 5), 1,
         kept="dot_general"),
    Case("weight norm then mixes", lambda w: x(3, 4) @ weight_norm(w, 1).reshape(2, 2, 5).reshape(4, 5),
         (4, 5), kept="dot_general"),
    Case("weight norm then scan",
         lambda w: lax.scan(lambda h, w: (h + x(3, 4) @ w, 0), x(3, 5), weight_norm(w, 1))[0],
         (3, 4, 5), 2, kept="dot_general"),
    Case("heads times depths",
         lambda w: jnp.einsum("bi,ihk->bhk", x(3, 4), w * x(2, 1)), (4, 2, 3), kept="dot_general"),
    Case("weight norm", lambda w: x(3, 4) @ weight_norm(w, 0), (4, 5), kept="reduce_sum"),
    Case("weight norm of rows", lambda w: x(3, 4) @ weight_norm(w, 1), (4, 5), kept="reduce_sum"),
    Case("spectral norm", lambda w: x(3, 4) @ (w / (x(4) @ w @ x(5))), (4, 5), kept="div"),
    Case("standardised", lambda w: x(3, 4) @ standardised(w), (4, 5), kept="reduce_sum"),
    Case("penalty", lambda w: jnp.sum(w**2) + jnp.mean(jnp.square(w)), (4, 5), kept="reduce_sum"),
    Case("penalty of scaled", lambda w: jnp.sum((w * x(5)) ** 2, 1), (4, 5), kept="reduce_sum"),
    Case("prior", lambda w: jnp.sum(-(((w - 0.3) / 2.0) ** 2) / 2), (4, 5), kept="reduce_sum"),
    Case("penalty of columns", lambda w: jnp.sum(w**2 * x(5), 0) * x(5), (4, 5), kept="reduce_sum"),
    Case("penalty of both",
         lambda w: jnp.sum(w**2 * x(4, 1) / x(5), 0), (4, 5), missing="low_rank"),
    Case("squares", lambda w: -(2 * w**2).T, (4, 5), missing="low_rank"),
    Case("square of square", lambda w: jnp.sum((w**2) ** 2), (4, 5), missing="low_rank"),
    Case("quantised", quantised, (5,), None),
    Case("quantised with zero point", lambda s: quantised(s, 3.0), (5,), None),
    # sums and masks
    Case("sum of weights",
         lambda w: x(3, 4) @ (w + 2 * w[::-1] - 0.5), (4, 5), 1, kept="dot_general"),
    Case("sum with transpose", lambda w: x(3, 4) @ (w - w.T), (4, 4), 1, kept="dot_general"),
    Case("sum with array", lambda w: x(3, 4) @ (x(4, 5) - w), (4, 5), kept="dot_general"),
    Case("sum across", lambda w: x(3, 4) @ (w + w.reshape(20).reshape(4, 5)), (4, 5), 1,
         "dense low_rank"),
    Case("low-rank adapter", lambda w: x(3, 4) @ (x(4, 4) + w @ w.T), (4, 5), kept="add"),
    Case("mask of rows", lambda w: x(3, 4) @ jnp.where(ROWS, w, 0), (4, 5), kept="dot_general"),
    Case("mask of columns", lambda w: x(3, 4) @ jnp.where(COLUMNS, 2.0, w), (4, 5),
         kept="dot_general"),
    Case("choice of weights", lambda w: x(3, 4) @ jnp.where(ROWS, w, w[::-1]), (4, 5), 1,
         kept="dot_general"),
    Case("mask of entries", lambda w: x(1, 4) @ jnp.where(ENTRIES, w, 2), (4, 5), kept="dot_general"),
    Case("mask then sum", lambda w: x(1, 5) @ (x(4, 5) - w / x(4, 5)).T, (4, 5), kept="dot_general"),
    Case("mask of heads", lambda w: jnp.einsum("bi,ihk->bhk", x(1, 4), w * x(4, 2, 3)), (4, 2, 3), 2,
         missing="low_rank"),
    Case("mask of two weights", lambda w: x(3, 4) @ jnp.where(ENTRIES, w, w[::-1]), (4, 5),
         missing="low_rank"),
    Case("mask of a direction",
         lambda w: x(3, 4) @ jnp.where(w[0, 0] * ENTRIES > 0, w, 0), (4, 5), missing="low_rank"),
    Case("mask then scale", lambda w: x(1, 4) @ (-(w * x(4, 5)) * x(4, 1)), (4, 5), kept="dot_general"),
    Case("mask then lookup", lambda w: (w * x(4, 5))[INDEX[:, 0]], (4, 5)),
    Case("mask of a small weight", lambda w: x(30, 4) @ (w * x(4, 5)), (4, 5)),
    Case("triangle", lambda w: x(1, 4) @ jnp.tril(w), (4, 5), kept="dot_general"),
    Case("scales of groups", lambda w: x(1, 6) @ (w.reshape(2, 3, 4) * x(2, 1, 4)).reshape(6, 4), (6, 4),
         kept="dot_general"),
    Case("quantised by groups", grouped, (2, 5), kept="dot_general"),
    # products
    Case("dot x@w", lambda w: x(3, 4) @ w, (4, 5), kept="dot_general"),
    Case("dot then slice", lambda w: (x(3, 4) @ w)[:-1, 1:], (4, 5), kept="dot_general"),
    Case("dot w@x", lambda w: w @ x(5, 2), (4, 5), kept="dot_general"),
    Case("dot vector", lambda w: x(4) @ w, (4, 5)),
    Case("dot batched x", lambda w: x(2, 3, 4) @ w, (4, 5)),
    Case("dot batch axis left", lambda w: jnp.einsum("ebc,ecf->ebf", x(3, 2, 4), w), (3, 4, 5), 2),
    Case("dot batch axis alone", lambda w: jnp.einsum("ebc,ecf->ebf", x(3, 2, 4), w), (3, 4, 5)),
    Case("dot batch axis right", lambda w: jnp.einsum("ebc,cfe->ebf", x(3, 2, 4), w), (4, 5, 3)),
    Case("dot contracts both", lambda w: jnp.einsum("bij,ijk->bk", x(2, 3, 4), w), (3, 4, 5)),
    Case("dot contracts left", lambda w: jnp.einsum("bij,ijk->bk", x(2, 3, 4), w), (3, 4, 5), 2),
    Case("dot contracts all", lambda w: jnp.einsum("bij,ij->b", x(2, 3, 4), w), (3, 4)),
    Case("dot heads", lambda w: jnp.einsum("btd,dhk->bthk", x(2, 3, 4), w), (4, 2, 3)),
    Case("dot outer", lambda w: dot(w, 3, dims=(((), ()), ((), ()))), (4, 5)),
    Case("dot ravelled", lambda w: jnp.vdot(w, x(4, 5)) + x(20) @ (w * x(5)).ravel(), (4, 5), 1, "dense"),
    Case("dot ravelled with itself", lambda w: jnp.vdot(w, w + x(4, 5)), (4, 5), 1, "dense"),
    Case("dot ravelled to a matrix", lambda w: x(3, 20) @ w.ravel(), (4, 5), 1, "dense low_rank"),
    Case("dot w on both sides", lambda w: x(3, 5) @ (w.T @ w), (4, 5)),
    Case("dot w with itself", lambda w: jnp.einsum("ij,ij->i", w, w), (4, 5)),
    Case("dot w lookup", lambda w: w[INDEX[:, 0]] @ w.T, (4, 5)),
    Case("dot w chain", lambda w: (w @ x(5, 4)) @ w, (4, 5)),
    Case("dot after convert", lambda w: x(3, 4) @ w.astype(jnp.float32), (4, 5)),
    Case(
        "dot preferred type",
        lambda w: lax.dot_general(
            x(3, 4), w, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32
        ),
        (4, 5),
    ),
    Case("dot precision", lambda w: jnp.dot(x(3, 4), w, precision="highest"), (4, 5)),
    Case("conv HWIO",
         lambda w: conv(w, NHWC, (2, 5, 5, 3)), (3, 3, 3, 4), 3, kept="conv_general_dilated"),
    Case("conv OIHW", lambda w: conv(w, NCHW, (2, 3, 5, 5)), (4, 3, 3, 3), 1),
    Case("conv strides",
         lambda w: conv(w, NHWC, (2, 5, 5, 3), rhs_dilation=(2, 2)), (3, 3, 3, 4), 3),
    Case("conv spatial cut",
         lambda w: conv(w, NHWC, (2, 5, 6, 3), (2, 1)), (3, 2, 3, 4), 2,
         kept="conv_general_dilated"),
    Case("conv to fewer channels",
         lambda w: conv(w, NHWC, (2, 5, 6, 6), (2, 1), feature_group_count=2), (3, 2, 3, 4), 2,
         kept="conv_general_dilated"),
    Case("conv to fewer channels OIHW",
         lambda w: conv(w, NCHW, (2, 3, 5, 6), lhs_dilation=(2, 1), padding=[(1, 0), (2, 1)]),
         (2, 3, 3, 2), 2, kept="conv_general_dilated"),
    Case("conv cut in space",
         lambda w: conv(w, NHWC, (2, 5, 6, 3), (2, 3), rhs_dilation=(2, 1)), (3, 2, 3, 4), 1,
         kept="conv_general_dilated"),
    Case("conv spatial cut OIHW",
         lambda w: conv(w, NCHW, (2, 3, 5, 6), padding=[(1, 0), (2, 1)]), (4, 3, 3, 2), 2,
         kept="conv_general_dilated"),
    Case("conv input alone",
         lambda w: conv(w, ("NHWC", "IHWO", "NHWC"), (2, 5, 6, 3), (1, 2)), (3, 2, 3, 4), 1,
         kept="conv_general_dilated"),
    Case("conv groups",
         lambda w: conv(w, NHWC, (2, 5, 5, 4), feature_group_count=2), (3, 3, 2, 6), 3,
         kept="conv_general_dilated"),
    Case("conv groups cut in space",
         lambda w: conv(w, NCHW, (2, 4, 5, 6), feature_group_count=2), (6, 2, 3, 2), 3,
         kept="conv_general_dilated"),
    Case("conv groups spatial cut",
         lambda w: conv(w, NHWC, (2, 5, 6, 4), feature_group_count=2), (3, 2, 2, 6), 2,
         kept="conv_general_dilated"),
    Case("conv groups input alone",
         lambda w: conv(w, ("NHWC", "IHWO", "NHWC"), (2, 5, 6, 4), feature_group_count=2),
         (2, 2, 3, 4), 1, kept="conv_general_dilated"),
    Case("conv depthwise",
         lambda w: conv(w, NHWC, (2, 5, 6, 4), feature_group_count=4), (3, 3, 1, 8), 2),
    Case("conv depthwise times outputs",
         lambda w: conv(weight_norm(w, 0, 1, 2), NCHW, (2, 4, 5, 6), feature_group_count=4),
         (8, 1, 3, 3), 1),
    Case("conv transposed",
         lambda w: lax.conv_transpose(x(2, 4, 5, 3), w, (2, 2), "SAME", transpose_kernel=True),
         (3, 2, 4, 3), 3, kept="conv_general_dilated"),
    Case("conv times outputs", lambda w: conv(w * x(4), NHWC, (2, 5, 5, 3)), (3, 3, 3, 4), 3,
         kept="conv_general_dilated"),
    Case("conv times both",
         lambda w: conv(weight_norm(w, 0, 1, 3) * x(4), NHWC, (2, 5, 5, 3)), (3, 3, 3, 4), 3,
         kept="conv_general_dilated"),
    Case("conv weight norm",
         lambda w: conv(weight_norm(w, 0, 1, 2), NHWC, (2, 5, 5, 3)), (3, 3, 3, 4), 3,
         kept="conv_general_dilated"),
    Case("conv kernel of the gradient",
         lambda w: jax.grad(lambda k: jnp.sum(conv(k, NHWC, (2, 4, 4, 3)) * w))(x(2, 2, 3, 4)),
         (2, 4, 4, 4), 3, "low_rank"),
    Case("ragged_dot", lambda w: ragged(w, [2, 3, 2]), (3, 4, 5), 2, kept="ragged_dot_general"),
    Case("ragged_dot leftover", lambda w: ragged(w, [2, 0, 3]), (3, 4, 5), 2,
         kept="ragged_dot_general"),
    Case("ragged_dot transposed", lambda w: ragged(w.transpose(1, 0, 2), [2, 3, 2]), (4, 3, 5), 1,
         kept="ragged_dot_general"),
    Case("ragged_dot experts alone", lambda w: ragged(w, [2, 3, 2]), (3, 4, 5), 1,
         kept="ragged_dot_general"),
    Case("ragged_dot of a derivative",
         lambda w: jax.grad(lambda x: jnp.sum(jnp.sin(lax.ragged_dot(x, w, INDEX[:, 0]))))(x(7, 4)),
         (3, 4, 5), 2, kept="ragged_dot_general"),
    Case("ragged_dot batched",
         lambda w: jax.vmap(lax.ragged_dot)(x(2, 7, 4), w, np.array([[2, 3, 2], [1, 0, 4]])),
         (2, 3, 4, 5), 3, kept="ragged_dot_general"),
    Case("ragged_dot batch alone",
         lambda w: jax.vmap(lax.ragged_dot)(x(2, 7, 4), w, np.array([[2, 3, 2], [1, 0, 4]])),
         (2, 3, 4, 5), 1, "low_rank"),
    Case("conv w as input",
         lambda w: lax.conv(w, x(2, 3, 2, 2), (1, 1), "SAME"), (2, 3, 4, 4), 2, "low_rank"),
    # views
    Case("transpose", lambda w: x(3, 5) @ w.T, (4, 5), kept="transpose"),
    Case("transpose leading", lambda w: x(3, 2) @ w.transpose(1, 0, 2), (2, 4, 5), 2),
    Case("transpose across", lambda w: x(2, 3, 5) @ w.transpose(0, 2, 1), (2, 4, 5), 2),
    Case("slice leading", lambda w: x(3, 2) @ w[1:3], (4, 5), kept="slice"),
    Case("slice strided", lambda w: x(3, 2) @ w[::2], (4, 5), kept="slice"),
    Case("slice columns", lambda w: x(3, 4) @ w[:, 1:4], (4, 5), kept="slice"),
    Case("slice columns strided", lambda w: x(3, 4) @ w[:, ::2], (4, 5), kept="slice"),
    Case("slice columns twice", lambda w: x(3, 4) @ w[:, 1:][:, 1:3], (4, 5), kept="slice"),
    Case("slice both", lambda w: x(3, 2) @ w[1:3, 2:], (4, 5), kept="slice"),
    Case("split columns",
         lambda w: sum(x(3, 4) @ p for p in jnp.split(w, 3, 1)), (4, 6), kept="split"),
    Case("split rows",
         lambda w: sum(x(3, 2) @ p for p in jnp.split(w, 2, 0)), (4, 6), kept="split"),
    Case("rev leading", lambda w: x(3, 4) @ w[::-1], (4, 5), kept="rev"),
    Case("rev columns", lambda w: x(3, 4) @ w[:, ::-1], (4, 5), kept="rev"),
    Case("dynamic_slice layer", lambda w: x(3, 4) @ w[DYNAMIC], (3, 4, 5), 2, kept="dynamic_slice"),
    Case("dynamic_slice alone", lambda w: x(3, 4) @ w[DYNAMIC], (3, 4, 5), 1, kept="dynamic_slice"),
    Case(
        "dynamic_slice both",
        lambda w: x(3, 2) @ lax.dynamic_slice(w, (DYNAMIC, DYNAMIC), (2, 3)),
        (4, 5),
        kept="dynamic_slice",
    ),
    Case(
        "dynamic_slice clamps",
        lambda w: x(3, 2) @ lax.dynamic_slice(w, (DYNAMIC + 5, 0), (2, 5)),
        (4, 5),
        kept="dynamic_slice",
    ),
    Case("squeeze", lambda w: x(3, 4) @ w.squeeze(0), (1, 4, 5), kept="squeeze"),
    Case("squeeze last", lambda w: w.squeeze(-1) @ x(4), (3, 4, 1), 1, kept="squeeze"),
    Case("static index", lambda w: x(3, 4) @ w[1], (3, 4, 5), 2, kept="squeeze"),
    Case("static column", lambda w: w[:, 2] * x(4), (4, 5)),
    Case("dynamic column", lambda w: w[:, DYNAMIC] * x(4), (4, 5)),
    Case("reshape leading", lambda w: x(3, 8) @ w.reshape(8, 5), (2, 4, 5), 2, kept="reshape"),
    Case("reshape splits", lambda w: x(3, 2) @ w.reshape(2, 2, 5)[1], (4, 5), kept="reshape"),
    Case("reshape last",
         lambda w: jnp.einsum("bi,ihk->bhk", x(3, 4), w.reshape(4, 2, 3)), (4, 6), kept="reshape"),
    Case("reshape units",
         lambda w: x(3, 4) @ w.reshape(1, 4, 1, 5)[0, :, 0], (4, 5), kept="reshape"),
    Case("reshape mixes", lambda w: jnp.sin(w.reshape(-1)) * x(20), (4, 5), 1, "dense low_rank"),
    Case("reshape regroups", lambda w: x(3, 5) @ w.reshape(5, 4), (4, 5), 1, "dense low_rank"),
    Case("broadcast new axis",
         lambda w: x(2, 3, 4) @ jnp.broadcast_to(w, (2, 4, 5)), (4, 5), kept="dot_general"),
    Case("broadcast unit",
         lambda w: x(2, 3, 4) @ jnp.broadcast_to(w, (2, 4, 5)), (1, 4, 5), 2, kept="dot_general"),
    Case("expand_dims", lambda w: x(1, 3, 4) @ w[None], (4, 5), kept="broadcast_in_dim"),
    Case("convert", lambda w: w.astype(jnp.bfloat16).astype(jnp.float32) @ x(5), (4, 5), None),
    Case("convert to 8 bits", lambda w: to_8_bits(w) @ x(5), (4, 5), 1, "low_rank"),
    Case("convert to int", lambda w: (10 * w).astype(int) + w.astype(int), (4, 5), 1, "low_rank"),
    Case("unstack", lambda w: sum(x(3, 4) @ p for p in jnp.unstack(w)), (3, 4, 5), 2,
         kept="unstack"),
    Case("unstack columns", lambda w: sum(w @ x(5) for w in jnp.unstack(w, axis=2)), (4, 5, 3), 1,
         kept="unstack"),
    Case("tile", lambda w: x(3, 8) @ jnp.tile(w, (2, 3)), (4, 5), 1, kept="dot_general"),
    Case("pad", lambda w: x(3, 7) @ jnp.pad(w, ((1, 2), (0, 1))), (4, 5), 1, "dense",
         kept="dot_general"),
    # assembly
    Case("concatenate columns",
         lambda w: x(3, 4) @ jnp.concatenate([w, x(4, 2), 2 * w], 1), (4, 5), 1, "dense",
         kept="dot_general"),
    Case("concatenate rows",
         lambda w: x(3, 9) @ jnp.concatenate([w, w[1:], w[0][None], x(1, 5)]), (4, 5), 1, "dense",
         kept="dot_general"),
    Case("concatenate without entries",
         lambda w: x(3, 4) @ jnp.concatenate([w[:0], 2 * w[:1], w[1:]]), (4, 5), 1, "dense",
         kept="dot_general"),
    Case("concatenate then transpose",
         lambda w: x(3, 5) @ jnp.concatenate([w, w[::-1]]).T, (4, 5), 1, "dense",
         kept="dot_general"),
    Case("concatenate in a loop",
         lambda w: lax.scan(lambda h, _: (jnp.tanh(h @ jnp.concatenate([w, -w], 1)), 0), H, None, 2),
         (4, 2), 1, "dense", kept="dot_general"),
    Case("concatenate vectors", lambda w: x(3, 10) @ jnp.concatenate([w, w]), (5,), None),
    Case("concatenate across",
         lambda w: jnp.concatenate([w, w.reshape(20).reshape(4, 5)]), (4, 5), 1, "dense low_rank"),
    Case("stack", lambda w: jnp.einsum("bi,kij->bkj", x(3, 4), jnp.stack([w, 2 * w])), (4, 5), 1,
         "dense", kept="dot_general"),
    Case("stack last",
         lambda w: jnp.einsum("bi,ijk->bkj", x(3, 4), jnp.stack([w, w], 2)), (4, 5), 1, "dense",
         kept="dot_general"),
    Case("roll", lambda w: x(3, 4) @ jnp.roll(w, 1, 1), (4, 5), 1, "dense", kept="dot_general"),
    Case("set a row", lambda w: x(3, 4) @ w.at[1].set(2.0), (4, 5), 1, "dense", kept="dot_general"),
    Case("set rows", lambda w: x(3, 4) @ w.at[INDEX[:2, 0]].set(w[:2]), (4, 5), 1, "dense",
         kept="dot_general"),
    Case("set columns", lambda w: x(3, 4) @ w.at[:, INDEX[:2, 0]].set(0.0), (4, 5), 1, "dense",
         kept="dot_general"),
    Case("set a block",
         lambda w: x(3, 4) @ w.at[1:3, 2:4].set(w[:2, :2]), (4, 5), 1, "dense",
         kept="dot_general"),
    Case("set out of bounds", lambda w: x(3, 4) @ w.at[DYNAMIC + 5].set(1.0), (4, 5), 1, "dense",
         kept="dot_general"),
    Case("set in zeros", lambda w: x(3, 8) @ jnp.zeros((8, 7)).at[:4, 1:6].set(w), (4, 5), 1,
         "dense", kept="dot_general"),
    Case("set rows in zeros", lambda w: x(3, 8) @ jnp.zeros((8, 5)).at[np.array([6, 1, 3, 4])].set(w),
         (4, 5), 1, "dense", kept="dot_general"),
    Case("set entries", lambda w: w.at[INDEX, INDEX + 1].set(0.0), (4, 5), 1, "dense low_rank"),
    Case("add rows in zeros",
         lambda w: x(3, 8) @ jnp.zeros((8, 5)).at[np.array([6, 1, 1, 4])].add(w), (4, 5), 1,
         "dense", kept="dot_general"),
    Case("update a block",
         lambda w: x(3, 4) @ lax.dynamic_update_slice(w, 2 * w[:2, :2], (DYNAMIC, 1)), (4, 5), 1,
         "dense", kept="dot_general"),
    Case("update rows",
         lambda w: x(3, 4) @ lax.dynamic_update_slice(w, x(2, 5), (DYNAMIC, 0)), (4, 5), 1,
         "dense", kept="dot_general"),
    # lookups
    Case("gather rows", lambda w: w[INDEX] * x(3, 2, 5), (4, 5), kept="gather"),
    Case("gather take", lambda w: jnp.take(w, INDEX, axis=0), (4, 5), kept="gather"),
    Case("gather take clip",
         lambda w: jnp.take(w, INDEX + 2, axis=0, mode="clip"), (4, 5), kept="gather"),
    Case("gather fills nan",
         lambda w: jnp.nan_to_num(jnp.take(w, INDEX + 2, axis=0)), (4, 5), kept="gather"),
    Case(
        "gather fills zero",
        lambda w: jnp.take(w, INDEX + 2, axis=0, mode="fill", fill_value=0) + x(3, 2, 5),
        (4, 5),
        1,
        "dense",
    ),
    Case(
        "gather fills nine",
        lambda w: jnp.take(w, INDEX + 2, axis=0, mode="fill", fill_value=9) + x(3, 2, 5),
        (4, 5),
        1,
        "dense",
    ),
    Case("gather columns", lambda w: w[:, INDEX] * x(4, 3, 2), (4, 5), kept="gather"),
    Case("gather windows",
         lambda w: windows(w, lambda i: (i, 0), (2, 5)) * x(3, 2, 5), (4, 5), kept="gather"),
    Case("gather windows of both",
         lambda w: windows(w, lambda i: (i, i), (2, 2)) * x(3, 2, 2), (4, 5), 1, "dense low_rank"),
    Case("gather entries", lambda w: w[INDEX, INDEX + 1] * x(3, 2), (4, 5), 1, "dense low_rank"),
    Case("gather experts",
         lambda w: jnp.einsum("bi,bij->bj", x(3, 4), w[INDEX[:, 0]]), (4, 4, 5), 2, kept="gather"),
    Case("gather experts alone",
         lambda w: jnp.einsum("bi,bij->bj", x(3, 4), w[INDEX[:, 0]]), (4, 4, 5), 1),
    Case("gather two leading",
         lambda w: w[INDEX, INDEX % 2] * x(3, 2, 5), (4, 2, 5), 2, kept="gather"),
    Case("gather batched",
         lambda w: jax.vmap(row)(w, INDEX[:, 0]) * x(3, 5), (3, 4, 5), 2, kept="gather"),
    Case("gather then product", lambda w: w[INDEX] @ x(5, 3), (4, 5), kept="dot_general"),
    # identities
    Case("copy", lambda w: x(3, 4) @ jnp.copy(w), (4, 5), kept="dot_general"),
    Case("barrier",
         lambda w: x(3, 4) @ lax.optimization_barrier((w, w))[1], (4, 5), kept="dot_general"),
    Case("stop_gradient", lambda w: x(3, 4) @ lax.stop_gradient(w), (4, 5), kept="dot_general"),
    Case("device_put", lambda w: x(3, 4) @ jax.device_put(w), (4, 5), kept="dot_general"),
    Case("name", lambda w: x(3, 4) @ checkpoint_name(w, "w"), (4, 5), kept="dot_general"),
    # no rule
    Case("elementwise", lambda w: jnp.tanh(w) * w, (4, 5), 1, "low_rank"),
    Case("elementwise broadcast", lambda w: x(2, 4, 5) + w, (4, 5)),
    Case("vector", lambda w: x(3, 5) * w + w, (5,), None),
    Case("unit matrix", lambda w: x(3, 5) * w, (1, 5)),
    Case("scalar", lambda w: x(3) * w, (), None),
    Case("reduction", lambda w: jnp.max(w), (4, 5), 1, "low_rank"),
    Case("sum", lambda w: jnp.sum(w, 1) * x(4) + jnp.mean(w), (4, 5), kept="reduce_sum"),
    Case("output", lambda w: (w, w.T), (4, 5), 1, "dense low_rank"),
    Case("unused", lambda w: x(3), (4, 5)),
    Case("sort", lambda w: jnp.sort(w), (4, 5), 1, "low_rank"),
    # control flow
    Case("jit", lambda w: jax.jit(lambda w: x(3, 5) @ w.T)(w), (4, 5), kept="dot_general"),
    Case("jit returns view",
         lambda w: x(3, 5) @ jax.jit(jnp.transpose)(w), (4, 5), kept="dot_general"),
    Case("remat",
         lambda w: jax.checkpoint(lambda w: jnp.sin(x(3, 4) @ w))(w), (4, 5), kept="dot_general"),
    Case("scan xs",
         lambda w: lax.scan(layer, H, w), (3, 4, 4), 2, kept="scan"),
    Case("scan xs alone",
         lambda w: lax.scan(lambda h, w: (h @ w, ()), x(2, 4), w)[0], (3, 4, 4), 1, kept="scan"),
    Case("scan xs last", lambda w: lax.scan(lambda h, w: (h * w, ()), 1.0, w)[0], (5,), None),
    Case("scan reverse",
         lambda w: lax.scan(lambda h, w: (h @ w, ()), x(2, 4), w, reverse=True)[0], (3, 4, 4), 2),
    Case("scan unroll",
         lambda w: lax.scan(lambda h, w: (h @ w, ()), x(2, 4), w, unroll=3)[0], (3, 4, 4), 2),
    Case("scan consts",
         lambda w: lax.scan(lambda h, _: layer(h, w), H, None, 3)[0], (4, 4), kept="dot_general"),
    Case("scan carry",
         lambda w: lax.scan(lambda w, _: (w * 2, ()), w, None, 2)[0], (4, 4), 1, "dense low_rank"),
    Case("scan nested",
         lambda w: lax.scan(lambda h, w: lax.scan(layer, h, w), H, w)[0], (2, 3, 4, 4), 3,
         kept="scan"),
    Case("map", lambda w: lax.map(lambda x: x @ w, x(3, 2, 4)), (4, 5), kept="dot_general"),
    Case("fori_loop",
         lambda w: lax.fori_loop(0, 3, lambda i, h: layer(h, w[i])[0], H), (3, 4, 4), 2,
         kept="dot_general"),
    Case("while",
         lambda w: lax.while_loop(lambda h: jnp.sum(h @ w) < 9, lambda h: h + jnp.abs(h @ w), H),
         (4, 4), kept="dot_general"),
    Case("while carry",
         lambda w: lax.while_loop(lambda w: jnp.sum(w**2) < 9, lambda w: 2 * w, w), (4, 4), 1,
         "dense low_rank"),
    Case("cond",
         lambda w: lax.cond(DYNAMIC > 1, lambda h: h @ w, lambda h: h @ w.T, H), (4, 4),
         kept="dot_general"),
    Case("cond returns",
         lambda w: lax.cond(DYNAMIC > 1, lambda w: w, jnp.transpose, w), (4, 4), 1,
         "dense low_rank"),
    Case("switch",
         lambda w: lax.switch(DYNAMIC, [jnp.dot, lambda x, w: x @ w.T, jnp.dot], x(4), w), (4, 4),
         kept="dot_general"),
    Case("platform_dependent",
         lambda w: lax.platform_dependent(w, tpu=kernel, default=lambda w: x(3, 4) @ w), (4, 4), 1,
         "low_rank", kept="dot_general"),
    Case("custom_jvp",
         lambda w: jax.nn.relu(x(3, 4) @ w) + _custom_jvp(w), (4, 5), kept="dot_general"),
    Case("custom_vjp", lambda w: _custom_vjp(w), (4, 5), kept="dot_general"),
    Case("vmap of examples",
         lambda w: jax.vmap(lambda x: jnp.tanh(x @ w) @ w.T)(x(3, 4)), (4, 5), kept="dot_general"),
    Case("grad inside",
         lambda w: jax.grad(lambda h: jnp.sum(jnp.tanh(h @ w)))(x(3, 4)), (4, 5),
         kept="dot_general"),
]  # fmt: skip


@jax.custom_jvp
def _custom_jvp(w):
    return x(3, 4) @ w


@jax.custom_vjp
def _custom_vjp(w):
    return x(3, 4) @ w


_custom_jvp.defjvp(lambda p, t: (p, t))
_custom_vjp.defvjp(lambda w: (_custom_vjp(w), w), lambda w, t: (w,))

cases = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name.replace(" ", "-"))


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@cases
def test_equals_materialised(case, every):
    """Dense and low-rank noise, and every third time one of the other kinds; or all kinds, compiled."""
    w, kinds = normal(1, case.shape), noises(case.shape, case.cut)
    if not every:
        turn, none = divmod(CASES.index(case), 3)
        others = [k for k in kinds if k not in ("rows", "low_rank")]
        kept = {"rows", "low_rank"} | ({others[turn % len(others)]} if not none else set())
        kinds = {k: z for k, z in kinds.items() if k in kept}

    def both(w, scale):
        implicit = {k: evaluate(case.fun, w, z, scale) for k, z in kinds.items()}
        return implicit, each_of(case.fun, {k: materialised(w, z, scale) for k, z in kinds.items()})

    tolerance = 1e-2 if case.name == "convert" else 1e-5  # rounds to bfloat16
    compiled = every or "fills" in case.name  # NaNs leave no tolerance for rounding
    close(*(jax.jit if compiled else by_numpy)(both)(w, 0.1), tolerance)


@cases
def test_explain(case):
    w, kinds = normal(1, case.shape), noises(case.shape, case.cut)
    for kind in ("rows", "low_rank"):
        if kind not in kinds:
            continue
        (leaf,) = explain(case.fun, w, kinds[kind]).leaves.values()
        expected = ("dense" if kind == "rows" else kind) in case.missing
        assert any(e.kind == "missing" for e in leaf.events) == expected, (kind, leaf)
        if case.kept and not (kind == "rows" and case.kept in FOR_LOW_RANK):
            assert case.kept in [e.primitive for e in leaf.events if e.kind == "kept"], str(leaf)


@pytest.mark.parametrize("kind", ["rows", "low_rank"])
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.cut], ids=lambda c: c.name.replace(" ", "-")
)
def test_error_names_leaf_primitive_and_remedy(case, kind):
    z = noises(case.shape, case.cut)[kind]

    def run():
        return jax.eval_shape(
            lambda: evaluate(case.fun, normal(1, case.shape), z, 0.1, on_missing="error")
        )

    if ("dense" if kind == "rows" else kind) not in case.missing:
        run()
        return
    with pytest.raises(NotImplementedError, match="params .* on_missing=.materialise."):
        run()


X = normal(3, (4, 64))
SHARED = {
    "columns": lambda w: X @ (w * X[0]),
    "weight norm": lambda w: X @ weight_norm(w, 0),
    "standardised": lambda w: X @ standardised(w),
    "one number": lambda w: X @ (w / (X[0] @ w @ X[1])),
    "penalty": lambda w: jnp.sum(w**2),
    "mask": lambda w: X @ jnp.where(X[0] > 0, w, 0),
    "mask of entries": lambda w: jnp.sin(X @ jnp.tril(w)) @ (w * jnp.sin(X.T @ X)),
    "concatenate": lambda w: X @ jnp.concatenate([w, -w, jnp.sin(X.T)], 1),
    "roll": lambda w: X @ jnp.roll(w, 3, 1),
    "set": lambda w: X @ w.at[4:9, 2:].set(0.0),
    "adapter": lambda w: X @ (w + w[:, :4] @ w[:4]),
    "experts": lambda w: lax.ragged_dot(X, w.reshape(4, 16, 64).repeat(4, 1), jnp.array([1, 0, 2, 1])),
    "experts twice": lambda w: lax.ragged_dot(
        jnp.tanh(X @ w), jnp.stack([w, -w]), jnp.sum((X @ w)[:2] > 0, 1) // 32
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
def test_many_directions_share_the_base(name):
    """Batched factors, and no array with a copy of the weight for each direction."""
    fun, n = lambda w: jnp.sum(jnp.sin(SHARED[name](w))), 16
    w = normal(1, (64, 64)) / 8
    direction = directions.low_rank(rank=1)
    frame = direction.frame(jax.random.key(0), n, w)

    def evaluation(i, w):
        return evaluate(fun, w, direction.draw(frame, i, w), 0.1)

    run = jax.jit(jax.vmap(evaluation, (0, None))).lower(jnp.arange(n), w).compile()
    for i, value in enumerate(run(jnp.arange(n), w)[:2]):
        expected = fun(w + 0.1 * direction.draw(frame, i, w).dense())
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    assert run.memory_analysis().temp_size_in_bytes < n * w.nbytes


@pytest.mark.parametrize(
    "layout, strides, padding, spread, dilation, kernel, examples",
    [
        (("NHWC", "HWIO", "NHWC"), (2, 2), "SAME", (1, 1), (1, 1), (3, 3, 4, 6), (2, 9, 8, 4)),
        (("NCHW", "OIHW", "NCHW"), (1, 1), "VALID", (1, 1), (2, 1), (5, 3, 2, 3), (2, 3, 9, 8)),
        (
            ("NHWC", "HWIO", "NCHW"),
            (1, 2),
            [(1, 2), (0, -1)],
            (1, 1),
            (1, 1),
            (3, 2, 4, 5),
            (2, 7, 8, 4),
        ),
        (("NHWC", "HWIO", "NHWC"), (1, 1), "SAME", (1, 1), (1, 1), (2, 2, 40, 3), (2, 4, 5, 40)),
        (
            ("NHWC", "HWIO", "NHWC"),
            (1, 1),
            [(1, 2), (2, 0)],
            (2, 3),
            (2, 1),
            (3, 2, 3, 6),
            (2, 5, 4, 3),
        ),
        (
            ("NHWC", "HWIO", "NHWC"),
            (1, 1),
            [(1, 0), (1, 1)],
            (2, 3),
            (1, 1),
            (2, 2, 10, 3),
            (2, 5, 4, 10),
        ),
    ],
)
def test_convolutions_of_many_directions(
    layout, strides, padding, spread, dilation, kernel, examples
):
    """Each direction with examples of its own, at two offsets: batched inside and outside."""
    rng, n, offsets = np.random.default_rng(0), 4, jnp.array([0.5, -0.5])
    w = jnp.array(rng.normal(size=kernel), jnp.float32)
    x = jnp.array(rng.normal(size=(n, *examples)), jnp.float32)
    direction = directions.low_rank(rank=2)
    frame = direction.frame(jax.random.key(0), n, w)
    options = {"lhs_dilation": spread, "rhs_dilation": dilation, "dimension_numbers": layout}

    def convolution(w, x):
        return lax.conv_general_dilated(jnp.tanh(x), w, strides, padding, **options)

    @jax.jit
    def implicitly(x):
        def at(i, x, offset):
            return evaluate(lambda w: convolution(w, x), w, direction.draw(frame, i, w), offset)

        return jax.vmap(lambda i, x: jax.vmap(lambda o: at(i, x, o))(offsets))(jnp.arange(n), x)

    @jax.jit
    def one(i, x, offset):
        return convolution(w + offset * direction.draw(frame, i, w).dense(), x)

    for i, row in enumerate(implicitly(x)):
        for found, offset in zip(row, offsets, strict=True):
            expected = one(i, x[i], offset)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def largest(fun, *args) -> int:
    """Entries of the largest array that a traced function makes."""

    def sizes(jaxpr):
        for eqn in jaxpr.eqns:
            yield from (v.aval.size for v in eqn.outvars)
            for inner in jax.tree.leaves([*eqn.params.values()]):
                yield from sizes(getattr(inner, "jaxpr", inner)) if hasattr(inner, "eqns") else ()

    return max(sizes(jax.make_jaxpr(fun)(*args).jaxpr))


@pytest.mark.parametrize(
    "channels, spread, arrays", [(2, (1, 1), 2), (2, (2, 2), 8), (1, (1, 1), 1)]
)
def test_few_channels_are_shifted_and_not_their_products_with_all_taps(channels, spread, arrays):
    """Grouped and transposed: the products of 16 taps are no array, nor are the phases of outputs.

    Depthwise: not even the input is padded."""
    n, w, x = 8, normal(1, (4, 4, channels, 16)), normal(2, (8, 2, 8, 8, 16))
    options = {"dimension_numbers": NHWC, "feature_group_count": 16 // channels}
    direction = directions.low_rank()
    frame = direction.frame(jax.random.key(0), n, w)

    def convolution(w, x):
        return lax.conv_general_dilated(x, w, (1, 1), [(2, 1)] * 2, spread, **options)

    def evaluation(i, x):
        return evaluate(lambda w: convolution(w, x), w, direction.draw(frame, i, w), 0.1)

    run = jax.vmap(evaluation)
    assert largest(run, jnp.arange(n), x) <= arrays * x.size
    expected = convolution(w + 0.1 * direction.draw(frame, 3, w).dense(), x[3])
    np.testing.assert_allclose(jax.jit(run)(jnp.arange(n), x)[3], expected, rtol=1e-4, atol=1e-4)


IMAGES = {"dimension_numbers": NHWC, "padding": "SAME", "window_strides": (1, 1)}
DIFFERENTIATED = {
    "convolution": (
        lambda w, x: lax.conv_general_dilated(x, w, **IMAGES), (3, 3, 4, 6), (2, 5, 5, 4)
    ),
    "depthwise": (
        lambda w, x: lax.conv_general_dilated(x, w, **IMAGES, feature_group_count=4),
        (3, 3, 1, 4),
        (2, 5, 5, 4),
    ),
    "experts": (lambda w, x: lax.ragged_dot(x, w, jnp.array([2, 0, 3])), (3, 4, 5), (7, 4)),
    "heads": (lambda w, x: jnp.einsum("bhi,hij->bhj", x, w), (2, 4, 5), (9, 2, 4)),
    "mask": (lambda w, x: x @ jnp.tril(w), (80, 60), (70, 80)),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_a_rule_has_the_derivatives_of_its_function(name):
    """In both modes, for one direction and for several."""
    fun, shape, inputs = DIFFERENTIATED[name]
    w, xs, n = normal(1, shape), normal(2, (3, *inputs)), 3
    direction = directions.low_rank()
    frame = direction.frame(jax.random.key(0), n, w)

    def implicitly(i, x):
        return evaluate(lambda w: jnp.sum(jnp.sin(fun(w, x))), w, direction.draw(frame, i, w), 0.1)

    def expected(i, x):
        return jnp.sum(jnp.sin(fun(w + 0.1 * direction.draw(frame, i, w).dense(), x)))

    values = jax.jit(jax.vmap(implicitly))(jnp.arange(n), xs)
    np.testing.assert_allclose(values, [expected(i, x) for i, x in enumerate(xs)], rtol=1e-4)
    own = [jax.grad(expected, 1)(i, x) for i, x in enumerate(xs)]
    np.testing.assert_allclose(jax.grad(implicitly, 1)(2, xs[2]), own[2], rtol=1e-4, atol=1e-5)
    many = jax.grad(lambda xs: jnp.sum(jax.vmap(implicitly)(jnp.arange(n), xs)))(xs)
    np.testing.assert_allclose(many, jnp.stack(own), rtol=1e-4, atol=1e-5)
    forwards = jax.jvp(lambda x: implicitly(2, x), (xs[2],), (xs[1],))[1]
    np.testing.assert_allclose(forwards, jnp.vdot(own[2], xs[1]), rtol=1e-4)


def test_a_number_of_each_direction_waits_for_the_product():
    n, w = 16, normal(1, (64, 64)) / 8
    direction = directions.low_rank()
    frame = direction.frame(jax.random.key(0), n, w)

    def evaluation(i):
        fun = SHARED["one number"]
        return evaluate(fun, w, direction.draw(frame, i, w), 0.1)

    assert largest(jax.vmap(evaluation), jnp.arange(n)) < n * w.size


@pytest.mark.parametrize("call", [lambda f: f, jax.checkpoint])
def test_directions_without_experts_share_a_batch(call):
    """JAX cannot batch `ragged_dot`, not even where no operand differs between directions."""
    params = {"in": normal(1, (5, 4)), "experts": normal(2, (3, 4, 6))}
    rows, fixed, sizes = normal(3, (7, 5)), normal(4, (7, 4)), jnp.array([2, 0, 4])

    def fun(params):
        experts = call(lambda x: lax.ragged_dot(x, params["experts"], sizes))
        slopes = jax.grad(lambda x: jnp.sum(jnp.sin(experts(x))))(rows @ params["in"])
        return jnp.sum(slopes) * experts(fixed)

    direction = directions.low_rank()
    frame = direction.frame(jax.random.key(0), 3, params["in"])

    def evaluation(i):
        z = {"in": direction.draw(frame, i, params["in"]), "experts": None}
        return evaluate(fun, params, z, 0.1)

    found = jax.jit(jax.vmap(evaluation))(jnp.arange(3))
    z = direction.draw(frame, 2, params["in"])
    expected = fun(params | {"in": materialised(params["in"], z, 0.1)})
    np.testing.assert_allclose(found[2], expected, rtol=1e-5, atol=1e-5)
