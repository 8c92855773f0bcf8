"""Random points of a space."""

import jax
import numpy as np


def sampled(space, seed, number):
    """In one program: eager operations compile one by one."""
    draw = jax.jit(lambda key: space.sample(key, number))
    return np.asarray(draw(jax.random.key(seed)))
