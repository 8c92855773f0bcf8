"""NSGA-II: fronts, crowding, variation, and the front that a search finds."""

import jax.numpy as jnp
import numpy as np

from tests.search.algorithms._laws import MIXED
from zojax import search
from zojax.search._random import Random, unit
from zojax.search.algorithms._dominance import best_first, crowding, dominance, fronts
from zojax.search.algorithms._variation import cross, mutate

RANDOM = np.random.default_rng(0)
VALUES = np.round(RANDOM.random((20, 3)), 1).astype(np.float32)  # with ties
VALUES[7] = np.inf


def plainly_dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def plain_fronts(values):
    front, left = {}, set(range(len(values)))
    while left:
        best = {i for i in left if not any(plainly_dominates(values[j], values[i]) for j in left)}
        front |= dict.fromkeys(best, max(front.values(), default=-1) + 1)
        left -= best
    return [front[i] for i in range(len(values))]


def test_fronts_are_those_of_the_definition():
    expected = [[plainly_dominates(a, b) for b in VALUES] for a in VALUES]
    np.testing.assert_array_equal(dominance(jnp.asarray(VALUES)), expected)
    found = fronts(jnp.asarray(VALUES))
    assert found.tolist() == plain_fronts(VALUES) and max(found.tolist()) > 2


def test_crowding_is_the_sum_of_gaps_between_neighbours():
    values = jnp.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0], [9.0, 9.0], [np.inf] * 2])
    front = jnp.array([0, 0, 0, 0, 1, 2])
    found = crowding(values, front)
    # Of the range, 9 for both.
    np.testing.assert_allclose(found[1:3], [3 / 9 + 3 / 9, 3 / 9 + 2 / 9], rtol=1e-6)
    assert np.isinf(found[jnp.array([0, 3, 4])]).all() and found[5] == 0
    assert best_first(values).tolist()[4:] == [4, 5]


def uniform(*shape):
    size = int(np.prod(shape))
    return unit(Random(jnp.array([1, 2], jnp.uint32), jnp.uint32(size)), size).reshape(shape)


def test_a_child_lies_near_its_parents_and_has_their_middle_on_average():
    box = search.space(search.uniform(0, 1, (2,)))
    a, b = jnp.array([[0.4, 0.3]]), jnp.array([[0.5, 0.7]])
    children = np.asarray(cross(box, uniform(2, 4000, 2), a, b))
    assert (children >= 0).all() and (children <= 1).all()
    is_a = children == np.asarray(a)
    np.testing.assert_allclose(is_a.mean(axis=0), 0.5, atol=5 * 0.5 / 4000**0.5)
    crossed = np.ma.array(children, mask=is_a)
    error = crossed.std(axis=0) / (~is_a).sum(axis=0) ** 0.5
    assert (abs(crossed.mean(axis=0) - np.array([0.45, 0.5])) < 5 * error).all()


def test_mutation_changes_one_coordinate_on_average_within_the_space():
    x = jnp.asarray(MIXED.clip(np.tile((MIXED.low + MIXED.high) / 2, (4000, 1))), jnp.float32)
    moved = np.asarray(MIXED.clip(mutate(MIXED, uniform(2, *x.shape), x)))
    assert (moved >= MIXED.low - 1e-6).all() and (moved <= MIXED.high + 1e-6).all()
    share = 1 / MIXED.dimension
    changed = (moved != np.asarray(x)).mean(axis=0)
    # A mutated coordinate differs, but for small steps between integers on a logarithmic scale.
    is_width = MIXED.high == np.log(64.5)
    assert is_width.sum() == 1 and 0 < changed[is_width] < share
    np.testing.assert_allclose(changed[~is_width], share, atol=5 * (share / 4000) ** 0.5)


def test_the_front_of_a_search_is_the_pareto_front():
    def fun(p):  # the front: x = 0, and y between the minima
        spread = 4 * p["x"] ** 2 + (p["kind"] == "b")
        return p["y"] ** 2 + spread, (p["y"] - 1) ** 2 + spread

    space = {"x": search.uniform(-1, 1), "y": search.uniform(-2, 2)}
    space["kind"] = search.choice(["a", "b"])
    front = search.minimize(fun, space, objectives=2, budget=600, key=0).front
    assert (front.points["kind"] == "a").all() and len(front.values) > 20
    y = front.points["y"]
    assert y.min() > -0.1 and y.max() < 1.1 and np.diff(np.sort(y)).max() < 0.2
    # The area below the front sqrt(f1) + sqrt(f2) = 1 is 1/6.
    assert front.hypervolume([1, 1]) > 5 / 6 - 0.06


def test_conditional_spaces_and_orderings_have_a_front():
    def fun(p):
        name, own = p["model"]
        disorder = float(np.abs(np.diff(p["order"])).sum() - 4)
        if name == "small":
            return 1 + disorder, own["k"] / 10
        return abs(np.log10(own["C"])) + disorder, 2.0

    space = {
        "model": search.choice(
            {"small": {"k": search.integers(1, 9)}, "large": {"C": search.log_uniform(0.1, 10)}}
        ),
        "order": search.permutation(5),
    }
    front = search.minimize(fun, space, objectives=2, budget=400, key=0).front
    names = [model.name for model in front.points["model"]]
    assert names == sorted(names)  # the large ones first: better in the first objective
    assert front.values[0, 0] < 0.2 and front.values[-1].tolist() == [1, 0.1]
