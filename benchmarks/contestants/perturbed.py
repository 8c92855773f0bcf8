"""optax's make_perturbed_fun with normals: jax.grad of it is a score-function estimate.

Its baseline, the value at the unperturbed point, would be one evaluation too many.
"""

import jax
from optax import perturbations

from benchmarks.contestants.naive import descent


def build(work):
    options = (work.evaluations, work.mu, perturbations.Normal(), False)

    def estimate(params, batch, key):
        smooth = perturbations.make_perturbed_fun(lambda p: work.loss(p, batch), *options)
        return jax.grad(smooth, argnums=1)(key, params)

    return descent(estimate)
