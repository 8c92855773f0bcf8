"""Views: what an indexing primitive does to an array that has only some of the operand's axes.

A rule is `rule(eqn, indices, axes, hosts) -> Part | None`. `axes` are the operand axes that the
factor has, `indices` the traced indices, and `hosts` says whether axes that are new belong to this
factor. None means that the view mixes these axes with others.
"""

import math

import numpy as np
from jax import lax

from zojax.implicit._perturbed import Part
from zojax.noise import Range


def _transpose(eqn, indices, axes, hosts):
    permutation = eqn.params["permutation"]
    outs = tuple(o for o, a in enumerate(permutation) if a in axes)
    order = [axes.index(permutation[o]) for o in outs]
    if order == sorted(order):
        return Part(outs, None)
    return Part(outs, lambda x: lax.transpose(x, order))


def _slice(eqn, indices, axes, hosts):
    start, limit = eqn.params["start_indices"], eqn.params["limit_indices"]
    return _sliced(_shape(eqn), start, limit, eqn.params["strides"], axes)


def _sliced(shape, start, limit, strides, axes):
    start, limit = [start[a] for a in axes], [limit[a] for a in axes]
    strides = None if strides is None else [strides[a] for a in axes]
    if all((s, e) == (0, shape[a]) for s, e, a in zip(start, limit, axes, strict=True)):
        if strides is None or all(s == 1 for s in strides):
            return Part(axes, None)

    def numbers(n):
        return Range(n.start + start[0], (limit[0] - start[0],))

    plain = len(axes) == 1 and (strides is None or strides == [1])
    return Part(axes, lambda x: lax.slice(x, start, limit, strides), numbers if plain else None)


def split(axis, start, stop):
    """The rule of one piece of a split."""

    def piece(eqn, indices, axes, hosts):
        shape = _shape(eqn)
        starts = [start if a == axis else 0 for a in range(len(shape))]
        limits = [stop if a == axis else n for a, n in enumerate(shape)]
        return _sliced(shape, starts, limits, None, axes)

    return piece


def _rev(eqn, indices, axes, hosts):
    dimensions = [axes.index(d) for d in eqn.params["dimensions"] if d in axes]
    return Part(axes, (lambda x: lax.rev(x, dimensions)) if dimensions else None)


def _dynamic_slice(eqn, indices, axes, hosts):
    shape, sizes = _shape(eqn), eqn.params["slice_sizes"]
    if all(sizes[a] == shape[a] for a in axes):
        return Part(axes, None)
    starts, sizes = [indices[a] for a in axes], [sizes[a] for a in axes]
    return Part(axes, lambda x: lax.dynamic_slice(x, starts, sizes))


def _squeeze(eqn, indices, axes, hosts):
    gone = [d % len(_shape(eqn)) for d in eqn.params["dimensions"]]
    kept = [a for a in range(len(_shape(eqn))) if a not in gone]
    return _reshaped(eqn, tuple(kept.index(a) for a in axes if a not in gone))


def _reshape(eqn, indices, axes, hosts):
    old, new = _shape(eqn), eqn.outvars[0].aval.shape
    if eqn.params["dimensions"] is not None or math.prod(old) == 0:
        return None
    outs = [o for o, n in enumerate(new) if n == 1] if hosts else []
    for before, after in _blocks(old, new):
        inside = [a in axes for a in before]
        if any(inside) and not all(inside):
            return None
        if all(inside):
            outs += after
    return _reshaped(eqn, tuple(sorted(outs)))


def _blocks(old, new):
    """The least groups of adjacent axes, without those of size one, that a reshape makes of others.

    >>> _blocks((4, 6, 1, 5), (2, 2, 6, 5))
    [([0], [0, 1]), ([1], [2]), ([3], [3])]
    """
    old = [(a, n) for a, n in enumerate(old) if n != 1]
    new = [(a, n) for a, n in enumerate(new) if n != 1]
    blocks = []
    while old:
        groups, sizes = ([], []), [1, 1]
        while not groups[0] or sizes[0] != sizes[1]:
            short = int(sizes[0] > sizes[1])
            axis, n = (old, new)[short].pop(0)
            groups[short].append(axis)
            sizes[short] *= n
        blocks.append(groups)
    return blocks


