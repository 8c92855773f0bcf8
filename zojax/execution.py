"""On what: how the evaluations of a step are laid out in time and memory.

All layouts evaluate the same points. One at a time needs the memory of a single evaluation; a batch
runs under `vmap`, which pays for small models, for shared products and on parallel hardware.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun

from zojax import noise
from zojax._failures import unbatchable
from zojax._jaxpr import inner_jaxprs
from zojax._mesh_axis import MeshAxis
from zojax._trees import PyTree

# Perturbed coordinates per batch of dense directions. More do not fit the cache of a CPU core; then one
# evaluation at a time is as fast or faster (`python -m benchmarks batches`).
_BATCH_COORDINATES = {"cpu": 2**19}
_BATCH_COORDINATES_ACCELERATOR = 2**24

# Entries of the largest product in a batch of directions that share products. Larger products leave the
# cache, and share each weight among enough rows already (same benchmark). No limit elsewhere.
_BATCH_PRODUCTS = {"cpu": 2**21}


def choose_batch_size(num_directions: int, dimension: int) -> int:
    """How many dense directions keep batch * d small.

    >>> choose_batch_size(100, 1000), choose_batch_size(100, 10**9)
    (100, 1)
    """
    limit = _BATCH_COORDINATES.get(jax.default_backend(), _BATCH_COORDINATES_ACCELERATOR)
    return _divisor(num_directions, limit // max(dimension, 1))


def _divisor(num_directions: int, most: int) -> int:
    """A divisor of `num_directions` near `most`, else `most`: a rest needs a second copy of the loss."""
    most = max(1, min(num_directions, most))
    divisor = next(size for size in range(most, 0, -1) if num_directions % size == 0)
    return divisor if 2 * divisor > most else most


def evaluate(
    draw: Callable[[jax.Array], PyTree],
    evaluation: Callable[[PyTree, jax.Array], Callable[[PyTree, jax.Array], PyTree]],
    indices: jax.Array,
    offsets: tuple[float, ...],
    batch_size: int | None,
    axis: MeshAxis | None = None,
) -> PyTree:
    """evaluation(z, i)(z, o_j) with z = draw(i), for directions i and offsets o_j, on two leading axes.

    Without a batch size, all directions run at once. On a CPU, as many run as keep the largest product in
    its cache. Over a mesh axis, this holds for the directions of one group of devices.

    A loop or a batch over directions holds one over offsets. So the loss is traced once, and once more
    for a rest that fills no batch. In a loop, temporaries of two evaluations are never alive together.
    """
    points = jnp.asarray(offsets, jnp.float32)
    count = len(indices) // (1 if axis is None else axis.size)
    if batch_size is None:
        arguments = draw(indices[0]), indices[0], points[0]
        evaluation, batch_size = _in_cache(evaluation, arguments, count, len(points))

    def direction(i):
        z = draw(i)
        at = evaluation(z, i)
        if batch_size == 1:
            in_turn = _in_turn if count == 1 and len(offsets) == 2 else _loop
            return in_turn(lambda o: at(noise.tie(z, o), o), points)
        z = noise.share(z)
        return jax.vmap(lambda o: at(z, o))(points)

    if axis is None:
        return _batches(direction, indices, batch_size)
    return axis.joined(_batches(*axis.spread(direction, indices), batch_size))


def _batches(direction, indices, batch_size: int) -> PyTree:
    if batch_size == 1:
        return _loop(direction, indices)
    with unbatchable(
        "zojax evaluates directions in batches; batch_size=1 takes them one at a time: give it to "
        "zojax.estimator, or to the optimizer."
    ):
        if batch_size >= len(indices):
            return jax.vmap(direction)(indices)
        return lax.map(direction, indices, batch_size=batch_size)


def _in_cache(evaluation, arguments, count, points):
    """`evaluation`, traced once for all uses, and a batch size that keeps its largest product in cache."""
    limit = _BATCH_PRODUCTS.get(jax.default_backend())
    if count == 1 or limit is None:
        return evaluation, count
    closed, shapes = jax.make_jaxpr(lambda z, i, o: evaluation(z, i)(z, o), return_shape=True)(
        *arguments
    )
    run, structure = jaxpr_as_fun(closed), jax.tree.structure(shapes)
    entries = points * _largest_product(closed.jaxpr)
    size = _divisor(count, limit // max(entries, 1))

    def traced(z, i):
        del z
        return lambda z, o: structure.unflatten(run(*jax.tree.leaves((z, i, o))))

    return traced, size


def _largest_product(jaxpr) -> int:
    """Entries of the largest output of a matrix product or a convolution, in inner programs too."""
    largest = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
            largest = max(largest, eqn.outvars[0].aval.size)
        largest = max(largest, *map(_largest_product, inner_jaxprs(eqn)), 0)
    return largest


def _in_turn(fn, xs):
    """A loop; on one TPU both evaluations, written out one after the other.

    There XLA holds copies of a loop's parameters in the loop's own layout until it ends. A step of SmolLM2
    in bfloat16 took 5.8 % more memory than a forward; written out it takes 3.6 %. On several devices the
    loop takes less: 1.5 % where a Llama, written out, took 215 %.
    """
    if jax.device_count() > 1:
        return _loop(fn, xs)
    fn = jax.jit(fn)  # traced once for both
    return lax.platform_dependent(xs, tpu=partial(_written_out, fn), default=partial(_loop, fn))


def _written_out(fn, xs):
    done = []
    for x in xs:
        if done:
            x, done[-1] = lax.optimization_barrier((x, done[-1]))
        done.append(fn(x))
    return jax.tree.map(lambda *ys: jnp.stack(ys), *done)


def _loop(fn, xs):
    if xs.shape[0] == 1:  # no loop around a single evaluation
        return jax.tree.map(lambda y: jnp.asarray(y)[None], fn(xs[0]))
    return lax.map(fn, xs)
