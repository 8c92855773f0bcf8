"""A bowl on a box, in JAX and on the host, and a search of it."""

import logging

import jax
import jax.numpy as jnp
import numpy as np

from zojax import search

BOX = search.space(search.uniform(-1, 1, (3,)))
RESET = search.coordinate_reset()


def bowl(x):
    return jnp.sum((x - 0.3) ** 2)


def host_bowl(x):
    return float(np.sum((np.asarray(x) - 0.3) ** 2))


def counted(fun=host_bowl):
    """A function, and the points of its calls."""
    calls = []

    def call(x, *rest, **named):
        calls.append(x)
        return fun(x, *rest, **named)

    return call, calls


def run(fun=bowl, space=BOX, algorithm=RESET, budget=60, key=0, **options):
    return search.minimize(fun, space, algorithm, budget=budget, key=key, **options)


def compiled(caplog, fun):
    """The lines of the log about programs that `fun` compiles."""
    caplog.clear()
    with jax.log_compiles(True), caplog.at_level(logging.WARNING):
        fun()
    messages = [record.getMessage() for record in caplog.records]
    return [m for m in messages if m.startswith("Finished XLA compilation")]
