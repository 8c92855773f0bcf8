"""Views: slices, transposes, reshapes and broadcasts, on the axes of one factor. Contract: `View`."""

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from zojax.implicit import _compat
from zojax.implicit._perturbed import Part, PartOf, Perturbed
from zojax.implicit._registry import Rule, lookup, rule
from zojax.implicit._view import view
from zojax.implicit._walk import Context
from zojax.noise import Range


@view("transpose", elementwise=True, moves=True, deferred=True)
def transpose(eqn: JaxprEqn, indices, axes, takes_new) -> Part:
    return transposed(eqn.params["permutation"], axes)


def transposed(permutation: Sequence[int], axes, takes_new=False) -> Part:
    outs = tuple(o for o, a in enumerate(permutation) if a in axes)
    order = [axes.index(permutation[o]) for o in outs]
    if order == sorted(order):
        return Part(outs, None)
    return Part(outs, lambda x: lax.transpose(x, order))


def _trims_a_vector(eqn: JaxprEqn, operand: Perturbed) -> bool:
    """x[1:] and the like, of odd length: a slice of the whole vector is cheaper, see
    `noise.of_even_length`."""
    kept = _compat.output_type(eqn).size
    is_odd = eqn.params["strides"] is None and kept % 2 == 1
    return is_odd and operand.is_long_vector and kept > 0.75 * operand.base.size


@view("slice", moves=True, unless=_trims_a_vector, deferred=True)
def slice_(eqn: JaxprEqn, indices, axes, takes_new) -> Part:
    start, limit = eqn.params["start_indices"], eqn.params["limit_indices"]
    return _sliced(_shape(eqn), start, limit, eqn.params["strides"], axes)


def _sliced(shape, start, limit, strides, axes) -> Part:
    start, limit = [start[a] for a in axes], [limit[a] for a in axes]
    strides = None if strides is None else [strides[a] for a in axes]
    is_plain = strides is None or all(s == 1 for s in strides)
    if is_plain and start == [0] * len(axes) and limit == [shape[a] for a in axes]:
        return Part(axes, None)

    def numbers(n: Range) -> Range:
        return Range(n.start + start[0], (limit[0] - start[0],))

    is_range = is_plain and len(axes) == 1
    return Part(axes, lambda x: lax.slice(x, start, limit, strides), numbers if is_range else None)


@rule("split", moves=True, deferred=True)
def split(context: Context, eqn: JaxprEqn, operand: Perturbed) -> list:
    shape, axis, first = _shape(eqn), eqn.params["axis"], 0
    pieces: list[PartOf] = []
    for size in eqn.params["sizes"]:
        start = [first if a == axis else 0 for a in range(len(shape))]
        limit = [first + size if a == axis else n for a, n in enumerate(shape)]
        pieces.append(partial(_piece, shape, start, limit))
        first += size
    return _pieces(context, eqn, operand, pieces)


@rule("unstack", moves=True, deferred=True)
def unstack(context: Context, eqn: JaxprEqn, operand: Perturbed) -> list:
    axis = eqn.params["axis"]
    entries = [partial(_entry, axis, i) for i in range(_shape(eqn)[axis])]
    return _pieces(context, eqn, operand, entries)


def _pieces(context: Context, eqn: JaxprEqn, operand: Perturbed, pieces: Sequence[PartOf]) -> list:
    """One view for each output; a slice mixes no axes."""
    context.kept(operand, eqn)
    bases = _compat.bind(eqn, operand.base)
    views = [cast(Perturbed, operand.viewed(piece)) for piece in pieces]
    return [x.replace(base=base) for x, base in zip(views, bases, strict=True)]


def _piece(shape, start, limit, axes, takes_new) -> Part:
    return _sliced(shape, start, limit, None, axes)


def _entry(axis: int, i: int, axes, takes_new) -> Part:
    outs = tuple(a - (a > axis) for a in axes if a != axis)
    if axis not in axes:
        return Part(outs, None)
    place = axes.index(axis)

    def numbers(n: Range) -> Range:
        return Range(n.start + i * math.prod(n.shape[1:]), n.shape[1:])

    return Part(
        outs,
        lambda x: lax.index_in_dim(x, i, place, keepdims=False),
        numbers if place == 0 else None,
    )


@view("rev", deferred=True)
def rev(eqn: JaxprEqn, indices, axes, takes_new) -> Part:
    dimensions = [axes.index(d) for d in eqn.params["dimensions"] if d in axes]
    return Part(axes, (lambda x: lax.rev(x, dimensions)) if dimensions else None)


@view("pad", moves=True, unless=lambda eqn, operand: operand.has_row_numbers)
def pad(eqn: JaxprEqn, indices, axes, takes_new) -> Part:
    config = [eqn.params["padding_config"][a] for a in axes]
    if not any(map(any, config)):
        return Part(axes, None)
    return Part(axes, lambda x: lax.pad(x, np.zeros((), x.dtype), config))


