"""optax's make_perturbed_fun with normals: jax.grad of it is a score-function estimate.

Its baseline, the value at the unperturbed point, would be one evaluation too many.
"""

import jax
from optax import perturbations

from benchmarks.contestants import Program


def build(work):
    def step(carry, batch):
        params, key = carry
        key, now = jax.random.split(key)
        options = (work.evaluations, work.mu, perturbations.Normal(), False)
        smooth = perturbations.make_perturbed_fun(lambda p: work.loss(p, batch), *options)
        gradient = jax.grad(smooth, argnums=1)(now, params)
        return jax.tree.map(lambda p, g: p - 1e-6 * g, params, gradient), key

    return Program(step, lambda params: (params, jax.random.key(0)))
