"""The rounds of an attack on a batch of images: pure functions for a compiled loop and for the host."""

from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from zojax import noise
from zojax._numerics import promoting
from zojax.attacks import _ball, _losses
from zojax.attacks._attack import Attack
from zojax.attacks._driver.types import PATIENCE, ImageState, Options
from zojax.attacks._layout import outward
from zojax.attacks._result import Result

State = TypeVar("State")


class Rounds(NamedTuple):
    """An attack and its options. `outputs` are scores; `answered` marks the images that the model saw."""

    attack: Attack
    options: Options

    @promoting
    def start(
        self, key: jax.Array, x: jax.Array, y: jax.Array, starts: jax.Array | None
    ) -> ImageState:
        """Every image before its first query."""
        return jax.vmap(partial(self._start, key))(x, y, starts)

    def active(self, state: ImageState) -> jax.Array:
        """Images that are not solved, were not given up, and can pay for another round."""
        cost = jnp.where(state.queries == 0, 1, self.attack.points)
        hopeless = (state.unusable == state.queries) & (state.queries >= PATIENCE)
        return ~state.solved & ~hopeless & (state.queries + cost <= self.options.budget)

    @promoting
    def propose(self, eps: jax.Array, state: ImageState) -> jax.Array:
        """The images of a round, projected: (images, points, ...)."""
        room = _ball.radius(_ball.LARGEST_RADIUS) if self.attack.from_labels else eps

        def propose(s: ImageState) -> jax.Array:
            points = self.attack.propose(noise.fold_in(s.key, s.t), s.inner, s.x, eps, s.t)
            if s.start is not None:
                points = jnp.where(s.t == 0, s.start[None], points)
            return jax.vmap(lambda point: _ball.project(point, s.x, room, self.attack.norm))(points)

        return jax.vmap(propose)(state)

    @promoting
    def tell_first(self, state: ImageState, outputs, answered) -> ImageState:
        """After the first query, x itself, of every answered image."""
        return jax.vmap(self._tell_first)(state, outputs, answered)

    def tell(self, eps: jax.Array, state: ImageState, outputs, answered) -> ImageState:
        """After the answered images of a round, which are proposed anew."""
        return self.advance(eps, state, self.propose(eps, state), outputs, answered)

    @promoting
    def advance(self, eps: jax.Array, state: ImageState, points, outputs, answered) -> ImageState:
        """After the answered images `points` of a round."""
        return jax.vmap(partial(self._advance, eps))(state, points, outputs, answered)

    @promoting
    def result(self, eps: jax.Array, state: ImageState) -> Result:
        norms = jax.vmap(lambda a, b: _ball.length(a - b, self.attack.norm))(state.best, state.x)
        success = state.solved
        if self.attack.from_labels:
            success |= (eps == 0) & (state.best_loss < 0)
        images = outward(state.best, self.options.layout)
        return Result(images, success, state.queries, norms, state.unusable, state.flat)

    # --- one image ---

    def _start(self, key, x, y, start) -> ImageState:
        inf, zero, own = jnp.float32(jnp.inf), jnp.int32(0), noise.fold_in(key, checksum(x))
        # Traced images cannot be refused. Class -1, which has no score, makes all their scores unusable.
        y = jnp.where(jnp.all((x >= 0) & (x <= 1)), y, -1)
        return ImageState(
            key=own,
            x=x,
            y=y,
            start=start,
            t=zero,
            queries=zero,
            solved=jnp.bool_(False),
            best=x,
            best_loss=inf,
            first_loss=inf,
            unusable=zero,
            flat=zero,
            inner=self.attack.init(own, x, inf),
        )

    def _judge(self, outputs, y) -> tuple[jax.Array, jax.Array]:
        logits, loss = _losses.as_logits(outputs, self.options.output), self.attack.loss
        if len(outputs) == 1:
            logits, y = _losses.of_label(outputs[0], y)
        return _losses.judge(logits, y, self.options.targeted, loss or _losses.decision)

    def _tell_first(self, s: ImageState, outputs, answered) -> ImageState:
        loss, hit = self._judge(outputs, s.y)
        after = s._replace(
            queries=jnp.int32(1),
            solved=hit,
            best_loss=loss,
            first_loss=loss,
            unusable=jnp.isinf(loss).astype(jnp.int32),
            inner=self.attack.init(s.key, s.x, loss),
        )
        return select(answered, after, s)

    def _advance(self, eps, s: ImageState, points, outputs, answered) -> ImageState:
        losses, hits = jax.vmap(self._judge, (0, None))(outputs, s.y)
        losses, hits = jnp.where(answered, losses, jnp.inf), hits & answered
        key = noise.fold_in(s.key, s.t)
        solves, worth = hits, jnp.full_like(losses, -jnp.inf)
        if self.attack.from_labels:
            lengths = jax.vmap(lambda point: _ball.length(point - s.x, self.attack.norm))(points)
            solves, worth = hits & (lengths <= eps), -1 / jnp.maximum(lengths, 1e-30)
        ranks = jnp.where(hits, worth, losses)
        first = jnp.argmin(ranks)
        better = ranks[first] < s.best_loss
        usable = jnp.isfinite(losses)
        after = s._replace(
            t=s.t + 1,
            queries=s.queries + _count(answered),
            solved=jnp.any(solves),
            best=jnp.where(better, points[first], s.best),
            best_loss=jnp.where(better, ranks[first], s.best_loss),
            unusable=s.unusable + _count(answered & ~usable),
            flat=s.flat + _count(usable & (losses == s.first_loss)),
            inner=self.attack.update(key, s.inner, s.x, eps, s.t, points, losses),
        )
        return select(jnp.any(answered), after, s)


def select(condition: jax.Array, after: State, before: State) -> State:
    """One state or the other, leaf by leaf where they differ."""
    return jax.tree.map(
        lambda new, old: old if new is old else jnp.where(condition, new, old), after, before
    )


def _count(bools: jax.Array) -> jax.Array:
    return jnp.sum(bools, dtype=jnp.int32)


def checksum(x: jax.Array) -> jax.Array:
    """A 32-bit hash of an image's bits. Integer sums are exact, whatever their order."""
    bits = lax.bitcast_convert_type(x, jnp.uint32).ravel()
    place = jnp.arange(bits.shape[0], dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    return jnp.sum(noise.scramble(bits ^ place), dtype=jnp.uint32)
