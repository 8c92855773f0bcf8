"""Permutations: neighbours, and a travelling salesman."""

import numpy as np
import pytest

from zojax import search


def test_a_new_coordinate_moves_one_item():
    space = search.space(search.permutation(list("abcde")))
    x = space.encode(["a", "b", "c", "d", "e"])
    for place, order in [(0, "dabce"), (1, "adbce"), (2, "abdce"), (4, "abcde"), (5, "abced")]:
        moved = x.copy()
        moved[3] = 2 * place * space.domains[0].half
        assert "".join(space.point(space.clip(moved))) == order


def test_all_orderings_are_about_equally_likely():
    space = search.space(search.permutation(4))
    rows = np.asarray(space.point(np.asarray(space.sample(0, 24_000))))
    _, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(counts) == 24
    assert np.sum((counts - 1000) ** 2 / 1000) < 23 + 5 * np.sqrt(2 * 23)


def tour_length(cities):
    def length(tour):
        ring = cities[np.append(tour, tour[0])]
        return float(np.linalg.norm(np.diff(ring, axis=0), axis=1).sum())

    return length


def test_a_tour_is_much_shorter_than_random_ones():
    length = tour_length(np.random.default_rng(0).random((15, 2)))
    found, random = (
        search.minimize(length, search.permutation(15), algorithm, budget=500, key=0, jit=False)
        for algorithm in (search.coordinate_search(), search.random_search())
    )
    assert found.best_value < 0.75 * random.best_value
    assert sorted(found.best.tolist()) == list(range(15))
    assert len(np.unique(found.history.points, axis=0)) == found.evaluations


def test_bad_permutations_are_refused():
    with pytest.raises(ValueError, match="items of permutation must differ, got 'a' twice"):
        search.permutation(["a", "b", "a"])
    for items in (1, [], ["a"]):
        with pytest.raises(ValueError, match="permutation needs at least two options"):
            search.permutation(items)
    with pytest.raises(TypeError, match="options of permutation must be a list"):
        search.permutation(2.5)
    space = search.space(search.permutation(3))
    for bad in ([0, 1], [0, 1, 1], [0, 1, 2, 2]):
        with pytest.raises(ValueError, match="must hold each item once"):
            space.encode(bad)
    with pytest.raises(ValueError, match="not one of the options"):
        space.encode([0, 1, 3])
