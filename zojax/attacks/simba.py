"""SimBA: coordinate descent over an orthonormal basis, of pixels or of low frequencies."""

import math
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax import noise
from zojax._checks import require_fraction
from zojax.attacks import _losses
from zojax.attacks._attack import Attack, Model
from zojax.attacks._ball import height_width_channels
from zojax.attacks._cosines import lowest
from zojax.attacks._driver.run import run
from zojax.attacks._result import Result
from zojax.attacks._shared import SharedOptions, documented, reused
from zojax.directions._permutation import permute


class SimbaState(NamedTuple):
    """The seed of the orders, the best image, its loss, the place in the order, the sign to try next."""

    seed: jax.Array
    image: jax.Array
    loss: jax.Array
    place: jax.Array
    minus: jax.Array


@documented
def simba(
    key: int | jax.Array,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array,
    norm: str = "l2",
    budget: int = 1000,
    targeted: bool = False,
    *,
    step: float = 0.2,
    **options: Unpack[SharedOptions],
) -> Result:
    r"""One pixel after another in random order: +step, then -step if +step did not help.

    :math:`x \leftarrow x \pm \alpha q_i` if this lowers the probability of the true class, or raises the
    target's. q is an orthonormal basis in random order; after all directions a new order starts. The attack
    compares log-odds: they order images as probabilities do, and never saturate. The paper bounds the norm
    by the number of steps, this attack by the ball: with norm="linf", a step of at least 2 eps moves a
    pixel to :math:`\pm\epsilon`.

    Args:
      x: images (batch, ...) in [0, 1], of any shape.
      step: alpha, the length of one step.

    References:
      Guo et al., `Simple black-box adversarial attacks <https://arxiv.org/abs/1905.07121>`_, 2019.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> model = lambda images: images.reshape(-1, 36) @ w
    >>> found = attacks.simba(0, model, x, jnp.argmax(model(x), 1), eps=2.0, budget=200)
    >>> bool(found.success.all()), bool((found.norms <= 2.0).all())
    (True, True)
    """
    attack = simba_attack(norm, step)
    return run(key, attack, model, x, y, eps, budget, targeted, **options)


@documented
def simba_dct(
    key: int | jax.Array,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array,
    norm: str = "l2",
    budget: int = 1000,
    targeted: bool = False,
    *,
    step: float = 0.2,
    frequencies: float = 0.25,
    **options: Unpack[SharedOptions],
) -> Result:
    r"""SimBA over the low frequencies of the discrete cosine transform.

    As `simba`, with :math:`q = \cos(\pi(r + \tfrac12)u/H)\,\cos(\pi(s + \tfrac12)v/W)` in one channel,
    normalised, for the lowest frequencies u and v. Fewer of these smooth directions are needed.

    Args:
      step: alpha, the length of one step.
      frequencies: the fraction in (0, 1] of frequencies: u < fraction * H, v < fraction * W.

    References:
      Guo et al., `Simple black-box adversarial attacks <https://arxiv.org/abs/1905.07121>`_, 2019.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> model = lambda images: images.reshape(-1, 36) @ w
    >>> found = attacks.simba_dct(0, model, x, jnp.argmax(model(x), 1), 3.0, frequencies=1.0)
    >>> bool(found.success.all()), bool((found.norms <= 3.0).all())
    (True, True)
    """
    attack = simba_attack(norm, step, frequencies)
    return run(key, attack, model, x, y, eps, budget, targeted, **options)


@reused(frequencies=require_fraction)
def simba_attack(norm: str = "l2", step: float = 0.2, frequencies: float | None = None) -> Attack:
    """The rounds of `simba`, or with `frequencies` of `simba_dct`, for `run` and `ask_tell`."""
    count, direction = (math.prod, _pixel) if frequencies is None else _cosines(frequencies)

    def init(key, x, loss):
        return SimbaState(noise.make_seed(key), x, loss, jnp.uint32(0), jnp.bool_(False))

    def propose(key, state, x, eps, t):
        del key, eps, t
        size = count(x.shape)
        sweep = noise.child_seeds(state.seed, state.place // size, 1)[0]  # a new order each time
        index = permute(sweep, state.place % size, size).astype(jnp.int32)
        return (state.image + jnp.where(state.minus, -step, step) * direction(index, x.shape))[None]

    def update(key, state, x, eps, t, points, losses):
        del key, x, eps, t
        better = losses[0] < state.loss
        done = better | state.minus
        return state._replace(
            image=jnp.where(better, points[0], state.image),
            loss=jnp.where(better, losses[0], state.loss),
            place=state.place + done.astype(jnp.uint32),
            minus=~done,
        )

    return Attack(norm, _losses.log_odds, 1, init, propose, update)


def _pixel(index: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """1 at one pixel of one channel."""
    return (jnp.arange(math.prod(shape)) == index).astype(jnp.float32).reshape(shape)


def _cosines(fraction: float):
    """The number of low frequencies, and the direction of one of them."""

    def count(shape):
        height, width, channels = height_width_channels(shape)
        vertical, horizontal = lowest(fraction, height, width)
        return len(vertical) * len(horizontal) * channels

    def direction(index, shape):
        height, width, channels = height_width_channels(shape)
        vertical, horizontal = map(jnp.asarray, lowest(fraction, height, width))
        rows, columns = len(vertical), len(horizontal)
        u, v = index // columns % rows, index % columns
        channel = jnp.arange(channels) == index // (rows * columns)
        wave = vertical[u][:, None, None] * horizontal[v][:, None] * channel
        return wave.reshape(shape)

    return count, direction
