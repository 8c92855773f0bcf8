"""GeoDA: the nearest point of a boundary that is nearly flat, from its normal alone."""

from typing import Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax._checks import require_count, require_fraction
from zojax.attacks import _ball
from zojax.attacks._attack import Attack, Model
from zojax.attacks._ball import height_width_channels
from zojax.attacks._boundary import Moves, normals, turned, walk
from zojax.attacks._cosines import lowest
from zojax.attacks._driver.run import run
from zojax.attacks._result import Result
from zojax.attacks._shared import SharedOptions, documented_labels, reused


@documented_labels
def geoda(
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
    num_directions: int = 50,
    mu: float = 0.0002,
    frequencies: float = 0.33,
    contraction: float = 0.6,
    **options: Unpack[SharedOptions],
) -> Result:
    r"""A step from x along the normal of the boundary, which is nearly flat near natural images.

    .. math::
        w = \frac{1}{n_+} \sum_{\rho_i = 1} \eta_i - \frac{1}{n_-} \sum_{\rho_i = -1} \eta_i, \qquad
        x + r\,w / |w|,

    where :math:`\rho_i = 1` if :math:`x_t + \eta_i` is adversarial, :math:`x_t` is on the boundary, and
    :math:`\eta \sim N(0, \mu^2 \Sigma)` has low frequencies only. For Linf, sign(w) replaces w / \|w\|.
    The t-th normal takes :math:`N \lambda^{-2(t-1)/3}` queries, the paper's best distribution. r is 0.1 %
    less than the distance so far. If the image is adversarial, bisection finds the new boundary point;
    else the next normal adds its queries to those of this one.

    The difference of means has less variance than the paper's sum. The paper lengthens r until the image is
    adversarial, this attack only shortens it. The part of the way that the box [0, 1] cuts is made up for.

    Args:
      num_directions: N, queries of the first normal.
      mu: standard deviation of the probes along a direction, in units of the image.
      frequencies: the fraction in (0, 1] of frequencies along both axes.
      contraction: lambda in (0, 1], the assumed decay of the error of one normal to the next.

    References:
      Rahmati et al., `GeoDA: a geometric framework for black-box adversarial attacks
      <https://arxiv.org/abs/2003.06468>`_, 2020.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> label_fn = lambda images: jnp.argmax(images.reshape(-1, 36) @ w, axis=1)
    >>> found = attacks.geoda(0, label_fn, x, label_fn(x), budget=500, frequencies=1.0)
    >>> bool(found.success.all()), bool(jnp.median(found.norms) < 0.3)
    (True, True)
    """
    attack = geoda_attack(norm, num_directions, mu, frequencies, contraction)
    return run(key, attack, model, x, y, eps, budget, targeted, starts=starts, **options)


@reused(num_directions=require_count, frequencies=require_fraction, contraction=require_fraction)
def geoda_attack(
    norm: str = "l2",
    num_directions: int = 50,
    mu: float = 0.0002,
    frequencies: float = 0.33,
    contraction: float = 0.6,
) -> Attack:
    """The rounds of `geoda`, for `run` and `ask_tell`."""

    def probes(t):
        return num_directions * contraction ** (-2 / 3 * (t.astype(jnp.float32) - 1))

    def probe(key, x, near, t):
        del t
        height, width, channels = height_width_channels(x.shape)
        vertical, horizontal = lowest(frequencies, height, width)
        weights = normals(key, (len(vertical), len(horizontal), channels))
        smooth = jnp.einsum("uvc,uh,vw->hwc", weights, vertical, horizontal).reshape(x.shape)
        return near + mu * smooth

    def step(x, near, normal, rate, t):
        del rate, t
        return turned(x, _ball.steepest(normal, norm), _ball.length(near - x, norm), norm)

    def tolerance(x, near):
        return mu / jnp.maximum(_ball.length(near - x, norm), 1e-30)

    return walk(norm, Moves(probes, probe, step, tolerance))
