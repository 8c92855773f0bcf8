"""Weights that a loss changes before their product, beside an evaluation by the right design.

A population evaluates 32 low-rank directions at once. Its design multiplies the weights as they are
stored, or is written by hand. A single evaluation draws signs. Its design is a forward pass.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from zojax import directions, implicit

DIRECTIONS, MU = 32, 1e-2
SIZES = np.array([4, 12, 8, 8, 0, 16, 9, 7])  # tokens of each expert
GROUPS = np.repeat(np.arange(len(SIZES)), SIZES)


class Expression(NamedTuple):
    """Values are functions of parameters, of `draw(index)` of a direction, and of x."""

    by_zojax: Callable
    by_design: Callable
    params: Any
    x: jax.Array
    stored: Any = None  # the parameters of the design, if they are stored otherwise
    direction: Callable = directions.low_rank

    def programs(self) -> dict[str, tuple]:
        """Functions of parameters, a key and x; and their parameters."""
        stored = self.params if self.stored is None else self.stored
        found = {"zojax": (self.by_zojax, self.params), "design": (self.by_design, stored)}
        return {name: (self._drawing(fun), params) for name, (fun, params) in found.items()}

    def _drawing(self, values):
        def program(params, key, x):
            direction = self.direction()
            frame = direction.frame(key, DIRECTIONS, params)
            return values(params, lambda i: direction.draw(frame, i, params), x)

        return program


def _population(loss):
    def values(params, draw, x):
        one = lambda i: implicit.evaluate(loss, params, draw(i), MU, x)  # noqa: E731
        return jax.vmap(one)(jnp.arange(DIRECTIONS))

    return values


def _normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape) / shape[-2] ** 0.5


def _energy(y):
    return jnp.sum(jnp.square(jnp.tanh(y)))


def _factors(draw):
    """Both factors of rank 1, for all directions."""
    z = jax.vmap(draw)(jnp.arange(DIRECTIONS))
    is_noise = lambda z: hasattr(z, "left")  # noqa: E731
    return jax.tree.map(lambda z: (z.left[:, 0], z.right[:, 0]), z, is_leaf=is_noise)


# --- populations --------------------------------------------------------------------------------------


def _changed(change, product):
    """x @ change(w) beside a product with w itself."""
    written, designed = lambda w, x: _energy(x @ change(w)), lambda w, x: _energy(product(x, w))
    both = _population(written), _population(designed)
    return Expression(*both, _normal(512, 512), _normal(32, 512, seed=1))


def _scales():
    return _normal(2, 512, seed=5)[0]


def _concatenated():
    params = {"q": _normal(512, 512), "k": _normal(512, 512, seed=2)}
    fused = lambda p, x: _energy(x @ jnp.concatenate([p["q"], p["k"]], 1))  # noqa: E731
    apart = lambda p, x: _energy(x @ p["q"]) + _energy(x @ p["k"])  # noqa: E731
    return Expression(_population(fused), _population(apart), params, _normal(32, 512, seed=1))


def _convolution():
    def loss(w, x):
        dims = ("NHWC", "HWIO", "NHWC")
        return _energy(lax.conv_general_dilated(x, w, (4, 4), "VALID", dimension_numbers=dims))

    w, x = _normal(8, 8, 4, 32), _normal(8, 84, 84, 4, seed=1)
    stored = lambda w, x: loss(w.reshape(8, 8, 4, 32), x)  # noqa: E731
    return Expression(_population(loss), _population(stored), w, x, w.reshape(256, 32))


def _masked(weights, params, base, mask):
    """x @ weights(params), whose noise has the entries of a mask times an outer product."""

    def design(params, draw, x):
        left, right = _factors(draw)
        left = jnp.repeat(left, len(x[0]) // left.shape[1], 1)
        noise = (x * left[:, None]) @ mask() * right[:, None]
        return jax.vmap(_energy)(x @ base(params) + MU * noise)

    loss = lambda p, x: _energy(x @ weights(p))  # noqa: E731
    return Expression(_population(loss), design, params, _normal(32, 512, seed=1))


def _masked_entries():
    mask = (_normal(512, 512, seed=3) > 0).astype(jnp.float32)
    weights = lambda w: w * mask  # noqa: E731
    return _masked(weights, _normal(512, 512), weights, lambda: mask)


def _triangle():
    return _masked(jnp.tril, _normal(512, 512), jnp.tril, lambda: jnp.tri(512))


def _groups():
    """Integers in groups of 64 rows, whose scales are perturbed."""
    integers = jnp.round(40 * _normal(512, 512)).astype(jnp.int8)

    def weights(scales):
        grouped = integers.reshape(8, 64, 512).astype(scales.dtype) * scales[:, None]
        return grouped.reshape(512, 512)

    return _masked(weights, jnp.full((8, 512), 1e-2), weights, lambda: integers.astype(jnp.float32))


def _experts():
    """Two layers of eight experts, beside one grouped product with the rows of all directions."""
    params = {"up": _normal(8, 128, 256), "down": _normal(8, 256, 128, seed=2)}

    def loss(p, x):
        return _energy(
            lax.ragged_dot(jax.nn.gelu(lax.ragged_dot(x, p["up"], SIZES)), p["down"], SIZES)
        )

    def noise(x, factors):
        left, right = factors
        return MU * jnp.sum(x * left[:, GROUPS], -1)[..., None] * right[:, None]

    def design(p, draw, x):
        factors = _factors(draw)
        y = lax.ragged_dot(x, p["up"], jnp.asarray(SIZES)) + noise(x, factors["up"])
        y = jax.nn.gelu(y)
        order = np.argsort(np.tile(GROUPS, DIRECTIONS), stable=True)
        base = lax.ragged_dot(y.reshape(-1, 256)[order], p["down"], jnp.asarray(DIRECTIONS * SIZES))
        base = base[np.argsort(order)].reshape(DIRECTIONS, -1, 128)
        return jax.vmap(_energy)(base + noise(y, factors["down"]))

    return Expression(_population(loss), design, params, _normal(64, 128, seed=1))


# --- single evaluations -------------------------------------------------------------------------------


def _single(loss, params, x, **options):
    def value(p, draw, x):
        return implicit.evaluate(loss, p, draw(0), MU, x, **options)

    forward = lambda p, draw, x: loss(p, x)  # noqa: E731
    return Expression(value, forward, params, x, direction=directions.rademacher)


def _layers(params, x):
    for weight in params:
        x = jnp.tanh(x @ weight)
    return _energy(x)


def _flat():
    flat, unravel = ravel_pytree([_normal(512, 512, seed=i) for i in range(3)])
    return _single(lambda p, x: _layers(unravel(p), x), flat, _normal(32, 512, seed=9))


def _stacked():
    loss = lambda p, x: _layers([p[0], p[1], p[2]], x)  # noqa: E731
    return _single(loss, _normal(3, 512, 512), _normal(32, 512, seed=9))


def _recurrent(**options):
    """Eight kernels of 1 MiB, read in each of 16 steps."""

    def loss(p, xs):
        def cell(h, x):
            for weight in p:
                h = jnp.tanh(h @ weight + x)
            return h, None

        return _energy(lax.scan(cell, xs[0], xs)[0])

    params = [_normal(512, 512, seed=i) for i in range(8)]
    return _single(loss, params, _normal(16, 32, 512, seed=9), **options)


EXPRESSIONS = {
    "x @ stop_gradient(w)": lambda: _changed(lax.stop_gradient, jnp.matmul),
    "x @ (w * column scales)": lambda: _changed(
        lambda w: w * _scales(), lambda x, w: (x @ w) * _scales()
    ),
    "x @ (w * row scales)": lambda: _changed(
        lambda w: w * _scales()[:, None], lambda x, w: (x * _scales()) @ w
    ),
    "x @ concatenate([q, k], 1)": _concatenated,
    "convolution (8, 8, 4, 32), stride 4": _convolution,
    "two layers of ragged_dot": _experts,
    "x @ (w * mask)": _masked_entries,
    "x @ tril(w)": _triangle,
    "scales of groups": _groups,
    "one flat vector": _flat,
    "slices of one array": _stacked,
    "kernels of a recurrent loop": _recurrent,
    "the same, hold_in_loops=False": lambda: _recurrent(hold_in_loops=False),
}
