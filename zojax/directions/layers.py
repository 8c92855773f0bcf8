"""Some layers at a time: a random part of them in each step, or one block after the other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax import noise
from zojax._checks import require_fraction
from zojax._direction import Adaptive, Direction, Outcome
from zojax._trees import PyTree
from zojax.directions._combine import accumulate
from zojax.directions._independent import of_leaves

_SETS = 8  # of leaves that move together; more compile for long

# The layer of a leaf, or the layer of each entry of its first axis.
LayerOf = Callable[[tuple, jax.ShapeDtypeStruct], "int | np.ndarray"]


def layers(density: float, layer_of: LayerOf | None = None) -> Direction:
    r"""Signs in a random part of the layers, zero in the others: :math:`z = m \otimes s / \sqrt p`.

    A step draws the layers, which its directions share: p L of L, rounded, at least one. E zz' = I over
    steps. One central difference on a quadratic of L layers of equal size has a variance of trace
    :math:`(d - 1)\|g\|^2`.

    Args:
      density: p, in (0, 1].
      layer_of: `layer_of(path, leaf)` numbers layers from 0: an int for the leaf, or an int array of the
        length of its first axis, for stacked layers. By default each leaf is a layer.

    Raises:
      ValueError: a density outside (0, 1], or an array of another length.

    References:
      Wang et al., `LeZO <https://arxiv.org/abs/2410.09823>`_, 2024.

    >>> import jax, jax.numpy as jnp, numpy as np, zojax
    >>> stacked = lambda path, leaf: np.arange(leaf.shape[0])
    >>> direction = zojax.directions.layers(0.25, stacked)
    >>> like = jax.ShapeDtypeStruct((8, 3), jnp.float32)
    >>> z = direction.draw(direction.frame(jax.random.key(0), 1, like), 0, like).dense()
    >>> int(jnp.sum(jnp.any(z != 0, axis=1)))
    2
    """
    density = require_fraction("density", density)

    draw = partial(_draw, layer_of)
    return Direction(partial(_random, density, layer_of), draw, accumulate(draw))


def layers_in_turn(layer_of: LayerOf | None = None) -> Adaptive:
    r"""Signs in one layer, the next one in each step, and zero in all others.

    E zz' = I over the layer of the step. The memory is a counter of steps. What lies below the layer is
    evaluated once for all points of a direction: equations that read no leaf of the layer, and the first
    iterations of a scan over stacked layers. For this the loss compiles once for each set of leaves that
    move together, up to 8 sets.

    Args:
      layer_of: as in `layers`; layers of one number form a block.

    >>> import jax.numpy as jnp, zojax
    >>> tx = zojax.zo_sgd(0.1, zojax.estimator(zojax.directions.layers_in_turn()))
    >>> params = [jnp.ones(2), jnp.ones(2)]
    >>> loss = lambda p: jnp.sum(p[0] ** 2 + p[1] ** 2)
    >>> updates, state = tx.update(None, tx.init(params), params, value_fn=loss)
    >>> [bool((u != 0).any()) for u in updates], int(state.estimator_state.direction)
    ([True, False], 1)
    """

    return Adaptive(_first, partial(_of_step, layer_of), learn=_next)


def _random(density: float, layer_of: LayerOf | None, key: jax.Array, num_directions: int, like):
    """A seed, and the weight of each layer."""
    del num_directions
    count = _count(layer_of, like)
    kept = max(1, round(density * count))
    place = jnp.argsort(jax.random.uniform(noise.fold_in(key, 1), (count,)))
    weights = jnp.zeros(count).at[place[:kept]].set(np.sqrt(count / kept))
    return noise.make_seed(key), weights


def _first(like: PyTree) -> jax.Array:
    del like
    return jnp.zeros([], jnp.int32)


def _of_step(layer_of: LayerOf | None, memory: jax.Array, params: PyTree) -> Direction:
    del params

    def frame(key, num_directions, like):
        del num_directions
        count = _count(layer_of, like)
        return noise.make_seed(key), (jnp.arange(count) == memory % count).astype(jnp.float32)

    def draw(frame, index, like):
        drawn = _draw(layer_of, frame, index, like)
        treedef: Any = jax.tree.structure(like)
        late = [
            noise.LateNoise(z, jnp.argmax(jnp.append(frame[1][layer], 1) > 0)) if layer.ndim else z
            for z, layer in zip(treedef.flatten_up_to(drawn), _layers(layer_of, like), strict=True)
        ]
        return treedef.unflatten(late)

    def moving(like):
        treedef: Any = jax.tree.structure(like)
        layers, count = _layers(layer_of, like), _count(layer_of, like)
        of_each = [tuple(bool(np.any(x == i)) for x in layers) for i in range(count)]
        sets = list(dict.fromkeys(of_each))
        if len(sets) > _SETS:
            sets, of_each = [(True,) * len(layers)], [(True,) * len(layers)] * count
        numbers = jnp.asarray([sets.index(one) for one in of_each], jnp.int32)
        return numbers[memory % count], [treedef.unflatten(one) for one in sets]

    return Direction(frame, draw, accumulate(partial(_draw, layer_of)), moving=moving)


def _next(memory: jax.Array, outcome: Outcome) -> jax.Array:
    del outcome
    return memory + 1


def _layers(layer_of: LayerOf | None, like: PyTree) -> list[np.ndarray]:
    """The layer of each leaf, or the layers of its first axis."""
    leaves = jax.tree_util.tree_leaves_with_path(like)
    if layer_of is None:
        return [np.asarray(i) for i in range(len(leaves))]
    found = []
    for path, leaf in leaves:
        layer = np.asarray(layer_of(path, leaf))
        if layer.dtype.kind not in "iu" or layer.shape not in ((), leaf.shape[:1]):
            raise ValueError(
                f"layer_of must give an int or an int array of shape {leaf.shape[:1]} for "
                f"params{jax.tree_util.keystr(path)}, got {layer.dtype}{list(layer.shape)}."
            )
        found.append(layer)
    return found


def _count(layer_of: LayerOf | None, like: PyTree) -> int:
    return 1 + max(int(np.max(layer)) for layer in _layers(layer_of, like))


def _draw(layer_of: LayerOf | None, frame, index, like: PyTree) -> PyTree:
    seed, weights = frame

    def weighted(own, leaf, layer) -> noise.Noise:
        signs, weight = noise.Signs(own), weights[layer]
        if weight.ndim == 0:
            return noise.row_noise(signs, leaf.shape, weight)
        if len(leaf.shape) == 1:
            return noise.ScaledNoise(noise.row_noise(signs, leaf.shape), weight)
        rows = int(np.prod(leaf.shape[1:-1]))
        return noise.row_noise(_Weighted(signs, weight, rows), leaf.shape)

    return of_leaves(weighted, seed, index, like, _layers(layer_of, like))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Weighted:
    """Rows times the weight of their layer; each layer has `rows_each` rows."""

    source: noise.Source
    weights: jax.Array
    rows_each: int = field(metadata={"static": True})

    def rows(self, rows: jax.Array, width: int) -> jax.Array:
        return self._of(rows)[..., None] * self.source.rows(rows, width)

    def columns(self, rows: jax.Array, columns: jax.Array, width: int) -> jax.Array:
        return self._of(rows) * self.source.columns(rows, columns, width)

    def _of(self, rows: jax.Array) -> jax.Array:
        return self.weights[rows // np.uint32(self.rows_each)]
