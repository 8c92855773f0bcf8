"""evosax: ask, a vmap of the loss over the population, tell, in one program; or a search in a box."""

import jax
import optax

from benchmarks.contestants import Program, search
from benchmarks.works import Work


def build(work, name):
    if not isinstance(work, Work):
        return search.build(work, "evosax", name=name)
    from evosax import algorithms

    options = {} if name == "SNES" else {"optimizer": optax.sgd(1e-6)}
    if name == "Open_ES":  # the radius of the others is a parameter
        options["std_schedule"] = optax.constant_schedule(work.mu)
    example = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), work.params)
    algorithm = getattr(algorithms, name)(work.evaluations, example, **options)
    # It would hold its example twice without using it: gigabytes of a large model.
    algorithm.solution = algorithm.solution_flat = None
    settings = algorithm.default_params
    if hasattr(settings, "std_init"):
        settings = settings.replace(std_init=work.mu)

    def start(params):
        key = jax.random.key(0)
        return algorithm.init(key, params, settings), key

    def step(carry, batch):
        state, key = carry
        key, ask, tell = jax.random.split(key, 3)
        population, state = algorithm.ask(ask, state, settings)
        values = jax.vmap(lambda p: work.loss(p, batch))(population)
        state, _ = algorithm.tell(tell, population, values, state, settings)
        return state, key

    return Program(step, start)
