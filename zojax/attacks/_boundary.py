"""Attacks from labels: an adversarial image walks along the decision boundary towards x.

    start    random images, until one is adversarial
    bisect   between x and the adversarial image: the boundary
    probe    a number of images around the boundary; their labels give its normal
    step     along the normal to another adversarial image, and bisect again

A round is one query, so each phase takes as many as it needs. `Moves` is the difference between attacks.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zojax import noise
from zojax.attacks import _ball
from zojax.attacks._attack import Attack
from zojax.attacks._driver.rounds import select

_START, _BISECT, _PROBE, _STEP = range(4)
_FINEST = 2e-6  # a float32 pixel resolves no smaller changes reliably
_LEAST_GAIN = 1e-3  # of the distance, for a step that must shorten it


class Moves(NamedTuple):
    """How an attack probes and steps. `near` is the image on the boundary, `t` counts its normals from 1.

    Attributes:
      probes: `probes(t) -> count` of one normal.
      probe: `probe(key, x, near, t) -> image`.
      step: `step(x, near, normal, rate, t) -> image`. The normal points to adversarial images.
      tolerance: `tolerance(x, near) -> fraction` of the distance at which bisection ends.
      rate: the first rate of a normal.
      shrink: the factor of the rate after a step that is not adversarial; it doubles after one that is.
      tries: steps without success before more probes.
      steps: successful steps along one normal.
    """

    probes: Callable[[jax.Array], jax.Array]
    probe: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    step: Callable[[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    tolerance: Callable[[jax.Array, jax.Array], jax.Array]
    rate: float = 1.0
    shrink: float = 0.5
    tries: int = 1
    steps: int = 1


class BoundaryState(NamedTuple):
    """A walk along the boundary.

    Attributes:
      phase: start, bisect, probe or step.
      count: queries of this phase.
      near: the adversarial image of the walk; x before there is one.
      low: a fraction of the way from x to `near` that is not adversarial.
      normals: estimated so far.
      sums: unit displacements of the probes, summed by label: unchanged, adversarial.
      votes: probes by label.
      rate: of the next step.
      steps: successful steps along this normal.
    """

    phase: jax.Array
    count: jax.Array  # type: ignore[assignment]  # the field hides tuple.count
    near: jax.Array
    low: jax.Array
    normals: jax.Array
    sums: jax.Array
    votes: jax.Array
    rate: jax.Array
    steps: jax.Array


def walk(norm: str, moves: Moves) -> Attack:
    """The attack from labels with these moves."""

    def init(key, x, loss):
        del key, loss
        zero, sums = jnp.int32(0), jnp.zeros((2, *x.shape), x.dtype)
        return BoundaryState(
            phase=jnp.int32(_START),
            count=zero,
            near=x,
            low=jnp.float32(0),
            normals=zero,
            sums=sums,
            votes=jnp.zeros(2, jnp.float32),
            rate=jnp.float32(moves.rate),
            steps=jnp.int32(moves.steps),
        )

    def propose(key, state, x, eps, t):
        del eps, t
        images = [
            _random_image(key, state.count, x.shape),
            between(x, state.near, (1 + state.low) / 2, norm),
            moves.probe(key, x, state.near, state.normals),
            moves.step(x, state.near, _normal(state), state.rate, state.normals),
        ]
        return lax.select_n(state.phase, *images)[None]

    def update(key, state, x, eps, t, points, losses):
        del key, eps, t
        point, hit = points[0], losses[0] < 0
        state = state._replace(count=state.count + 1)
        after = [
            select(hit, _bisecting(state, point), state),
            _bisected(moves, state, x, point, hit),
            _probed(moves, state, point, hit),
            _stepped(moves, state, point, hit),
        ]
        return jax.tree.map(lambda *leaves: lax.select_n(state.phase, *leaves), *after)

    return Attack(norm, None, 1, init, propose, update)


# --- the state after a query in each phase -----------------------------------------------------------


def _bisected(moves: Moves, state: BoundaryState, x, point, hit) -> BoundaryState:
    middle = (1 + state.low) / 2
    near = jnp.where(hit, point, state.near)
    low = jnp.where(hit, state.low / middle, middle)
    state = state._replace(near=near, low=low)
    more = state.steps < moves.steps
    following = select(more, state._replace(phase=jnp.int32(_STEP)), _probing(state))
    return select(1 - low <= jnp.maximum(moves.tolerance(x, near), _FINEST), following, state)


def _probed(moves: Moves, state: BoundaryState, point, hit) -> BoundaryState:
    side = jnp.arange(2) == hit.astype(jnp.int32)
    displacement = _ball.steepest(point - state.near, "l2")
    mask = side.reshape((2,) + (1,) * displacement.ndim)
    sums = state.sums + jnp.where(mask, displacement[None], 0.0)
    state = state._replace(sums=sums, votes=state.votes + side.astype(jnp.float32))
    zero, rate = jnp.int32(0), jnp.float32(moves.rate)
    stepping = state._replace(phase=jnp.int32(_STEP), count=zero, rate=rate, steps=zero)
    return select(state.count >= moves.probes(state.normals), stepping, state)


def _stepped(moves: Moves, state: BoundaryState, point, hit) -> BoundaryState:
    """After a failure of the first step, further probes join those at the same image."""
    moved = state.steps > 0
    again = state._replace(rate=state.rate * moves.shrink)
    joined = _probing(state)._replace(sums=state.sums, votes=state.votes)
    probing = select(moved, _probing(state), joined)
    missed = select(moved | (state.count >= moves.tries), probing, again)
    ahead = _bisecting(state, point)._replace(rate=2 * state.rate, steps=state.steps + 1)
    return select(hit, ahead, missed)


def _bisecting(state: BoundaryState, point) -> BoundaryState:
    zero, low = jnp.int32(0), jnp.float32(0)
    return state._replace(phase=jnp.int32(_BISECT), count=zero, near=point, low=low)


def _probing(state: BoundaryState) -> BoundaryState:
    """Before the probes of another normal."""
    return state._replace(
        phase=jnp.int32(_PROBE),
        count=jnp.int32(0),
        normals=state.normals + 1,
        sums=jnp.zeros_like(state.sums),
        votes=jnp.zeros_like(state.votes),
    )


# --- images ------------------------------------------------------------------------------------------


def uniforms(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent numbers in [0, 1)."""
    return _drawn(noise.Uniforms, key, shape)


