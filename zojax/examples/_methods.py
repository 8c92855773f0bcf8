"""The methods of the race, each with learning rate 1: the race scales their updates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

import zojax
from zojax import directions, optimizers, stencils


class Method(NamedTuple):
    """An optimizer and its price. A gradient by backpropagation counts as two evaluations."""

    make: Callable[..., Any]  # (mu, key) -> an optax transformation that takes value_fn
    evaluations: int  # of the loss, in a step


def _two_sided(make: Callable[..., Any], count: int = 1, **options) -> Method:
    """An optimizer `make(rate, mu, count, **options)` with a pair of evaluations a direction."""
    return Method(lambda mu, key: make(1.0, mu, count, key=key, **options), 2 * count)


def _estimated(make: Callable[..., Any], count: int, times: int = 1, **options) -> Method:
    """An optimizer that takes an estimator, called `times` in a step."""

    def made(mu, key):
        estimator = zojax.estimator(num_directions=count, mu=mu)
        return make(1.0, estimator=estimator, key=key, **options)

    return Method(made, 2 * count * times)


def _members(population: int = 16, **options) -> Method:
    def made(mu, key):
        return optimizers.eggroll(1.0, mu, population, key=key, **options)

    return Method(made, population)


def _backpropagation(inner: Callable[..., optax.GradientTransformation]) -> Method:
    """Checkpointed, so that its memory is as near to a forward pass as backpropagation comes."""

    def made(mu, key):
        del mu, key
        tx = inner(1.0)

        def update(updates, state, params, *, value_fn, **extras):
            del updates
            gradient = jax.grad(jax.checkpoint(value_fn))(params, **extras)
            return tx.update(gradient, state, params)

        return optax.GradientTransformationExtraArgs(tx.init, update)

    return Method(made, 2)


def _tied(mu: Any, key: Any) -> optax.GradientTransformationExtraArgs:
    """MeZO whose leaves of equal shapes share their noise, as a released library draws it."""

    def update(updates, state, params, *, value_fn, **extras):
        del updates
        drawn = jax.random.fold_in(key, state)
        z = jax.tree.map(lambda leaf: jax.random.normal(drawn, leaf.shape), params)
        at = lambda scale: jax.tree.map(lambda p, d: p + scale * d, params, z)  # noqa: E731
        slope = (value_fn(at(mu), **extras) - value_fn(at(-mu), **extras)) / (2 * mu)
        return jax.tree.map(lambda d: -slope * d, z), state + 1

    return optax.GradientTransformationExtraArgs(lambda params: 0, update)


def _spsa(mu: Any, key: Any) -> Any:
    return optimizers.spsa(1.0, mu, 50.0, key=key)


def _snes(mu: Any, key: Any) -> Any:
    return optimizers.snes(mu, 16, key=key)


METHODS: dict[str, Method] = {
    "mezo": _two_sided(optimizers.mezo),
    "mezo, 16 directions": _two_sided(optimizers.mezo, 16),
    "mezo, normal": _two_sided(optimizers.mezo, direction=directions.normal()),
    "mezo, tied noise": Method(_tied, 2),
    "spsa": Method(_spsa, 2),
    "zo_sgd, momentum": _estimated(optimizers.zo_sgd, 1, momentum=0.9),
    "zo_sign_sgd": _estimated(optimizers.zo_sign_sgd, 8),
    "zo_adam": _estimated(optimizers.zo_adam, 4),
    "zo_adamm": _estimated(optimizers.zo_adamm, 4),
    "zo_momentum": _estimated(optimizers.zo_momentum, 1),
    "zo_sam": _estimated(optimizers.zo_sam, 1, 2),
    "meazo": _two_sided(optimizers.meazo),
    "conmezo": _two_sided(optimizers.conmezo),
    "sparse_mezo": _two_sided(optimizers.sparse_mezo),
    "lezo": _two_sided(optimizers.lezo),
    "block_coordinate": _two_sided(optimizers.block_coordinate),
    "lozo": _two_sided(optimizers.lozo),
    "lozo_m": _two_sided(optimizers.lozo_m),
    "subzero": _two_sided(optimizers.subzero),
    "guided_es": _two_sided(optimizers.guided_es),
    "coordinate_descent": _two_sided(optimizers.coordinate_descent),
    "hizoo": Method(lambda mu, key: optimizers.hizoo(1.0, mu, key=key), 3),
    "fzoo": Method(lambda mu, key: optimizers.fzoo(1.0, mu, key=key), 9),
    "zo_muon": Method(lambda mu, key: optimizers.zo_muon(1.0, mu, key=key), 5),
    "residual_one_point": Method(
        lambda mu, key: optimizers.residual_one_point(1.0, mu, key=key), 1
    ),
    "forward_gradient": Method(lambda mu, key: optimizers.forward_gradient(1.0, key=key), 2),
    "open_es": Method(lambda mu, key: optimizers.open_es(1.0, mu, 16, 0.0, key=key), 16),
    "ars": _two_sided(optimizers.ars, 8),
    "snes": Method(_snes, 16),
    "eggroll": _members(),
    "eggroll, unpaired": _members(stencil=stencils.one_point()),
    "eggroll, rank 4": _members(rank=4),
    "eggroll, rank 16": _members(rank=16),
    "eggroll, dense": _members(direction=directions.normal()),
    "backpropagation, sgd": _backpropagation(optax.sgd),
    "backpropagation, adam": _backpropagation(optax.adam),
}
