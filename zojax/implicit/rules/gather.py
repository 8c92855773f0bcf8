"""Gathers: lookups of rows, columns or windows, on the axes of one factor of the noise."""

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from zojax.implicit import _compat
from zojax.implicit._perturbed import Part, Perturbed
from zojax.implicit._view import view


def _fills_rows(eqn: JaxprEqn, operand: Perturbed) -> bool:
    """A gather with a fill value: row numbers have no noise outside the bounds; a square or a multiplier
    that waits would change the fill value."""
    fill = eqn.params["fill_value"]
    is_nan = fill is None or fill != fill  # NaN plus noise is NaN
    waits = operand.is_squared or bool(operand.multipliers)
    return not is_nan and (operand.has_row_numbers or waits)


@view("gather", moves=True, unless=_fills_rows, enlarges=lambda eqn: True, deferred=True)
def gather(eqn: JaxprEqn, indices, axes, takes_new) -> Part | None:
    """Gathers from one factor only; of the other, it takes whole slices."""
    dims, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape = _compat.operand_type(eqn).shape
    gone = {*dims.collapsed_slice_dims, *dims.operand_batching_dims}
    touched = gone | {a for a, n in enumerate(sizes) if n != shape[a]}
    kept = [a for a in range(len(shape)) if a not in gone]
    out_of = dict(zip(kept, dims.offset_dims, strict=True))
    if touched and not touched & set(axes):
        return Part(tuple(out_of[a] for a in axes), None)
    # An index of a whole axis is zero, or out of bounds.
    indexed = [i for i, a in enumerate(dims.start_index_map) if a in touched]
    drops = len(indexed) < len(dims.start_index_map)
    fills = eqn.params["mode"] == lax.GatherScatterMode.FILL_OR_DROP
    if not touched or touched - set(axes) or (fills and drops):
        return None
    batch = [o for o in range(len(_compat.output_type(eqn).shape)) if o not in dims.offset_dims]
    outs = tuple(sorted(batch + [out_of[a] for a in axes if a in out_of]))
    inner = _inner_dimensions(
        dims, axes, [outs.index(out_of[a]) for a in axes if a in out_of], indexed
    )

    def apply(x):
        starts = indices[0][..., np.array(indexed, int)] if drops else indices[0]
        return lax.gather(
            x,
            starts,
            inner,
            [sizes[a] for a in axes],
            unique_indices=eqn.params["unique_indices"],
            indices_are_sorted=eqn.params["indices_are_sorted"],
            mode=eqn.params["mode"],
            fill_value=0,  # no noise outside the bounds; see `_fills_rows` for row numbers
        )

    return Part(outs, apply)


def _inner_dimensions(dims, axes, offsets, indexed) -> lax.GatherDimensionNumbers:
    """The dimension numbers of the gather from an array that has `axes` only."""
    number = {a: i for i, a in enumerate(axes)}
    return lax.GatherDimensionNumbers(
        offset_dims=tuple(offsets),
        collapsed_slice_dims=tuple(number[a] for a in dims.collapsed_slice_dims),
        start_index_map=tuple(number[dims.start_index_map[i]] for i in indexed),
        operand_batching_dims=tuple(number[a] for a in dims.operand_batching_dims),
        start_indices_batching_dims=dims.start_indices_batching_dims,
    )
