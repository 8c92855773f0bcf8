"""Spaces: what they hold, how they encode, what they refuse."""

import math

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from tests.search.engine._helpers import run
from tests.search.spaces._helpers import sampled
from zojax import search
from zojax.search.engine.once import all_points
from zojax.search.spaces import CONTINUOUS, ORDERED, UNORDERED

MIXED = {
    "real": search.uniform(-2, 3, shape=(2,)),
    "rate": search.log_uniform(1e-4, 1.0),
    "grid": search.uniform(0, 1, step=0.25),
    "count": search.integers(-3, 8),
    "width": search.log_integers(4, 300),
    "size": search.ordered([1, 2, 4, 8]),
    "kind": search.choice(["a", "b", None]),
    "picked": search.subset(6, max_size=3),
}


def is_member(p) -> bool:
    return (
        np.all((p["real"] >= -2) & (p["real"] <= 3))
        and 1e-4 <= p["rate"] <= 1.0
        and p["grid"] in (0, 0.25, 0.5, 0.75, 1.0)
        and isinstance(p["count"], int)
        and -3 <= p["count"] <= 8
        and isinstance(p["width"], int)
        and 4 <= p["width"] <= 300
        and p["size"] in (1, 2, 4, 8)
        and p["kind"] in ("a", "b", None)
        and p["picked"].dtype == bool
        and p["picked"].sum() <= 3
    )


def test_samples_are_members():
    space = search.space(MIXED)
    for x in sampled(space, 0, 200):
        assert is_member(space.point(x))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=14, max_size=14))
def test_clip_leads_into_the_space_and_stays_there(x):
    space = search.space(MIXED)
    clipped = space.clip(np.asarray(x))
    assert is_member(space.point(clipped))
    np.testing.assert_allclose(space.clip(clipped), clipped, atol=1e-9)


def test_no_index_of_a_subset_is_favoured():
    space = search.space(search.subset(30, max_size=4))
    masks = np.asarray(space.decode(sampled(space, 4, 6000)))
    assert masks.sum(axis=1).max() == 4
    share, n = masks.mean(), len(masks)
    np.testing.assert_allclose(masks.mean(axis=0), share, atol=5 * math.sqrt(share / n))
    pairs = (masks.T.astype(float) @ masks / n)[~np.eye(30, dtype=bool)]  # no two are, either
    np.testing.assert_allclose(pairs, pairs.mean(), atol=6 * math.sqrt(pairs.mean() / n))


def test_subsets_that_are_too_large_lose_the_same_members_on_host_and_device():
    space = search.space(search.subset(30, max_size=4))
    x = np.random.default_rng(0).integers(0, 2, (100, 30)).astype(float)
    np.testing.assert_array_equal(space.clip(x), space.clip(jnp.asarray(x)))


def test_decode_is_traceable_and_keeps_leading_axes():
    space = search.space({"a": search.integers(0, 9, shape=(2, 3)), "b": search.uniform(0, 1)})
    point = jax.jit(space.decode)(sampled(space, 0, 5))
    assert point["a"].shape == (5, 2, 3) and point["a"].dtype == jnp.int32
    assert point["b"].shape == (5,)


def test_options_that_are_no_numbers_cannot_be_traced():
    space = search.space(search.choice(["relu", "tanh"]))
    with pytest.raises(TypeError, match="jit=False.*lax.switch"):
        space.decode(jnp.zeros(1))
    assert space.point(np.ones(1)) == "tanh"


def test_sizes_and_kinds():
    assert search.space(MIXED).size == math.inf
    few = search.choice(["a", "b"], shape=(3,))
    finite = [search.integers(0, 4), few, search.subset(5, max_size=2)]
    assert search.space(finite).size == 5 * 8 * (1 + 5 + 10)
    assert all_points(search.space(finite)).shape == (640, 9)
    kinds = [ORDERED] * 2 + [UNORDERED] * 7 + [CONTINUOUS] * 3 + [ORDERED, CONTINUOUS]
    assert search.space(MIXED).kinds.tolist() == kinds  # keys are sorted: count, grid, kind, ...


def test_equal_spaces_compile_once():
    assert search.space(MIXED) == search.space(dict(MIXED))
    assert hash(search.space(MIXED)) == hash(search.space(dict(MIXED)))
    assert search.space(search.choice([0, 1])) != search.space(search.choice([False, True]))
    assert search.space(search.integers(0, 4)) != search.space(search.uniform(0, 4, step=1))


