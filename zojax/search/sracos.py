"""SRACOS: classification-based search, one sample at a time."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from zojax._checks import require_count, require_flag, require_number
from zojax.search import _box
from zojax.search._algorithm import Algorithm, float_dtype, reused, sequential
from zojax.search._arrays import put_row
from zojax.search._random import Random, advance, index_from, make_random, unit, words
from zojax.search.spaces import Space

REPLACEMENTS = ("worst", "random", "margin")


class SracosState(NamedTuple):
    """T points, each in its place; `positives` says where the best P are, the best first.

    What was not evaluated yet has the value inf.
    """

    random: Random
    count: jax.Array  # points told
    points: jax.Array  # (T, d)
    values: jax.Array  # (T,)
    positives: jax.Array  # int32 (P,)


@reused
def sracos(
    *,
    replacement: str = "worst",
    exploration: float = 0.01,
    num_positives: int | None = None,
    parity: bool = False,
) -> Algorithm:
    """Sequential RACOS, the algorithm ZOOpt runs by default.

    T uniform points, and more until a value is finite; the best P are positive, the rest negative. Then
    each step draws a random positive, learns a box around it that holds no negative, redraws a few of its
    coordinates in the box (with probability `exploration` the whole point, in the space) and evaluates.
    The new point enters the sorted positives, and the one that leaves them may replace a negative.

    Args:
      replacement: which negative leaves. "worst" (WR): the worst, for a better point; "random" (RR): any;
        "margin" (LM): the one farthest from the best point.
      exploration: the share of uniform samples. Runs side by side explore at the same steps.
      num_positives: P, from ZOOpt's table by default (T and the redrawn coordinates are, too).
      parity: learn the box as ZOOpt does, by cuts in random coordinates until no bad point is left, and
        after T points even where no value is finite. By default every bad point cuts the coordinates that
        are redrawn (those with an order, where all have one), which is faster and finds better points.

    Returns:
      An `Algorithm`.

    Raises:
      ValueError: an unknown replacement; an exploration outside [0, 1]; num_positives below 1.

    References:
      Hu, Qian and Yu, `Sequential classification-based optimization for direct policy search
      <https://doi.org/10.1609/aaai.v31i1.10927>`_, AAAI 2017.

    >>> from zojax import search
    >>> found = search.minimize(lambda x: abs(x - 1).sum(), search.uniform(-4, 4, (5,)),
    ...                         search.sracos(), budget=1000, key=0)
    >>> bool(found.best_value < 0.5)
    True
    """
    require_replacement(replacement)
    require_exploration(exploration)
    require_flag("parity", parity)
    if num_positives is not None:
        num_positives = require_count("num_positives", num_positives)
    learn = partial(tell_point, replacement)

    def ask(space: Space, state: SracosState):
        x, state = propose(space, state, exploration, parity)
        return x[None], state

    return Algorithm(
        init=partial(start, num_positives),
        ask=ask,
        tell=sequential(learn),
        best=best,
        inject=learn,
    )


def start(num_positives: int | None, key, space: Space, budget: int) -> SracosState:
    """T points that have no values yet."""
    shape = _box.default_shape(space, budget)
    positives = num_positives or shape.positives
    total = max(shape.positives + shape.negatives, positives + 2)
    return SracosState(
        random=make_random(key),
        count=jnp.int32(0),
        points=space.sample(key, total).astype(float_dtype()),
        values=jnp.full(total, jnp.inf, float_dtype()),
        positives=jnp.arange(positives, dtype=jnp.int32),
    )


def propose(space: Space, state: SracosState, exploration, parity, taken=None):
    """(a point, the next state); if possible not one of the T points, nor one of `taken` (n, d)."""
    x, random = propose_from(
        space,
        state.random,
        state.points,
        state.values,
        state.positives,
        count=state.count,
        exploration=exploration,
        parity=parity,
        taken=taken,
    )
    return x, state._replace(random=random)


def propose_from(
    space, random, points, values, positives, *, count, exploration, parity, taken=None
):
    """(a point, random): drawn from a box around one of the positives without the other points.

    Uniform until there are as many values as points, and else with probability `exploration`.
    """
    explores = (count < len(points)) | (shared_coin(count) < exploration)
    if not parity:  # a box around a point without a value says nothing
        explores |= jnp.isinf(entry(values, positives[0]))
    bad = ~_holds(len(points), positives)

    def attempt(random: Random):
        later, last = advance(random), advance(advance(random))
        u = unit(random, 1)
        good = entry(positives, index_from(u[0], len(positives)))
        x = _box.sample(space, later, points, good, bad, parity)
        x = x if space.is_continuum else space.clip(x)
        return uniform_if(space, explores, last, x), advance(last)

    known = [] if space.is_continuum else [points]
    known += [] if taken is None else [taken]
    return distinct(attempt, random, known)


def tell_point(replacement: str, space: Space, state: SracosState, x, value) -> SracosState:
    """The new point enters the positives if it is good, else the negatives if it is not too bad."""
    del space
    total, ranks = len(state.values), state.positives
    negative = ~is_positive(state)
    best_values = jnp.stack([entry(state.values, i) for i in ranks])
    behind = value < best_values  # which positives the new point overtakes
    enters = behind[-1]
    leaver = ranks[-1]
    # Who competes for a place among the negatives: the positive that had to leave, or the point itself.
    rival = jnp.where(enters, best_values[-1], value)
    negative_values = jnp.where(negative, state.values, -jnp.inf)
    worst = _box.index_of(_first(negative & (negative_values == jnp.max(negative_values))))
    random = state.random
    replaced = worst
    if replacement == "random":
        word, random = words(random, 1)[0], advance(random)
        replaced = _box.index_of(_box.pick(negative, word))
    elif replacement == "margin":
        center = lax.dynamic_index_in_dim(state.points, ranks[0], 0, keepdims=False)
        distance = jnp.sum((state.points - center) ** 2, axis=1)
        replaced = jnp.argmax(jnp.where(negative, distance, -1.0)).astype(jnp.int32)
    worst_value = jnp.max(negative_values)
    if replacement == "worst":
        succeeds = rival < worst_value
    else:
        # Places without a value are filled first.
        replaced = jnp.where(jnp.isinf(worst_value), worst, replaced)
        succeeds = jnp.isfinite(rival)
    # Points stay where they are: the new one takes the place that becomes free, if any does.
    place = jnp.where(succeeds, replaced, leaver)
    wanted = enters | succeeds
    here = wanted & (jnp.arange(total) == place)
    moved = jnp.concatenate([ranks[:1], ranks[:-1]])
    first = behind & ~jnp.concatenate([jnp.zeros(1, bool), behind[:-1]])
    return SracosState(
        random=random,
        count=state.count + 1,
        points=put_row(state.points, place, x, wanted),
        values=jnp.where(here, value, state.values),
        positives=jnp.where(first, place, jnp.where(behind, moved, ranks)),
    )


def best(state: SracosState):
    """The best point so far and its value."""
    place = state.positives[0]
    return state.points[place], state.values[place]


def is_positive(state: SracosState) -> jax.Array:
    """bool (T,)."""
    return _holds(len(state.values), state.positives)


def _holds(total: int, places: jax.Array) -> jax.Array:
    """bool (total,): which indices are among `places`."""
    return jnp.any(lax.iota(jnp.int32, total)[:, None] == places, axis=1)


def entry(array: jax.Array, index: jax.Array) -> jax.Array:
    """array[index] of a short array, without a gather."""
    return jnp.sum(jnp.where(lax.iota(jnp.int32, len(array)) == index, array, 0))


def _first(mask: jax.Array) -> jax.Array:
    """Only the first true entry of a mask."""
    index = lax.iota(jnp.int32, mask.shape[0])
    return index == jnp.min(jnp.where(mask, index, mask.shape[0]))


def shared_coin(count: jax.Array) -> jax.Array:
    """A uniform number that is the same in every run, so that runs side by side explore together."""
    seed = jnp.uint32(0x243F6A88), jnp.uint32(0x85A308D3)
    return unit(Random(jnp.stack(seed), count.astype(jnp.uint32)), 1)[0]


def uniform_if(space: Space, wanted: jax.Array, random: Random, x: jax.Array) -> jax.Array:
    """A uniform point where `wanted`, else x; nothing is drawn when no run wants one."""

    # The bounds of the space are operands: a switch under vmap would batch constants of `choose`, which JAX
    # does not take.
    uniform = jax.make_jaxpr(lambda r: space.from_unit(unit(r, space.dimension)))(random)

    def replace(bounds, wanted, random, x):
        return jnp.where(wanted, jax.core.eval_jaxpr(uniform.jaxpr, bounds, *random)[0], x)

    def keep(bounds, wanted, random, x):
        return x

    @jax.custom_batching.custom_vmap
    def choose(*operands):
        return lax.cond(operands[1], replace, keep, *operands)

    @choose.def_vmap
    def _(size, batched, *operands):
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched))
        branches = (jax.vmap(f, axes, axis_size=size) for f in (replace, keep))
        return lax.cond(jnp.any(operands[1]), *branches, *operands), True

    return choose(uniform.consts, wanted, random, x)


def distinct(attempt, random: Random, known: list[jax.Array], tries: int = 100):
    """(x, random) of an attempt that is none of the `known` points (each (n, d)), if one comes in time."""
    x, random = attempt(random)
    if not known:
        return x, random

    def is_known(x):
        return jnp.any(jnp.stack([jnp.any(jnp.all(x == points, axis=1)) for points in known]))

    def again(carry):
        x, _, i = carry
        return is_known(x) & (i < tries)

    def retry(carry):
        _, random, i = carry
        return *attempt(random), i + 1

    x, random, _ = lax.while_loop(again, retry, (x, random, jnp.int32(1)))
    return x, random


def require_replacement(replacement) -> None:
    if not isinstance(replacement, str) or replacement not in REPLACEMENTS:
        raise ValueError(f"replacement must be one of {REPLACEMENTS}, got {replacement!r}.")


def require_exploration(value, name: str = "exploration") -> None:
    """Traced values pass."""
    if isinstance(value, jax.core.Tracer):
        return
    require_number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}.")
