"""A model of a step on many devices, from the compiler's counts and published speeds.

A group of devices holds the parameters once. It evaluates one pair of points of one direction on 6,400
tokens; backpropagation takes one gradient of as many tokens. There are as many directions as groups.
Nothing overlaps, and products reach 40 % of the peak.

| way | after its evaluations every device |
|---|---|
| scalars | sums all directions for its part of the parameters |
| low-rank scalars | does so as a product of factors |
| sliced | sums all directions for its slice of that part, then the slices are gathered |
| backpropagation | has its gradients reduced over the groups |
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

import zojax
from benchmarks import models
from benchmarks.contestants import Host, once
from zojax import directions

TOKENS = 6400
SHARE_OF_PEAK = 0.4
DEVICES = tuple(2**k for k in range(13))  # to 4,096
WAYS = ("scalars", "low-rank scalars", "sliced", "backpropagation")


class Machine(NamedTuple):
    """One device and its links, by its maker's data sheet; bytes and operations a second."""

    products: float  # bfloat16
    elementwise: float  # 32-bit integers
    memory: float
    near: float  # to devices of its node or pod, one direction
    node: int  # how many those are
    far: float  # to all others


MACHINES = {
    # Vector unit: 8 x 128 lanes of four units at 1.5 GHz. Network: 6.4 Tb/s a pod of 256 chips.
    "TPU v5e": Machine(197e12, 6.1e12, 819e9, 200e9, 256, 3.1e9),
    # NVLink 900 GB/s both ways; InfiniBand 400 Gb/s. Integers run at half the rate of float32.
    "H100": Machine(989e12, 33.5e12, 3.35e12, 450e9, 8, 50e9),
}
# Devices of a group: bfloat16 parameters and activations must fit.
GROUPS = {
    ("OPT-13B", "TPU v5e"): 4,
    ("OPT-13B", "H100"): 1,
    ("Llama-70B", "TPU v5e"): 16,
    ("Llama-70B", "H100"): 4,
}
SHAPES = {
    "OPT-13B": (partial(models.opt, width=5120, heads=40), 40),
    "Llama-70B": (models.llama_70b, 80),
}


def build(work) -> Host:
    return once(lambda: counts(work.model)._asdict())


class Counts(NamedTuple):
    """The compiler's counts of one model."""

    parameters: int
    forward: float  # FLOPs a token
    dense: float  # operations of a sum of sign directions, for an entry and a direction
    low_rank: float  # the same for rank 1


def counted(row: dict) -> Counts:
    """The counts in a stored row."""
    return Counts(*(row[name] for name in Counts._fields))


def counts(name: str) -> Counts:
    """Compiles no layer and one: the compiler counts the body of a loop once."""
    make, layers = SHAPES[name]
    none, one = (_of_model(make(n)) for n in (0, 1))
    parameters, forward = (a + layers * (b - a) for a, b in zip(none, one, strict=True))
    return Counts(
        int(parameters), forward, *map(_of_sum, (directions.rademacher(), directions.low_rank(1)))
    )


def _of_model(model: models.Model) -> tuple[int, float]:
    """Parameters, and FLOPs of the loss for a token."""
    flops = _flops(lambda params, batch: model.loss(params, **batch), model.params, model.batch)
    return sum(x.size for x in jax.tree.leaves(model.params)), flops / model.batch["tokens"].size


def _of_sum(direction, count: int = 16, size: int = 1024) -> float:
    """Operations for an entry and a direction; sixteen directions are written out, not looped over."""
    estimator = zojax.estimator(direction, num_directions=count)
    matrix = jax.ShapeDtypeStruct((size, size), jnp.bfloat16)
    key = jax.eval_shape(partial(jax.random.key, 0))
    weights = jax.ShapeDtypeStruct((count,), jnp.float32)
    return _flops(estimator.combine, key, matrix, weights) / (count * size * size)


def _flops(fun, *shapes) -> float:
    return jax.jit(fun).lower(*shapes).compile().cost_analysis()["flops"]


def shares(found: Counts, machine: Machine, group: int) -> dict[str, dict[int, float]]:
    """The share of a step spent evaluating, by way and number of devices."""
    lines: dict[str, dict[int, float]] = {way: {} for way in WAYS}
    for devices in (n for n in DEVICES if n >= group):
        seconds = _seconds(found, machine, group, devices // group)
        for way, (evaluating, other) in zip(WAYS, seconds, strict=True):
            lines[way][devices] = evaluating / (evaluating + other)
    return lines


def _seconds(found: Counts, machine: Machine, group: int, n: int) -> list[tuple[float, float]]:
    """Of the evaluations, and of all else, for each way; n groups."""
    part = found.parameters / group
    products = SHARE_OF_PEAK * machine.products
    forward = TOKENS * found.forward / group / products
    update = 4 * part / machine.memory  # reads and writes bfloat16
    gather = _seconds_of_gather(2 * part, n, group, machine)
    dense = n * part * found.dense / machine.elementwise
    low_rank = n * part * found.low_rank / products
    return [
        (2 * forward, max(dense, update)),
        (2 * forward, max(low_rank, update)),
        (2 * forward, max(dense, update) / n + gather),
        (3 * forward, update + 2 * gather),
    ]


def _seconds_of_gather(size: float, groups: int, group: int, machine: Machine) -> float:
    """A ring over all groups; a link outside a node slows it down."""
    near = groups * group <= machine.node
    return size * (groups - 1) / groups / (machine.near if near else machine.far)
