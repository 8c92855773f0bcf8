"""Noise kernels: p + mu * z beside a scaled copy of p."""

import jax
import jax.numpy as jnp

from benchmarks.contestants import Program
from zojax import noise


def build(work, kind):
    def ours(source):
        return lambda p, seed: noise.row_noise(source(seed), p.shape).dense()

    def theirs(draw):
        return lambda p, seed: draw(jax.random.wrap_key_data(seed), p.shape, jnp.float32)

    draws = {
        "zojax signs": ours(noise.Signs),
        "zojax normals": ours(noise.Normals),
        "jax.random.rademacher": theirs(jax.random.rademacher),
        "jax.random.normal": theirs(jax.random.normal),
    }

    def step(p, batch):
        seed = batch["seed"]
        if kind == "scaled copy":
            return p * work.mu + seed[0].astype(jnp.float32)
        return p + work.mu * draws[kind](p, seed)

    return Program(step)
