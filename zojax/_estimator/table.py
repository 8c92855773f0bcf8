"""The table of values V: the loss at each point of each direction."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zojax import execution, implicit
from zojax._estimator.arguments import Losses
from zojax._estimator.coefficients import insert_center
from zojax._estimator.records import Choices, Directions
from zojax._mesh_axis import MeshAxis, meshes_of, require_axis
from zojax._trees import PyTree, total_size


class Evaluations(NamedTuple):
    """The evaluations of some directions of one step.

    Attributes:
      choices: of the estimator.
      this: the directions of the step.
      own: the losses of the directions.
      params: x.
      mu: the smoothing radius.
      indices: of the directions to evaluate.
      axis: the mesh axis over which they are spread, or None.
    """

    choices: Choices
    this: Directions
    own: Losses
    params: PyTree
    mu: jax.Array
    indices: range
    axis: MeshAxis | None

    def at_each(self, evaluation, offsets: tuple[float, ...]) -> PyTree:
        """`execution.evaluate` over the directions."""

        def draw(i):
            return self.this.direction.draw(self.this.frame, i, self.this.like)

        moving = self.this.direction.moving
        if moving is None:
            return self._run(draw, evaluation, self.indices, offsets, self.axis)

        def among(leaves):
            """The evaluations where these leaves alone move."""

            def draw_them(i):
                return jax.tree.map(
                    lambda _, z, moves: z if moves else None, self.this.like, draw(i), leaves
                )

            return self._run(draw_them, evaluation, self.indices, offsets, self.axis)

        number, sets = moving(self.this.like)
        return jax.lax.switch(number, [partial(among, leaves) for leaves in sets])

    def at_center(self, evaluation) -> PyTree:
        """The same at x: once, or once a direction if directions have data or keys of their own."""
        differ = self.own.differ
        indices, axis = (self.indices, self.axis) if differ else (range(1), None)
        return self._run(lambda i: None, evaluation, indices, (0.0,), axis)

    def _run(self, draw, evaluation, indices: range, offsets, axis: MeshAxis | None) -> PyTree:
        batch_size, size = self.choices.batch_size, 1 if axis is None else axis.size
        if batch_size is None and not self.this.direction.shares_products:
            dimension = total_size(self.this.split.floats)
            batch_size = execution.choose_batch_size(len(indices) // size, dimension)
        numbers = jnp.arange(indices.start, indices.stop)
        values, aux = execution.evaluate(draw, evaluation, numbers, offsets, batch_size, axis)
        if axis is not None:
            values = jax.tree.map(axis.on_all, values)
        return values, aux


def table(
    choices: Choices,
    this: Directions,
    own: Losses,
    params: PyTree,
    mu: jax.Array,
    indices: range,
) -> tuple[jax.Array, PyTree]:
    """Values (directions, offsets), and the auxiliary outputs on one axis."""
    axis = None
    if choices.axis_name is not None:
        axis = require_axis(choices.axis_name, meshes_of(params), len(indices))
    of = Evaluations(choices, this, own, params, mu, indices, axis)
    return (_linearized if choices.linearize else _evaluated)(of)


def _evaluated(of: Evaluations):
    """At x + mu o z, without x + mu o z as an array, and at x if the stencil visits it."""
    hold = of.choices.hold_in_loops

    def evaluation(z, i):
        fun = of.own.of(i)
        if of.this.direction.moving is None:
            at = partial(implicit.evaluate, fun, of.params, hold_in_loops=hold)
        else:
            at = implicit.points(fun, of.params, z, hold)
        return lambda z, offset: at(z, offset * of.mu)

    values, aux = of.at_each(evaluation, of.choices.moved)
    aux = jax.tree.map(lambda a: a.reshape((values.size, *a.shape[2:])), aux)
    if not of.choices.centered:
        return values, aux
    center, center_aux = of.at_center(lambda _, i: lambda *_: of.own.at(of.params, i))
    aux = jax.tree.map(lambda a, b: jnp.concatenate([a[:, 0], b]), center_aux, aux)
    return insert_center(of.choices.stencil, values, center), aux


def _linearized(of: Evaluations):
    """The same for the linearised loss, L(x) + mu o (grad L(x) . z): one jvp a direction."""
    hold = of.choices.hold_in_loops

    def evaluation(z, i):
        del z
        fun = of.own.of(i)

        def slope(z, offset):
            along = partial(implicit.evaluate, fun, of.params, z, hold_in_loops=hold)
            value, slope, aux = jax.jvp(
                along, (0 * offset,), (jnp.ones_like(offset),), has_aux=True
            )
            return (value, slope), aux

        return slope

    (value, slope), aux = of.at_each(evaluation, (1.0,))
    offsets = jnp.asarray(of.choices.stencil.offsets, value.dtype)
    steps = of.mu.astype(value.dtype) * offsets[None]
    return value + steps * slope, jax.tree.map(lambda a: a[:, 0], aux)