def normals(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent standard normals."""
    return _drawn(noise.Normals, key, shape)


def _drawn(source: type[noise.Words], key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    (seed,) = noise.child_seeds(noise.make_seed(key), 0, 1)
    return noise.row_noise(source(seed), shape).dense()


def _random_image(key: jax.Array, attempt: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform noise in tiles of 1, 2, 4 ... 32 pixels: models call fine noise by few classes."""
    image = uniforms(key, shape)
    for axis in range(min(2, len(shape))):
        places = jnp.arange(shape[axis]) >> (attempt % 6)
        image = jnp.take(image, places, axis)
    return image


def _normal(state: BoundaryState) -> jax.Array:
    """Mean adversarial displacement less the mean of the others: points to adversarial images."""
    votes = jnp.maximum(state.votes, 1)
    return state.sums[1] / votes[1] - state.sums[0] / votes[0]


def between(x: jax.Array, near: jax.Array, fraction: jax.Array, norm: str) -> jax.Array:
    """The image nearest to `near` at a fraction of its distance from x."""
    if norm == "l2":
        return x + fraction * (near - x)
    radius = fraction * _ball.length(near - x, norm)
    return jnp.clip(near, x - radius, x + radius)


def turned(x: jax.Array, direction: jax.Array, distance: jax.Array, norm: str) -> jax.Array:
    """The image along a direction from x, a little nearer than `distance`.

    The box cuts a part of the way; a longer way makes up for it.
    """
    distance = (1 - _LEAST_GAIN) * distance
    unit = direction / jnp.maximum(_ball.length(direction, norm), 1e-30)

    def longer(_, reach):
        image = jnp.clip(x + reach * unit, 0.0, 1.0)
        return reach * distance / jnp.maximum(_ball.length(image - x, norm), 1e-30)

    reach = lax.fori_loop(0, 4, longer, distance)
    return _ball.project(x + reach * unit, x, distance, norm)


def resolved(radius: jax.Array, x: jax.Array) -> jax.Array:
    """The radius of a probe, or the least at which float32 pixels resolve it."""
    return jnp.maximum(radius, _FINEST * x.size**0.5)
