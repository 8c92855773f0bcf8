"""Hyperparameters of `optax.inject_hyperparams` that no schedule sets: a log records their changes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax._trees import PyTree
from zojax.trajectory._log import Log


def free(state: PyTree) -> list[dict[str, Any]]:
    """The hyperparameters that no schedule sets, a dict for each `inject_hyperparams` in a state."""
    found = jax.tree.leaves(state, is_leaf=_is_injected)
    rows = []
    for node in filter(_is_injected, found):
        scheduled = getattr(node, "hyperparams_states", {})
        rows.append({k: v for k, v in sorted(node.hyperparams.items()) if k not in scheduled})
    return rows


def with_free(state: PyTree, values: list[dict[str, Any]]) -> PyTree:
    """The state with these hyperparameters, in the order of `free`."""
    remaining = iter(values)

    def replace(node):
        if not _is_injected(node):
            return node
        new = next(remaining)
        cast = {k: jnp.asarray(new[k], jnp.asarray(node.hyperparams[k]).dtype) for k in new}
        return node._replace(hyperparams={**node.hyperparams, **cast})

    return jax.tree.map(replace, state, is_leaf=_is_injected)


def plain(hyperparameters: list[dict[str, Any]]) -> dict[str, Any]:
    """`free` as JSON, floats to the last bit: {"0.learning_rate": 0.1}."""
    return {
        f"{i}.{name}": np.asarray(value, np.float64).tolist()
        for i, part in enumerate(hyperparameters)
        for name, value in part.items()
    }


def tables(log: Log, initial: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The hyperparameters of every step, from their changes in the log."""
    rows = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], log.steps, axis=0), initial)
    for step, values in log.hyperparameters:
        for name, value in values.items():
            part, name = name.split(".", 1)
            rows[int(part)][name][step:] = value
    return rows


def _is_injected(node: Any) -> bool:
    return isinstance(getattr(node, "hyperparams", None), dict)
