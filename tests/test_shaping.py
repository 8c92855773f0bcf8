"""Shapings against their definitions written out in NumPy, with directions missing."""

import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from tests._laws import SHAPINGS
from zojax import shaping, stencils

V = np.array([[3.0, -1.0], [0.5, 2.0], [7.0, 7.0], [4.0, 4.5]])
VALID = np.array([True, True, False, True])
USED = V[VALID]


def _shape(which):
    table = jnp.where(jnp.asarray(VALID)[:, None], jnp.asarray(V, jnp.float32), 0)
    return np.asarray(which.values(table, jnp.asarray(VALID)))[VALID]


@pytest.mark.parametrize("name", SHAPINGS)
def test_values_are_their_definition(name):
    law = SHAPINGS[name]
    np.testing.assert_allclose(_shape(law.shaping), law.values(USED), rtol=1e-5, atol=1e-6)


def test_none_changes_nothing():
    np.testing.assert_array_equal(_shape(shaping.none()), USED.astype(np.float32))


def test_top_keeps_the_best_over_their_spread():
    kept = USED[:2]  # the lowest values are -1 and 0.5; the third direction is not finite
    expected = np.concatenate([kept / kept.std() * 3 / 2, np.zeros((1, 2))])
    np.testing.assert_allclose(_shape(shaping.top(2)), expected, rtol=1e-5)
    everything = _shape(shaping.top(4))  # fewer are left than were asked for
    np.testing.assert_allclose(everything, USED / USED.std(), rtol=1e-5)
    with pytest.raises(ValueError, match="b must be at least 1, got 0"):
        shaping.top(0)


def test_clip_bounds_the_coefficients():
    c = jnp.array([-9.0, 0.5, 3.0])
    np.testing.assert_array_equal(shaping.clip(2).coefficients(c, c < 9), [-2.0, 0.5, 2.0])
    with pytest.raises(ValueError, match="limit must be positive and finite, got 0"):
        shaping.clip(0)
    with pytest.raises(TypeError, match="limit must be a number, got 'a'"):
        shaping.clip("a")
    with pytest.raises(TypeError, match="limit must be a number, got .*no schedule"):
        shaping.clip(lambda step: 1.0)


def test_unit_std_divides_the_coefficients_by_their_deviation():
    c, valid = jnp.array([1.0, -3.0, 99.0, 4.0]), jnp.asarray(VALID)
    expected = np.array([1.0, -3.0, 4.0]) / np.std([1.0, -3.0, 4.0])
    np.testing.assert_allclose(
        shaping.unit_std().coefficients(c, valid)[valid], expected, rtol=1e-6
    )
    assert not np.any(shaping.unit_std().coefficients(jnp.ones(4), valid))  # equal values


def test_groups_divide_the_directions():
    with pytest.raises(ValueError, match="group_size must divide num_directions = 4, got 3"):
        _shape(shaping.standardize_groups(3))
    with pytest.raises(ValueError, match="group_size must be at least 2, got 1"):
        shaping.standardize_groups(1)


@pytest.mark.parametrize(
    "which", [shaping.standardize(), shaping.by_std(), shaping.centered_ranks()]
)
def test_equal_values_give_finite_weights(which):
    values = np.asarray(which.values(jnp.full((3, 2), 5.0), jnp.ones(3, bool)))
    assert np.all(np.isfinite(values))


@pytest.mark.parametrize("scale", [1e-24, 1e21, 1e37])
@pytest.mark.parametrize("which", [shaping.standardize(), shaping.by_std(), shaping.top(2)])
def test_a_std_is_invariant_to_scale_where_squares_leave_float32(which, scale):
    v, valid = jnp.asarray(V, jnp.float32), jnp.asarray(VALID)
    actual, expected = which.values(scale * v, valid), which.values(v, valid)
    np.testing.assert_allclose(actual[valid], expected[valid], rtol=1e-5)


@pytest.mark.parametrize("stencil", [stencils.central(), stencils.forward()])
def test_values_near_the_largest_float_have_a_mean(stencil):
    estimator = zojax.estimator(stencil=stencil, shaping=shaping.standardize(), num_directions=4)
    out = estimator.estimate(0, lambda x: 2e38 + 1e37 * jnp.tanh(jnp.sum(x)), jnp.zeros(3))
    assert float(out.value) == pytest.approx(2e38, rel=0.1) and jnp.any(out.grads)


def test_ranks_are_invariant_to_monotone_changes():
    v = jnp.asarray(V, jnp.float32)
    for which in (shaping.centered_ranks(), shaping.nes_utilities()):
        both = [which.values(u, jnp.ones(4, bool)) for u in (v, jnp.exp(v))]
        np.testing.assert_array_equal(*both)


def test_baseline_keeps_one_point_estimates_unbiased_and_lowers_their_variance():
    import jax

    g = jnp.array([1.0, -2.0, 0.5])

    def samples(which):
        estimator = zojax.estimator(
            stencil=stencils.one_point(), shaping=which, num_directions=4, mu=0.5
        )
        one = jax.jit(
            jax.vmap(lambda k: estimator.estimate(k, lambda x: 10 + x @ g, jnp.zeros(3)).grads)
        )
        return np.asarray(one(jax.random.split(jax.random.key(0), 20_000)))

    plain, based = samples(None), samples(shaping.baseline())
    for s in (plain, based):
        assert np.all(np.abs(s.mean(axis=0) - g) < 5 * s.std(axis=0) / np.sqrt(len(s)))
    assert based.var() < 0.1 * plain.var()


@pytest.mark.parametrize("name", ["normal", "coordinate", "orthogonal", "hadamard"])
def test_a_baseline_keeps_the_mean_with_every_direction(name):
    """As above with signs. The coordinate 0 of Sylvester's matrix is the same in all rows."""
    import jax

    g = jnp.array([1.0, 2.0, 3.0, 4.0])
    direction = getattr(zojax.directions, name)()
    estimator = zojax.estimator(
        direction, stencils.one_point(), shaping.baseline(), mu=0.1, num_directions=3
    )
    keys = jax.random.split(jax.random.key(1), 4000)
    estimates = jax.jit(
        jax.vmap(lambda k: estimator.estimate(k, lambda x: x @ g, jnp.zeros(4)).grads)
    )
    s = np.asarray(estimates(keys))
    assert np.all(np.abs(s.mean(axis=0) - g) < 5 * s.std(axis=0) / np.sqrt(len(s)))


@pytest.mark.parametrize("which", [shaping.standardize(), shaping.centered_ranks()])
def test_a_value_alone_says_nothing(which):
    values = which.values(jnp.array([[3.0], [7.0]]), jnp.array([True, False]))
    assert values[0, 0] == 0


def test_too_few_directions_for_a_baseline():
    with pytest.raises(ValueError, match="num_directions >= 2, got 1"):
        zojax.estimator(shaping=shaping.baseline())


def test_ranks_by_comparison_are_those_of_a_sort(monkeypatch):
    values = jnp.array([[3.0, -1.0], [3.0, jnp.inf], [0.0, -0.0], [2.0, -1.0]])
    valid = jnp.array([True, False, True, True])
    compared = shaping.centered_ranks().values(values, valid)
    monkeypatch.setattr(shaping, "_COMPARED", 0)
    assert jnp.array_equal(compared, shaping.centered_ranks().values(values, valid))
