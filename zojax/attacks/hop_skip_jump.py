"""HopSkipJump: steps along the boundary's normal, which labels around a boundary point give."""

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax._checks import require_count
from zojax.attacks import _ball
from zojax.attacks._attack import Attack, Model
from zojax.attacks._boundary import Moves, normals, resolved, uniforms, walk
from zojax.attacks._driver.run import run
from zojax.attacks._result import Result
from zojax.attacks._shared import SharedOptions, documented_labels, reused


@documented_labels
def hop_skip_jump(
    key: int | jax.Array,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array = 0.0,
    norm: str = "l2",
    budget: int = 5000,
    targeted: bool = False,
    *,
    starts: ArrayLike | None = None,
    num_directions: int = 100,
    mu: float | None = None,
    **options: Unpack[SharedOptions],
) -> Result:
    r"""Geometric steps along the estimated normal of the decision boundary.

    From the adversarial image :math:`x_t` on the boundary, at the distance :math:`D_t` from x,

    .. math::
        v = \frac{1}{n_+} \sum_{\phi_b = 1} u_b - \frac{1}{n_-} \sum_{\phi_b = -1} u_b, \qquad
        x_t + \frac{D_t}{\sqrt t} 2^{-k} \frac{v}{|v|},

    where :math:`\phi_b = 1` if :math:`x_t + \mu D_t u_b` is adversarial, for :math:`N\sqrt t` directions
    u on the unit sphere. For Linf, u is uniform in a cube before normalisation, and sign(v) replaces
    v / \|v\|. k is the first of 0, 1, 2 ... that gives an adversarial image. Bisection between x and this
    image ends within :math:`\mu D / \sqrt d` of the boundary, for Linf within :math:`\mu D / d`. v is the
    paper's estimate with its baseline. The first radius is 0.1, as in the authors' code.

    Args:
      x: images (batch, ...) in [0, 1], of any shape.
      num_directions: N, directions of the first normal; at most 10,000 of a later one.
      mu: radius of the probes, in units of the distance; 1 / d by default, d numbers an image. Probes
        move a pixel by at least 2e-6, which float32 resolves.

    References:
      Chen, Jordan and Wainwright, `HopSkipJumpAttack: a query-efficient decision-based attack
      <https://arxiv.org/abs/1904.02144>`_, 2020.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> label_fn = lambda images: jnp.argmax(images.reshape(-1, 36) @ w, axis=1)
    >>> found = attacks.hop_skip_jump(0, label_fn, x, label_fn(x), budget=500)
    >>> bool(found.success.all()), bool(jnp.median(found.norms) < 0.3)
    (True, True)
    """
    attack = hop_skip_jump_attack(norm, num_directions, mu)
    return run(key, attack, model, x, y, eps, budget, targeted, starts=starts, **options)


@reused(num_directions=require_count)
def hop_skip_jump_attack(
    norm: str = "l2", num_directions: int = 100, mu: float | None = None
) -> Attack:
    """The rounds of `hop_skip_jump`, for `run` and `ask_tell`."""

    def probes(t):
        return jnp.minimum(num_directions * jnp.sqrt(t.astype(jnp.float32)), 10_000.0)

    def probe(key, x, near, t):
        relative = 1 / x.size if mu is None else mu
        radius = jnp.where(t == 1, 0.1, relative * _ball.length(near - x, norm))
        u = normals(key, x.shape) if norm == "l2" else 2 * uniforms(key, x.shape) - 1
        return near + resolved(radius, x) * _ball.steepest(u, "l2")

    def step(x, near, normal, rate, t):
        root = jnp.sqrt(jnp.maximum(t, 1).astype(jnp.float32))
        length = rate * _ball.length(near - x, norm) / root
        return near + length * _ball.steepest(normal, norm)

    def tolerance(x, near):
        del near
        relative = 1 / x.size if mu is None else mu
        return relative / (x.size**0.5 if norm == "l2" else x.size)

    return walk(norm, Moves(probes, probe, step, tolerance, tries=20))
