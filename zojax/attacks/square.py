"""Square attack: random search over square windows of scheduled size."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax import noise
from zojax._checks import require_count, require_fraction
from zojax.attacks import _losses
from zojax.attacks._attack import Attack, Model
from zojax.attacks._ball import height_width_channels
from zojax.attacks._driver.rounds import select
from zojax.attacks._driver.run import run
from zojax.attacks._result import Result
from zojax.attacks._shared import SharedOptions, documented, reused

# The fraction p halves after these rounds of 10,000; other budgets scale the schedule.
_HALVED_AFTER = np.array([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000], np.float32) / 10_000


class SquareState(NamedTuple):
    """The best image so far and its loss. Before the first round: x plus a perturbation of length 1."""

    image: jax.Array
    loss: jax.Array


@documented
def square(
    key: int | jax.Array,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array,
    norm: str = "linf",
    budget: int = 1000,
    targeted: bool = False,
    *,
    p: float = 0.05,
    **options: Unpack[SharedOptions],
) -> Result:
    r"""Random search over square windows, one query a round.

    A round keeps its image if the margin :math:`z_y - \max_{j \ne y} z_j` falls.

    - Linf: the first image adds :math:`\pm\epsilon` in vertical stripes. A round sets a random window to
      :math:`x \pm \epsilon`, with one sign per channel; with the opposite signs if this changes nothing.
    - L2: the first perturbation is a grid of bumps. A round moves the norm of one window, and the unused
      part of eps, into another window.

    The window covers a fraction p of the image. With a budget of 10k, p halves at 10, 50, 200, 500, 1k, 2k,
    4k, 6k and 8k queries; other budgets scale this schedule.

    Args:
      p: fraction of the image in the first windows, in (0, 1].

    References:
      Andriushchenko et al., `Square attack: a query-efficient black-box adversarial attack via random
      search <https://arxiv.org/abs/1912.00049>`_, 2020.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> model = lambda images: images.reshape(-1, 36) @ w
    >>> found = attacks.square(0, model, x, jnp.argmax(model(x), 1), eps=0.3)
    >>> bool(found.success.all()), bool((found.norms <= 0.3 + 1e-6).all())
    (True, True)
    """
    attack = square_attack(norm, budget, p)
    return run(key, attack, model, x, y, eps, budget, targeted, **options)


@reused(budget=require_count, p=require_fraction)
def square_attack(norm: str = "linf", budget: int = 1000, p: float = 0.05) -> Attack:
    """The rounds of `square`, for `run` and `ask_tell`; the budget sets the pace of its schedule."""
    start, move = (_stripes, _signs) if norm == "linf" else (_grid, _bumps)

    def init(key, x, loss):
        del loss  # the search starts from a random image, not from x
        (seed,) = noise.child_seeds(noise.make_seed(key), 0, 1)
        begin = start(seed, height_width_channels(x.shape))
        return SquareState(x + begin.reshape(x.shape), jnp.float32(jnp.inf))

    def propose(key, state, x, eps, t):
        shape = height_width_channels(x.shape)
        centre, delta = x.reshape(shape), (state.image - x).reshape(shape)
        halvings = jnp.sum(t > _HALVED_AFTER * budget)
        fraction = p / 2.0 ** halvings.astype(jnp.float32)
        seeds = noise.child_seeds(noise.make_seed(key), 0, 4)
        moved = move(seeds, delta, centre, eps, fraction)
        return (centre + jnp.where(t == 0, eps * delta, moved)).reshape((1,) + x.shape)

    def update(key, state, x, eps, t, points, losses):
        del key, x, eps
        return select(losses[0] < state.loss, SquareState(points[0], losses[0]), state)

    return Attack(norm, _losses.margin, 1, init, propose, update)


def _side(fraction, height, width, least):
    """The side of a window that covers a fraction of the image, as an int32."""
    side = jnp.round(jnp.sqrt(fraction * height * width)).astype(jnp.int32)
    return jnp.clip(side, least, max(min(height, width) - 1, 1))


def _corner(seed, side, height, width):
    """The first row and column of a random window."""
    words = jnp.stack([seed[0], seed[1]]) >> 8  # 24 bits, which a float32 holds
    room = jnp.array([height, width]) - side + 1
    return (words.astype(jnp.float32) * (room * 2.0**-24)).astype(jnp.int32)


def _random_signs(seed, shape):
    return noise.row_noise(noise.Signs(seed), shape).dense()


def _window(corner, side, height, width):
    """True inside the window, shape (height, width, 1)."""
    row, column = jnp.arange(height)[:, None, None], jnp.arange(width)[None, :, None]
    inside_rows = (row >= corner[0]) & (row < corner[0] + side)
    return inside_rows & (column >= corner[1]) & (column < corner[1] + side)


# --- Linf -------------------------------------------------------------------------------------------


def _stripes(seed, shape):
    """Vertical stripes of width one."""
    return jnp.broadcast_to(_random_signs(seed, (1, *shape[1:])), shape)


def _signs(seeds, delta, centre, eps, fraction):
    """A window of +eps or -eps in each channel."""
    height, width, channels = delta.shape
    side = _side(fraction, height, width, 1)
    inside = _window(_corner(seeds[0], side, height, width), side, height, width)
    step = eps * _random_signs(seeds[1], (channels,))
    low, high = jnp.maximum(-eps, -centre), jnp.minimum(eps, 1 - centre)
    moved = jnp.clip(step, low, high)
    same = jnp.all(jnp.where(inside, jnp.abs(moved - delta) < 1e-6, True))
    return jnp.where(inside, jnp.where(same, -step, step), delta)


# --- L2 ---------------------------------------------------------------------------------------------


def _bump(corner, side, upright, split, height, width):
    """The paper's eta: two opposite peaks side by side in a square window, zero outside.

    One peak of h1 x h2 pixels is sum_{k <= M} 1 / (n + 1 - k)^2 with n = floor(h1 / 2) and M falling by one
    with each ring around the centre; the sum is a difference of two entries of a table.
    """
    longest = max(height, width) + 2
    sums = np.concatenate([[0], np.cumsum(1 / np.arange(1.0, longest + 1) ** 2)])
    table, n = jnp.asarray(sums, jnp.float32), side // 2
    rows, columns = jnp.arange(height) - corner[0], jnp.arange(width) - corner[1]

    def falling(index, start, length):
        """The sum along one axis. The lesser sum of the two axes belongs to the outer ring."""
        ring = jnp.abs(index - start - length // 2)
        inside = (index >= start) & (index < start + length) & (ring <= n)
        return jnp.where(inside, table[n + 1] - table[jnp.clip(ring, 0, longest)], 0.0)

    def peak(start, length):
        of_rows = jnp.where(upright, falling(rows, 0, side), falling(rows, start, length))
        of_columns = jnp.where(upright, falling(columns, start, length), falling(columns, 0, side))
        return jnp.minimum(of_rows[:, None], of_columns[None, :])

    return peak(0, split) - peak(split, side - split)


def _grid(seed, shape):
    """A grid of about 5 x 5 bumps with random signs, of length 1."""
    height, width, channels = shape
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    tile = _bump(jnp.zeros(2, jnp.int32), side, True, side // 2, side, side)
    signs = _random_signs(seed, (rows, columns, channels))
    grid = jnp.einsum("ijc,kl->ikjlc", signs, tile).reshape(rows * side, columns * side, channels)
    grid = jnp.pad(grid, ((0, height - rows * side), (0, width - columns * side), (0, 0)))
    return grid / jnp.maximum(jnp.sqrt(jnp.sum(grid**2)), 1e-30)


def _bumps(seeds, delta, centre, eps, fraction):
    """The norm of one window, and the unused norm, moved into another window."""
    del centre
    height, width, channels = delta.shape
    side = _side(fraction, height, width, 3 if min(height, width) > 3 else 1)
    from_seed, to_seed, sign_seed, turn_seed = seeds
    corner = _corner(to_seed, side, height, width)
    source = _window(_corner(from_seed, side, height, width), side, height, width)
    target = _window(corner, side, height, width)
    upright = turn_seed[0] >> 31 == 1
    bump = _bump(corner, side, upright, side // 2, height, width)[..., None]
    sign = _random_signs(sign_seed, (channels,))
    inside = jnp.where(target, delta, 0.0)
    shape = sign * bump / _norm(bump) + inside / _norm(inside)
    unused = jnp.maximum(eps**2 - jnp.sum(delta**2), 0.0) / channels
    moved = jnp.sum(jnp.where(source | target, delta, 0.0) ** 2, axis=(0, 1))
    new = shape / _norm(shape) * jnp.sqrt(moved + unused)
    return jnp.where(target, new, jnp.where(source, 0.0, delta))


def _norm(image):
    """The length of every channel."""
    return jnp.maximum(jnp.sqrt(jnp.sum(image**2, axis=(0, 1))), 1e-30)
