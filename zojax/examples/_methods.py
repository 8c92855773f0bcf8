"""The methods of the race, each with learning rate 1: the race scales their updates."""

from collections.abc import Callable
from typing import Any

import jax
import optax

import zojax
from zojax import directions, optimizers, stencils

Make = Callable[[Any, Any], Any]  # (mu, key) -> an optax transformation that takes value_fn


def evaluations(make: Make) -> int:
    """Of the loss, in a step; backpropagation counts as two, a forward and a backward pass."""
    estimator = getattr(make(1e-3, 0), "estimator", None)
    return 2 if estimator is None else estimator.evaluations


def _method(optimizer: Callable[..., Any], *arguments: Any, **options: Any) -> Make:
    """`optimizer(rate, mu, *arguments, **options)`."""
    return lambda mu, key: optimizer(1.0, mu, *arguments, key=key, **options)


def _estimated(optimizer: Callable[..., Any], count: int, **options: Any) -> Make:
    """An optimizer that takes an estimator of so many directions."""

    def make(mu, key):
        estimator = zojax.estimator(num_directions=count, mu=mu)
        return optimizer(1.0, estimator=estimator, key=key, **options)

    return make


def backpropagation(
    inner: optax.GradientTransformation, changed: Callable[[Callable], Callable] = jax.checkpoint
) -> optax.GradientTransformationExtraArgs:
    """Exact gradients of the changed loss, as a transformation that takes `value_fn`.

    Checkpointed, its memory is as near to a forward pass as backpropagation comes.
    """

    def update(updates, state, params, *, value_fn, **extras):
        del updates
        return inner.update(jax.grad(changed(value_fn))(params, **extras), state, params)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _tied(mu: Any, key: Any) -> optax.GradientTransformationExtraArgs:
    """MeZO whose leaves of equal shapes share their noise, as a released library draws it."""

    def update(updates, state, params, *, value_fn, **extras):
        del updates
        drawn = jax.random.fold_in(key, state)
        z = jax.tree.map(lambda leaf: jax.random.normal(drawn, leaf.shape), params)
        plus, minus = (
            value_fn(jax.tree.map(lambda p, d, s=scale: p + s * d, params, z), **extras)
            for scale in (mu, -mu)
        )
        slope = (plus - minus) / (2 * mu)
        return jax.tree.map(lambda d: -slope * d, z), state + 1

    return optax.GradientTransformationExtraArgs(lambda params: 0, update)


def _by_default(*names: str) -> dict[str, Make]:
    return {name: _method(getattr(optimizers, name)) for name in names}


METHODS: dict[str, Make] = {
    "mezo": _method(optimizers.mezo),
    "mezo, 16 directions": _method(optimizers.mezo, 16),
    "mezo, normal": _method(optimizers.mezo, direction=directions.normal()),
    "mezo, tied noise": _tied,
    "spsa": _method(optimizers.spsa, 50.0),
    "zo_sgd, momentum": _estimated(optimizers.zo_sgd, 1, momentum=0.9),
    "zo_sign_sgd": _estimated(optimizers.zo_sign_sgd, 8),
    "zo_adam": _estimated(optimizers.zo_adam, 4),
    "zo_adamm": _estimated(optimizers.zo_adamm, 4),
    "zo_momentum": _estimated(optimizers.zo_momentum, 1),
    "zo_sam": _estimated(optimizers.zo_sam, 1),
    **_by_default("meazo", "conmezo", "sparse_mezo", "lezo", "block_coordinate", "lozo", "lozo_m"),
    **_by_default("subzero", "agzo"),
    "agzo, rank 8": _method(optimizers.agzo, rank=8),
    **_by_default("guided_es", "coordinate_descent", "hizoo", "fzoo", "zo_muon"),
    **_by_default("residual_one_point"),
    "forward_gradient": lambda mu, key: optimizers.forward_gradient(1.0, key=key),
    "open_es": _method(optimizers.open_es, 16, 0.0),
    "ars": _method(optimizers.ars, 8),
    "snes": lambda mu, key: optimizers.snes(mu, 16, key=key),
    "eggroll": _method(optimizers.eggroll, 16),
    "eggroll, unpaired": _method(optimizers.eggroll, 16, stencil=stencils.one_point()),
    "eggroll, rank 4": _method(optimizers.eggroll, 16, 4),
    "eggroll, rank 16": _method(optimizers.eggroll, 16, 16),
    "eggroll, dense": _method(optimizers.eggroll, 16, direction=directions.normal()),
    "backpropagation, sgd": lambda mu, key: backpropagation(optax.sgd(1.0)),
    "backpropagation, adam": lambda mu, key: backpropagation(optax.adam(1.0)),
}
