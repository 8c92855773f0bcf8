"""The checks of `python -m benchmarks reliability` themselves, in few runs."""

import random

import numpy as np
import pytest

from benchmarks.reliability import estimates
from tests import _laws


@pytest.mark.parametrize("shaping", ["standardize_groups", "unit_std"])
def test_a_random_estimator_is_that_of_numpy(shaping):
    drawn = estimates.case(random.Random(0), list(_laws.SHAPINGS).index(shaping))
    assert drawn[0]["shaping"] == shaping and estimates.agrees(*drawn)


def test_an_empty_leaf_moves_nothing():
    """The noise of the leaf after it finds no entry to wait for."""
    choices = {"direction": "low_rank", "stencil": "central", "shaping": "none", "mu": 0.2}
    choices |= {"num_directions": 2, "batch_size": None, "dtype": "float32"}
    leaves = {"leaf 0": np.ones((0, 3), np.float32), "leaf 1": np.ones((2, 2), np.float32)}
    assert estimates.agrees(choices, leaves | {"count": np.int32(3)}, key=5)
