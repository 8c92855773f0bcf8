"""Random dimension numbers, gathers, views and nested control flow, drawn by hypothesis."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from tests._numpy import by_numpy
from tests.implicit._helpers import close, materialised, noises, normal
from zojax.implicit import evaluate

EXAMPLES = pytest.mark.parametrize("examples", [10, pytest.param(100, marks=pytest.mark.slow)])


def try_each(strategy, law, examples):
    """The law on drawn examples: each is compiled, so most of them are slow."""
    settings(max_examples=examples, deadline=None, derandomize=True)(given(strategy)(law))()


def check(fun, shape, cut):
    w, kinds = normal(1, shape), noises(shape, cut)

    @by_numpy
    def both(w):
        some = {k: z for k, z in kinds.items() if k in ("rows", "low_rank")}
        implicit = {k: evaluate(fun, w, z, 0.3) for k, z in some.items()}
        return implicit, {k: fun(materialised(w, z, 0.3)) for k, z in some.items()}

    close(*both(w), 2e-5)


@st.composite
def products(draw):
    """Axes of w are free, contracted or batch axes; both operands in random axis orders."""
    roles = draw(st.lists(st.sampled_from("fcb"), min_size=2, max_size=4))
    sizes = draw(st.lists(st.integers(1, 4), min_size=len(roles), max_size=len(roles)))
    order = draw(st.permutations([i for i, r in enumerate(roles) if r != "f"] + ["x"]))
    cut, flip = draw(st.integers(1, len(roles) - 1)), draw(st.booleans())
    pairs = lambda role: [i for i, r in enumerate(roles) if r == role]  # noqa: E731
    other = [3 if a == "x" else sizes[a] for a in order]
    dims = [(pairs(role), [order.index(a) for a in pairs(role)]) for role in "cb"]
    dims = [(w, x) if flip else (x, w) for w, x in dims]

    def fun(w):
        x = normal(2, other)
        return lax.dot_general(*((w, x) if flip else (x, w)), dims)

    return fun, tuple(sizes), cut


@EXAMPLES
def test_dot_general(examples):
    try_each(products(), lambda case: check(*case), examples)


@st.composite
def gathers(draw):
    """Any gather that JAX's indexing can write, and any mode."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    index_shape = draw(st.sampled_from([(), (3,), (2, 1)]))
    mode = draw(st.sampled_from(["clip", "fill", "promise_in_bounds"]))
    key = []
    for size in shape:
        indices = np.arange(math.prod(index_shape)).reshape(index_shape) % size
        beyond = 0 if mode == "promise_in_bounds" else draw(st.integers(0, 1))
        choices = [
            slice(None),
            slice(1, None),
            slice(None, None, -1),
            jnp.asarray(indices + beyond),
        ]
        key.append(draw(st.sampled_from(choices)))
    cut = draw(st.integers(1, len(shape) - 1))
    return lambda w: jnp.nan_to_num(w.at[tuple(key)].get(mode=mode)), shape, cut


@EXAMPLES
def test_gather(examples):
    try_each(gathers(), lambda case: check(*case), examples)


def _factorisations(n):
    """All shapes of up to four axes with n entries."""
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    shapes = itertools.chain.from_iterable(itertools.product(divisors, repeat=r) for r in (1, 2, 3))
    return [s for s in shapes if math.prod(s) == n]


@st.composite
def views(draw):
    """Chains of views, ended by a product or an elementwise operation."""
    shape = draw(st.sampled_from([(4, 6), (2, 3, 4), (1, 4, 6), (2, 2, 3, 2)]))
    steps = draw(
        st.lists(st.sampled_from("transpose reshape slice rev index expand".split()), max_size=4)
    )
    seeds = draw(st.lists(st.integers(0, 10**6), min_size=5, max_size=5))

    def fun(w):
        for step, seed in zip(steps, seeds, strict=False):
            rng = np.random.default_rng(seed)
            axis = rng.integers(max(w.ndim, 1))
            if step == "transpose":
                w = w.transpose(rng.permutation(w.ndim))
            elif step == "reshape":
                w = w.reshape(_factorisations(w.size)[seed % len(_factorisations(w.size))])
            elif step == "rev":
                w = jnp.flip(w, axis)
            elif step == "expand":
                w = jnp.broadcast_to(
                    jnp.expand_dims(w, axis), (*w.shape[:axis], 2, *w.shape[axis:])
                )
            elif step == "slice" and w.shape[axis] > 1:
                w = lax.slice_in_dim(w, 1, None, stride=1 + seed % 2, axis=axis)
            elif step == "index" and w.ndim > 1:
                w = lax.dynamic_index_in_dim(w, jnp.int32(seed % 3), axis, keepdims=False)
        return jnp.tensordot(w, normal(3, (w.shape[-1], 2)), 1), jnp.sin(w)

    return fun, shape, draw(st.integers(1, len(shape) - 1))


@EXAMPLES
def test_views(examples):
    try_each(views(), lambda case: check(*case), examples)


@st.composite
def programs(draw, depth=0):
    """Nested control flow around products with a square w."""
    names = (
        ["dot", "tanh"] if depth == 3 else ["dot", "scan", "cond", "while", "jit", "remat", "map"]
    )
    name = draw(st.sampled_from(names))
    if name == "dot":
        return lambda w, h: jnp.tanh(h @ w)
    if name == "tanh":
        return lambda w, h: jnp.tanh(h + w[0])
    inner = draw(programs(depth + 1))
    return {
        "scan": lambda w, h: lax.scan(lambda h, _: (inner(w, h), ()), h, None, 2)[0],
        "cond": lambda w, h: lax.cond(h[0, 0] > 0, inner, lambda w, h: inner(w.T, h), w, h),
        "while": lambda w, h: lax.fori_loop(0, h.shape[0], lambda i, h: inner(w, h), h),
        "jit": lambda w, h: jax.jit(inner)(w, h),
        "remat": lambda w, h: jax.checkpoint(inner)(w, h),
        "map": lambda w, h: lax.map(lambda x: inner(w, x[None])[0], h),
    }[name]


@EXAMPLES
def test_nested_control_flow(examples):
    def law(program):
        check(lambda w: program(w, normal(4, (2, 3))), (3, 3), 1)

    try_each(programs(), law, examples)
