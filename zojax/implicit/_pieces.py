"""Pieces of a perturbed array: its slices in a loop, and its shards on a mesh.

Each function gives the arrays to cut, and a function that makes the piece from theirs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from zojax import noise as noises
from zojax.implicit._perturbed import Multiplier, Perturbed
from zojax.noise import Range


def slices_of(x: Perturbed) -> tuple[tuple, Callable[[tuple], Perturbed]]:
    """Arrays to slice along the first axis, and a function from their slices to a slice of this."""
    side = x.sides[0]
    factor = x.factors[side]
    rows = factor if isinstance(factor, Range) and side == 0 else None
    factor = noises.as_array(factor) if rows is None else lax.iota(jnp.uint32, rows.shape[0])
    stacked = {i: m.values for i, m in enumerate(x.multipliers) if 0 in m.axes}

    def rebuild(slices: tuple) -> Perturbed:
        base, sliced, whole, values = slices
        sliced = sliced if rows is None else rows[sliced]
        factors = (sliced, x.factors[1]) if side == 0 else (x.factors[0], sliced)
        multipliers = tuple(
            Multiplier(tuple(a - 1 for a in m.axes if a), values.get(i, m.values))
            for i, m in enumerate(x.multipliers)
        )
        return x.replace(
            base=base,
            sides=x.sides[1:],
            factors=factors,
            whole=whole,
            multipliers=multipliers,
            held_by=None,
            first=None,
        )

    return (x.base, factor, x.whole, stacked), rebuild


def shards_of(x: Perturbed, spec: PartitionSpec) -> tuple[dict, dict, Callable[[dict], Perturbed]]:
    """Arrays, their shardings, and a function from their shards to the shard of this."""
    axes = (*spec, *[None] * (len(x.shape) - len(spec)))
    hidden = [None] * (x.join.hidden if x.join else 0)
    join, treedef = jax.tree.flatten(x.join)
    arrays = {"base": x.base, "scale": x.scale, "join": join}
    specs = {"base": spec, "scale": PartitionSpec(), "join": PartitionSpec()}
    if x.whole is not None:
        arrays["whole"], specs["whole"] = x.whole, spec
    for i, m in enumerate(x.multipliers):
        arrays[f"multiplier{i}"] = m.values
        specs[f"multiplier{i}"] = PartitionSpec(*(axes[a] for a in m.axes))
    for side, factor in enumerate(x.factors):
        of_side = [axes[a] for a in x.axes(side)]
        if isinstance(factor, Range) and (side == 0 or any(of_side)):
            factor = factor.array()
        if isinstance(factor, jax.Array):
            arrays[f"factor{side}"] = factor
            specs[f"factor{side}"] = PartitionSpec(*of_side, *hidden)

    def rebuild(shards: dict) -> Perturbed:
        factors = tuple(shards.get(f"factor{s}", x.factors[s]) for s in (0, 1))
        kept = {k: shards[k] for k in ("base", "scale", "whole") if k in shards}
        join = jax.tree.unflatten(treedef, shards["join"])
        multipliers = tuple(
            Multiplier(m.axes, shards[f"multiplier{i}"]) for i, m in enumerate(x.multipliers)
        )
        kept |= {"multipliers": multipliers, "first": None}
        return x.replace(join=join, factors=factors, **kept)

    return arrays, specs, rebuild
