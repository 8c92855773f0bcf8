"""Arrays put together from several: concatenations, stacks, and updates of a part.

The noise of the whole is a sum of terms, each with zeros outside its piece. Pieces of one weight that
share a factor stay one term, so a roll keeps the rank.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from zojax.implicit import _compat
from zojax.implicit._low_rank import Term, term_of, total
from zojax.implicit._perturbed import Perturbed, base_of
from zojax.implicit._registry import rule
from zojax.implicit._walk import Context


@rule("concatenate", moves=True)
def concatenate(context: Context, eqn: JaxprEqn, *pieces) -> list:
    axis = eqn.params["dimension"]
    return _joined(context, eqn, pieces, axis, [x.shape[axis] for x in pieces], is_new=False)


@rule("stack", moves=True)
def stack(context: Context, eqn: JaxprEqn, *pieces) -> list:
    return _joined(context, eqn, pieces, eqn.params["axis"], [1] * len(pieces), is_new=True)


def _joined(
    context: Context, eqn: JaxprEqn, pieces: Sequence, axis: int, lengths: list[int], is_new: bool
) -> list:
    """Pieces side by side: their factors along the axis, with zeros in the places of other pieces.

    A new axis belongs to the left factor.
    """
    like = _first_low_rank(pieces)
    if like is None:
        return context.fallback(eqn, *pieces)
    sides, terms = like.sides, [_term(context, eqn, x, like.sides) for x in pieces]
    if is_new:
        new = (sides[:axis].count(0),)
        terms = [t and t.with_factor(0, lax.expand_dims(t.factors[0], new)) for t in terms]
        sides = (*sides[:axis], 0, *sides[axis:])
    if any(isinstance(x, Perturbed) and t is None for x, t in zip(pieces, terms, strict=True)):
        return context.fallback(eqn, *pieces)
    side = sides[axis]
    place = sides[:axis].count(side)
    groups: dict[tuple, dict[int, Term]] = {}
    for i, t in enumerate(terms):
        if t is not None:
            groups.setdefault((id(t.scale), id(t.factors[1 - side])), {})[i] = t
    joined = []
    for members in groups.values():
        first = next(iter(members.values()))
        before, after = first.factors[side].shape[:place], first.factors[side].shape[place + 1 :]
        parts = [
            members[i].factors[side]
            if i in members
            else jnp.zeros_like(first.factors[side], shape=(*before, n, *after))
            for i, n in enumerate(lengths)
        ]
        joined.append(first.with_factor(side, lax.concatenate(parts, place)))
    for x in pieces:
        context.kept(x, eqn)
    (base,) = _compat.bind(eqn, *map(base_of, pieces))
    whole = total(like, base, sides, joined)
    context.made_by(whole, eqn, pieces)
    return [whole]


@rule("dynamic_update_slice", moves=True)
def dynamic_update_slice(context: Context, eqn: JaxprEqn, operand, update, *starts) -> list:
    like = _first_low_rank((operand, update))
    if like is None or any(isinstance(s, Perturbed) for s in starts):
        return context.fallback(eqn, operand, update, *starts)

    def place(axes, target, part):
        return lax.dynamic_update_slice(target, part, [starts[a] for a in axes])

    touched = [a for a, n in enumerate(operand.shape) if n != update.shape[a]]
    parts = _Part(operand, like.sides, touched), _Part(update, like.sides, [])
    return _updated(context, eqn, (operand, update, *starts), *parts, place, True)


@rule("scatter", "scatter-add", moves=True)
def scatter(context: Context, eqn: JaxprEqn, operand, indices, update) -> list:
    """Updates of rows or columns, or of one block."""
    dims = eqn.params["dimension_numbers"]
    window, inserted = dims.update_window_dims, dims.inserted_window_dims
    like = _first_low_rank((operand, update))
    if like is None or isinstance(indices, Perturbed) or dims.operand_batching_dims:
        return context.fallback(eqn, operand, indices, update)
    touched = sorted({*inserted, *dims.scatter_dims_to_operand_dims})
    kept = [a for a in range(len(operand.shape)) if a not in inserted]
    batch = [u for u in range(len(update.shape)) if u not in window]
    if like is operand:
        sides = like.sides
        side = sides[touched[0]] if touched else 0
    else:
        of_batch = {like.sides[u] for u in batch}
        side = min(of_batch, default=0)
        of_kept = {a: like.sides[u] for a, u in zip(kept, window, strict=True)}
        sides = tuple(of_kept.get(a, side) for a in range(len(operand.shape)))
    update_sides = [side] * len(update.shape)
    for a, u in zip(kept, window, strict=True):
        update_sides[u] = sides[a]
    if batch and any(sides[a] != side for a in touched):
        return context.fallback(eqn, operand, indices, update)

    def place(axes, target, part):
        own = [i for i, a in enumerate(dims.scatter_dims_to_operand_dims) if a in axes]
        of_update = [u for u, s in enumerate(update_sides) if s == sides[axes[0]]]
        inner = lax.ScatterDimensionNumbers(
            update_window_dims=tuple(i for i, u in enumerate(of_update) if u in window),
            inserted_window_dims=tuple(i for i, a in enumerate(axes) if a in inserted),
            scatter_dims_to_operand_dims=tuple(
                axes.index(dims.scatter_dims_to_operand_dims[i]) for i in own
            ),
        )
        options = {k: eqn.params[k] for k in ("indices_are_sorted", "unique_indices", "mode")}
        run = lax.scatter_add if eqn.primitive.name == "scatter-add" else lax.scatter
        return run(target, indices[..., np.array(own, int)], part, inner, **options)

    parts = _Part(operand, sides, touched), _Part(update, tuple(update_sides), [])
    replaces = eqn.primitive.name == "scatter"
    return _updated(context, eqn, (operand, indices, update), *parts, place, replaces)


class _Part(NamedTuple):
    """An operand of an update: the sides of its axes, and the axes along which a part is updated."""

    x: jax.Array | Perturbed
    sides: tuple[int, ...]
    touched: Sequence[int]

    def shape(self, side: int) -> tuple[int, ...]:
        return tuple(n for n, s in zip(self.x.shape, self.sides, strict=True) if s == side)


def _updated(
    context: Context,
    eqn: JaxprEqn,
    operands: Sequence,
    old: _Part,
    new: _Part,
    place: Callable[[tuple[int, ...], jax.Array, jax.Array], jax.Array],
    replaces: bool,
) -> list:
    """The old noise without the part that is replaced, and the new noise at its place."""
    olds, news = (_term(context, eqn, part.x, part.sides) for part in (old, new))
    for part, term in ((old, olds), (new, news)):
        if isinstance(part.x, Perturbed) and term is None:
            return context.fallback(eqn, *operands)
    partial_sides = [s for s in (0, 1) if any(old.sides[a] == s for a in old.touched)]

    def placed(side: int, target: jax.Array, part: jax.Array) -> jax.Array:
        axes = tuple(a for a, s in enumerate(old.sides) if s == side)
        return jax.vmap(partial(place, axes), -1, -1)(target, part)

    def cleared(side: int, factor: jax.Array) -> jax.Array:
        zeros = jnp.zeros((*new.shape(side), factor.shape[-1]), factor.dtype)
        return placed(side, factor, zeros)

    terms = []
    if olds is not None and not replaces:
        terms.append(olds)
    elif olds is not None and len(partial_sides) == 1:
        (side,) = partial_sides
        terms.append(olds.with_factor(side, cleared(side, olds.factors[side])))
    elif olds is not None and partial_sides:  # all noise less that of a block
        left, right = olds.factors
        block = cleared(0, left) - left, right - cleared(1, right)
        terms += [olds, Term(olds.scale, block)]
    if news is not None:
        for side in partial_sides:
            factor = news.factors[side]
            zeros = jnp.zeros((*old.shape(side), factor.shape[-1]), factor.dtype)
            news = news.with_factor(side, placed(side, zeros, factor))
        terms.append(news)
    like = _first_low_rank((old.x, new.x))
    for x in operands:
        context.kept(x, eqn)
    (base,) = _compat.bind(eqn, *map(base_of, operands))
    return [total(cast(Perturbed, like), base, old.sides, terms)]


def _first_low_rank(operands) -> Perturbed | None:
    """The first low-rank operand, vectors aside."""
    return next(
        (x for x in operands if isinstance(x, Perturbed) and x.is_low_rank and not x.is_vector),
        None,
    )


def _term(context: Context, eqn: JaxprEqn, x, sides) -> Term | None:
    return term_of(context, eqn, x, sides) if isinstance(x, Perturbed) else None