def _reshaped(eqn, outs):
    """A part that changes the shape only."""
    shape = tuple(eqn.outvars[0].aval.shape[o] for o in outs)
    return Part(outs, lambda x: lax.reshape(x, shape), lambda n: Range(n.start, shape))


def _broadcast_in_dim(eqn, indices, axes, hosts):
    dims, shape = eqn.params["broadcast_dimensions"], eqn.params["shape"]
    new = [o for o in range(len(shape)) if o not in dims] if hosts else []
    outs = tuple(sorted([dims[a] for a in axes] + new))
    shape, places = [shape[o] for o in outs], [outs.index(dims[a]) for a in axes]
    if shape == [_shape(eqn)[a] for a in axes]:
        return Part(outs, None)
    return Part(outs, lambda x: lax.broadcast_in_dim(x, shape, places))


def _gather(eqn, indices, axes, hosts):
    """One side may be gathered from; of the other, whole slices are taken."""
    dims, sizes, shape = eqn.params["dimension_numbers"], eqn.params["slice_sizes"], _shape(eqn)
    gone = {*dims.collapsed_slice_dims, *dims.operand_batching_dims}
    touched = gone | {a for a, n in enumerate(sizes) if n != shape[a]}
    kept = [a for a in range(len(shape)) if a not in gone]
    out_of = dict(zip(kept, dims.offset_dims, strict=True))
    if touched and not touched & set(axes):
        return Part(tuple(out_of[a] for a in axes), None)
    # An index of an axis that is taken whole can only be zero, or out of bounds.
    indexed = [i for i, a in enumerate(dims.start_index_map) if a in touched]
    fills = eqn.params["mode"] == lax.GatherScatterMode.FILL_OR_DROP
    if not touched or touched - set(axes) or (fills and len(indexed) < len(dims.start_index_map)):
        return None
    batch = [o for o in range(len(eqn.outvars[0].aval.shape)) if o not in dims.offset_dims]
    outs = tuple(sorted(batch + [out_of[a] for a in axes if a in out_of]))
    number = {a: i for i, a in enumerate(axes)}
    inner = lax.GatherDimensionNumbers(
        offset_dims=tuple(outs.index(out_of[a]) for a in axes if a in out_of),
        collapsed_slice_dims=tuple(number[a] for a in dims.collapsed_slice_dims),
        start_index_map=tuple(number[dims.start_index_map[i]] for i in indexed),
        operand_batching_dims=tuple(number[a] for a in dims.operand_batching_dims),
        start_indices_batching_dims=dims.start_indices_batching_dims,
    )

    def apply(x):
        starts = indices[0]
        if len(indexed) < len(dims.start_index_map):
            starts = starts[..., np.array(indexed, int)]
        return lax.gather(
            x,
            starts,
            inner,
            [sizes[a] for a in axes],
            unique_indices=eqn.params["unique_indices"],
            indices_are_sorted=eqn.params["indices_are_sorted"],
            mode=eqn.params["mode"],
            fill_value=0,  # what lies outside is not perturbed; see _rules for rows
        )

    return Part(outs, apply)


def _all_gather(eqn, indices, axes, hosts):
    """Shards of a parameter are gathered: so are those of the factor that has the axis."""
    p = eqn.params
    if not p["tiled"] or p["axis_index_groups"] is not None:
        return None
    if p["all_gather_dimension"] not in axes:
        return Part(axes, None)
    axis = axes.index(p["all_gather_dimension"])
    return Part(axes, lambda x: lax.all_gather(x, p["axis_name"], axis=axis, tiled=True))


def _shape(eqn):
    return eqn.invars[0].aval.shape


VIEWS = {
    "transpose": _transpose,
    "slice": _slice,
    "rev": _rev,
    "dynamic_slice": _dynamic_slice,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast_in_dim,
    "gather": _gather,
    "all_gather": _all_gather,
}