@view("dynamic_slice", moves=True, deferred=True)
def dynamic_slice(eqn: JaxprEqn, indices, axes, takes_new) -> Part:
    shape, sizes = _shape(eqn), eqn.params["slice_sizes"]
    if all(sizes[a] == shape[a] for a in axes):
        return Part(axes, None)
    starts, sizes = [indices[a] for a in axes], [sizes[a] for a in axes]
    return Part(axes, lambda x: lax.dynamic_slice(x, starts, sizes))


@view("squeeze", elementwise=True, moves=True, deferred=True)
def squeeze(eqn: JaxprEqn, indices, axes, takes_new) -> Part:
    gone = [d % len(_shape(eqn)) for d in eqn.params["dimensions"]]
    kept = [a for a in range(len(_shape(eqn))) if a not in gone]
    return _reshaped(eqn, tuple(kept.index(a) for a in axes if a not in gone))


@view("reshape", elementwise=True, moves=True, deferred=True)
def reshape(eqn: JaxprEqn, indices, axes, takes_new) -> Part | None:
    old, new = _shape(eqn), _compat.output_type(eqn).shape
    if eqn.params["dimensions"] is not None or math.prod(old) == 0:
        return None
    outs = [o for o, n in enumerate(new) if n == 1] if takes_new else []
    for before, after in _blocks(old, new):
        inside = [a in axes for a in before]
        if any(inside) and not all(inside):
            return None
        if all(inside):
            outs += after
    return _reshaped(eqn, tuple(sorted(outs)))


_within_factors = cast(Rule, lookup("reshape").rule)


@rule("reshape", elementwise=True, moves=True, deferred=True)
def flatten(context: Context, eqn: JaxprEqn, operand: Perturbed) -> list:
    """Within each factor; a vector of all entries waits for a product, as in `jnp.vdot`."""
    folded = operand.folded() if operand.is_low_rank and not operand.is_activation else None
    sides = {s for n, s in zip(operand.shape, operand.sides, strict=True) if n != 1}
    shape = _compat.output_type(eqn).shape
    if folded is None or len(sides) < 2 or len(shape) != 1:
        return [*_within_factors(context, eqn, operand)]
    context.kept(operand, eqn)
    return [folded.replace(flat=eqn)]


def _blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of adjacent axes that a reshape turns into one another; axes of size 1 left out.

    >>> _blocks((4, 6, 1, 5), (2, 2, 6, 5))
    [([0], [0, 1]), ([1], [2]), ([3], [3])]
    """
    left = [[(a, n) for a, n in enumerate(shape) if n != 1] for shape in (old, new)]
    blocks = []
    while left[0]:
        groups: tuple[list[int], list[int]] = ([], [])
        sizes = [1, 1]
        while not groups[0] or sizes[0] != sizes[1]:
            short = int(sizes[0] > sizes[1])
            axis, n = left[short].pop(0)
            groups[short].append(axis)
            sizes[short] *= n
        blocks.append(groups)
    return blocks


def _reshaped(eqn: JaxprEqn, outs: tuple[int, ...]) -> Part:
    """A part with a new shape only."""
    shape = tuple(_compat.output_type(eqn).shape[o] for o in outs)
    return Part(outs, lambda x: lax.reshape(x, shape), lambda n: Range(n.start, shape))


def _grows(eqn: JaxprEqn) -> bool:
    return _compat.output_type(eqn).size > _compat.operand_type(eqn).size


def _repeats(eqn: JaxprEqn, operand: Perturbed) -> bool:
    """A broadcast of noise that is cheaper to make once, before."""
    return _grows(eqn) and (operand.is_vector or not operand.is_low_rank)


@view("broadcast_in_dim", elementwise=True, unless=_repeats, enlarges=_grows, deferred=True)
def broadcast_in_dim(eqn: JaxprEqn, indices, axes, takes_new) -> Part:
    dims, shape = eqn.params["broadcast_dimensions"], eqn.params["shape"]
    new = [o for o in range(len(shape)) if o not in dims] if takes_new else []
    outs = tuple(sorted([dims[a] for a in axes] + new))
    sizes, places = [shape[o] for o in outs], [outs.index(dims[a]) for a in axes]
    if sizes == [_shape(eqn)[a] for a in axes]:
        return Part(outs, None)
    return Part(outs, lambda x: lax.broadcast_in_dim(x, sizes, places))


@view("tile", unless=_repeats, enlarges=_grows, deferred=True)
def tile(eqn: JaxprEqn, indices, axes, takes_new) -> Part:
    reps = [eqn.params["reps"][a] for a in axes]
    return Part(axes, (lambda x: jnp.tile(x, reps)) if math.prod(reps) > 1 else None)


@view("all_gather", deferred=True)
def all_gather(eqn: JaxprEqn, indices, axes, takes_new) -> Part | None:
    """Gathers the shards of the factor that has the axis, as those of the parameter."""
    p = eqn.params
    if not p["tiled"] or p["axis_index_groups"] is not None:
        return None
    if p["all_gather_dimension"] not in axes:
        return Part(axes, None)
    axis = axes.index(p["all_gather_dimension"])
    return Part(axes, lambda x: lax.all_gather(x, p["axis_name"], axis=axis, tiled=True))


def _shape(eqn: JaxprEqn) -> tuple[int, ...]:
    return _compat.operand_type(eqn).shape