def test_a_space_prints_itself():
    text = str(search.space(MIXED))
    assert "['width']: log_integers(4, 300)" in text and "infinitely many points" in text
    for domain, shown in [
        (search.integers(0, 4), "integers(0, 4)"),
        (search.integers(1, 10, step=3), "integers(1, 10, step=3)"),
        (search.integers(0, 10, (2,), step=4), "integers(0, 8, step=4) x 2"),  # 8 is the last
        (search.uniform(0, 1, step=0.25), "uniform(0, 1, step=0.25)"),
    ]:
        assert str(domain) == shown


def test_spaces_with_more_points_than_floats_count():
    many = search.space(search.integers(0, 9, (5000,)))
    assert many.size == 10**5000 and "5000 coordinates, about 10^5000 points" in str(many)
    assert "1,000,000 points" in str(search.space(search.integers(0, 9, (6,))))
    assert search.space([many.domains[0], search.uniform(0, 1)]).size == math.inf
    bits = search.choice([0, 1], (1024,))
    assert run(jnp.sum, bits, search.random_search(), budget=20).evaluations == 20


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: search.uniform(1, 1), "low < high, got 1 and 1; pass a constant in args"),
        (lambda: search.uniform(0, math.inf), "finite bounds"),
        (lambda: search.uniform(0, 1, step=2), "step must lie between"),
        (lambda: search.log_uniform(0, 1), "positive lower bound, got 0"),
        (lambda: search.choice(["a"]), "at least two options, got .* pass a constant in args"),
        (lambda: search.subset(3, max_size=4), "between 1 and n = 3, got 4"),
        (lambda: search.uniform(0, 1, shape=(-1,)), "tuple of sizes"),
        (lambda: search.uniform(0, 1, shape=3.5), "tuple of sizes, 1 or more, got 3.5"),
        (lambda: search.uniform(0, 1, 0), "tuple of sizes, 1 or more, got 0"),
        (lambda: search.integers(0, 100_000_000), "100,000,001 values, more than 2\\^24: .*x64"),
        (lambda: search.uniform(0, 1, step=1e-9), "more than 2\\^24: pass a larger step"),
        (lambda: search.integers(2**60, 2**60 + 3), "low of integers must lie within 2\\^53"),
        (lambda: search.uniform(1e6, 1e6 + 1), "holds only 16 numbers in float32: .*offset"),
        (lambda: search.log_uniform(1e6, 1e6 + 1), "holds only 1 numbers in float32"),
        (lambda: search.log_integers(10**7, 10**7 + 9), "numbers in float32"),
        (lambda: search.uniform(0, 1e39), "beyond float32: search a scaled variable"),
        (lambda: search.space({}), "at least one domain"),
        (lambda: search.space(MIXED).encode({"real": 1}), "structure of the space"),
        (lambda: search.space(search.integers(0, 3)).encode(9), "outside the space"),
        (lambda: search.space(search.choice(["a", "b"])).encode("c"), "not one of the options"),
        (lambda: search.space(search.uniform(0, 1, (2,))).encode([0.5]), "shape \\(2,\\)"),
        (lambda: search.space(search.uniform(0, 1)).encode([0.5, 0.5]), "must have shape \\(\\)"),
        (lambda: search.space(search.uniform(0, 1)).encode("a"), "must hold numbers, got 'a'"),
        (lambda: search.space(search.integers(0, 9)).encode(4.4), "4.4 is not one of the values"),
        (lambda: search.space(search.integers(0, 9, step=3)).encode(4), "not one of the values"),
        (lambda: search.space(search.uniform(0, 1, step=0.1)).encode(0.35), "not one of the val"),
        (lambda: search.space(search.log_integers(1, 9)).encode(4.4), "not one of the values"),
        (lambda: search.space(search.log_uniform(1, 9)).encode(-1.0), "outside the space"),
        (lambda: search.space(search.subset(4, max_size=2)).encode([1, 1, 1, 0]), "max_size = 2"),
        (lambda: search.space(search.subset(4, max_size=2)).encode([2, 0, 0, 0]), "mask of 4"),
    ],
)
def test_bad_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "domain, beyond",
    [
        (search.uniform(0, 1e-9), 5e-7),
        (search.uniform(-1e-8, 0), -1e-6),
        (search.integers(0, 16_000_000), 16_000_001),
        (search.log_integers(1, 10**7), 10**7 + 1),
    ],
)
def test_points_just_outside_are_not_moved_inside(domain, beyond):
    with pytest.raises(ValueError, match="outside the space"):
        search.space(domain).encode(beyond)


