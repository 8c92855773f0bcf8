"""Sources and noise objects from outside the package."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.implicit._helpers import Wave, close, materialised, normal
from zojax import noise
from zojax.implicit import evaluate, explain

SEED = noise.make_seed(jax.random.key(7))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Doubled:
    """Twice another noise object, with the same structure."""

    noise: noise.RowNoise

    @property
    def shape(self):
        return self.noise.shape

    def dense(self):
        return 2.0 * self.noise.dense()

    def factored(self):
        form = self.noise.factored()
        return form._replace(join=dataclasses.replace(form.join, scale=2.0))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EndlessWave(Wave):
    """A wave whose rows have no end, like those of `Words`."""

    def span(self, rows, start, count):
        row, column = noise.counters(rows, count)
        return self.columns(row, column + np.uint32(start), 40)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Uniforms(noise.Words):
    """Uniform on [0, 1)."""

    @staticmethod
    def value(word):
        return (word >> np.uint32(8)).astype(jnp.float32) * np.float32(2.0**-24)


def test_noise_with_structure_stays_implicit():
    w, z = normal(0, (5, 4)), Doubled(noise.row_noise(noise.Normals(SEED), (5, 4)))

    def rows(w):
        return w[jnp.array([3, 0])]

    close(evaluate(rows, w, z, 0.3), rows(materialised(w, z, 0.3)), 1e-6)
    report = explain(rows, w, z)
    assert "kept through gather" in str(report) and report.leaves["params"].noise == "dense"


def test_a_mask_of_a_mask_keeps_the_rows_implicit():
    w, inner = normal(0, (5, 4)), normal(1, (5, 4)) > 0
    rows = noise.row_noise(noise.Signs(SEED), (5, 4))
    z = noise.MaskedNoise(noise.MaskedNoise(rows, inner), normal(2, (5, 4)) > 0)
    close(evaluate(lambda w: w[1:], w, z, 0.3), materialised(w, z, 0.3)[1:], 1e-6)
    assert explain(lambda w: w[1:], w, z).leaves["params"].noise == "dense, masked"


@pytest.mark.parametrize("source", [EndlessWave(jnp.float32(1)), Uniforms(SEED)])
def test_a_span_equals_the_slice_of_whole_rows(source):
    rows, w = jnp.arange(3, dtype=jnp.uint32), jnp.zeros((3, 40))
    assert isinstance(source, noise.EndlessSource)
    whole = source.rows(rows, 40)
    np.testing.assert_array_equal(source.span(rows, 5, 10), whole[:, 5:15])
    z = noise.row_noise(source, (3, 40))
    np.testing.assert_array_equal(evaluate(lambda w: w[:, 5:15], w, z, 1.0), whole[:, 5:15])


def test_a_source_without_spans_is_sliced():
    source = Wave(jnp.float32(1))
    assert not isinstance(source, noise.EndlessSource)
    rows = jnp.arange(3, dtype=jnp.uint32)
    part = noise.columns_of_rows(source, rows, 40, 5, 10)
    np.testing.assert_array_equal(part, source.rows(rows, 40)[:, 5:15])