@pytest.mark.parametrize("high", [1e-9, 0.3, 1e9])
def test_bounds_may_be_rounded_to_float32(high):
    uniform, logarithm = search.uniform(-high, high), search.log_uniform(high, 1.01 * high)
    for domain, bound in [(uniform, -high), (uniform, high), (logarithm, 1.01 * high)]:
        space = search.space(domain)
        for rounded in (np.nextafter(np.float32(bound), np.float32(to)) for to in (-9e9, 9e9)):
            x = space.encode(rounded)
            assert space.low <= x <= space.high


def test_bad_types_are_refused():
    with pytest.raises(TypeError, match="low of integers must be an int, got 0.5"):
        search.integers(0.5, 3)
    with pytest.raises(TypeError, match="search.uniform.*constants in args.*register_dataclass"):
        search.space({"a": (0, 1)})
    with pytest.raises(TypeError, match="low of uniform must be a number, got \\[0, 0\\].*shape="):
        search.uniform([0, 0], [1, 1])
    with pytest.raises(TypeError, match="low of uniform must be a number, got 'a'"):
        search.uniform("a", 1)
    for options in (3, "relu"):
        with pytest.raises(TypeError, match="options of choice must be a list"):
            search.choice(options)


def test_points_are_decoded_in_float64_and_within_the_bounds():
    third = np.float32(0.3)[None]
    assert search.space(search.uniform(0, 0.3)).point(third) == 0.3
    assert search.space(search.uniform(0.7, 1)).point(np.float32(0.7)[None]) == 0.7
    grid = search.space(search.uniform(0, 1, step=0.1))
    assert [grid.point(np.float32(i)[None]) for i in range(11)] == [i / 10 for i in range(11)]
    assert grid.encode(np.float32(0.3)) == 3  # as good as a point of float32 can be


def test_x64_has_room_for_more():
    with jax.enable_x64(True):
        assert search.space(search.uniform(1e6, 1e6 + 1)).dimension == 1
        space = search.space(search.integers(0, 3_000_000_000))
        value = jax.jit(space.decode)(space.encode(2_999_999_999))
        assert value == 2_999_999_999 == space.point(space.encode(2_999_999_999))


def test_options_may_be_arrays():
    space = search.space(search.choice([np.zeros(2), np.ones(2)]))
    assert space.encode(np.ones(2)) == 1
    trees = [{"w": np.zeros(2)}, (np.ones(2), "a"), {"w": np.ones(2)}]
    space = search.space(search.choice(trees))
    assert [space.encode(t).item() for t in ({"w": np.ones(2)}, (np.ones(2), "a"))] == [2, 1]
    with pytest.raises(ValueError, match="not one of the options"):
        space.encode({"w": np.ones(3)})


def test_of_equal_options_the_one_of_the_same_type_is_meant():
    space = search.space(search.choice([1, True, "a"]))
    assert [space.encode(v).item() for v in (True, 1, 1.0)] == [1, 0, 0]


def test_bounds_of_numpy_do_not_overflow():
    assert search.integers(np.int8(-100), np.int8(100)).size == 201
    assert search.uniform(np.float16(-6e4), np.float16(6e4), step=1).size == 120_001


def test_integers_on_the_host_have_64_bits():
    space = search.space({"a": search.integers(0, 9, (2,)), "b": search.log_integers(1, 9, (2,))})
    point = space.point(space.low)
    assert point["a"].dtype == point["b"].dtype == np.int64


def test_numbers_that_float32_does_not_hold_are_for_the_host():
    for domain in (search.log_uniform(1e-60, 1.0), search.choice([1.0, 1e300])):
        assert not domain.traceable
    for domain in (search.log_uniform(1e-30, 1.0), search.choice([0.0, -1e30, math.inf])):
        assert domain.traceable
    for domain in (search.log_uniform(1e-60, 1.0), search.choice([2**40, 1])):
        with pytest.raises(TypeError, match="beyond int32 or float32.*jit=False"):
            domain.decode(jnp.zeros(()))
    assert not search.choice([np.int64(2**40), 1]).traceable
    with jax.enable_x64(True):
        assert search.choice([2**40, 1]).decode(jnp.zeros(())) == 2**40


def test_arrays_of_options_that_are_lists_are_encoded():
    space = search.space(search.choice([(1, 2), (3, 4)], (2,)))
    np.testing.assert_array_equal(space.encode([(3, 4), (1, 2)]), [1, 0])
    with pytest.raises(ValueError, match="must have shape"):
        space.encode([(3, 4)])
