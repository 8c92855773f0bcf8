"""Laws of attacks from labels: only labels are read, the distance never grows, each query is counted.

NumPy runs the rounds of these tests, on the host; `test_laws.py` compiles them.
"""

import warnings

import numpy as np
import pytest

from tests._trees import assert_same_bits
from tests.attacks.table import ATTACKS, X
from zojax import attacks

pytestmark = pytest.mark.usefixtures("uncompiled")
BUDGET, CLASSES = 45, 3
IMAGES = np.asarray(X)[:3]
WEIGHTS = np.random.default_rng(0).normal(size=(36, CLASSES)).astype(np.float32)
ROWS = {name: row for name, row in ATTACKS.items() if row.reach > row.eps}
every = pytest.mark.parametrize("name", ROWS)
norms = pytest.mark.parametrize("norm", ["l2", "linf"])


def scores(images):
    return (images - 0.5).reshape(len(images), 36) @ WEIGHTS


def labels(images):
    return np.argmax(scores(images), axis=1)


Y = labels(IMAGES)


def attack(name, model=labels, y=Y, budget=BUDGET, **options):
    row = ROWS[name]
    return row.function(5, model, IMAGES, y, budget=budget, jit=False, **row.settings | options)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n != "hop_skip_jump" else ()) for n in ROWS]
)
def test_only_the_largest_score_counts(name):
    found = attack(name)
    assert np.all(found.success) and np.all(found.queries == BUDGET)
    assert_same_bits(attack(name, scores), found)
    assert_same_bits(attack(name, lambda v: 1e3 * np.tanh(scores(v)) - 7, output="logits"), found)
    renamed = np.array([2, 0, 1])
    assert_same_bits(attack(name, lambda v: renamed[labels(v)], y=renamed[Y]), found)


@norms
@every
def test_the_distance_never_grows_and_the_walk_stays_adversarial(name, norm):
    row = ROWS[name]
    session = attacks.ask_tell(row.factory(norm, **row.settings), 0.0, BUDGET, output="labels")
    state, asked, before = session.init(5, IMAGES, Y), 0, np.full(3, np.inf)
    moved = np.zeros(3, int)
    while len(points := session.ask(state)):
        asked += len(points)
        state = session.tell(state, labels(points))
        found = session.result(state)
        near, best = np.asarray(state.inner.near), np.asarray(found.adversarial)
        walking = np.asarray(state.inner.phase) > 0
        np.testing.assert_array_equal(walking, found.success)
        for images in (near, best):
            np.testing.assert_array_equal(labels(images) != Y, walking)
        delta = (best - IMAGES).reshape(3, -1)
        lengths = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
        np.testing.assert_allclose(found.norms, lengths, rtol=1e-5)
        distance = np.where(walking, found.norms, np.inf)
        assert np.all(distance <= before)
        moved += distance < before
        before = distance
    assert asked == int(found.queries.sum()) == 3 * BUDGET and np.all(moved > 3)


@every
def test_a_given_start_costs_one_query(name):
    seen = []

    def watched(images):
        seen.append(np.array(images))
        return labels(images)

    starts = np.stack([1 - IMAGES[0], IMAGES[1], 1 - IMAGES[2]])
    adversarial = labels(starts) != Y
    assert adversarial.tolist() == [True, False, True]
    found = attack(name, watched, budget=2, starts=starts)
    np.testing.assert_array_equal(seen[0], IMAGES)
    np.testing.assert_allclose(seen[1], starts, atol=1e-6)
    np.testing.assert_array_equal(found.success, adversarial)
    np.testing.assert_allclose(found.adversarial[0], starts[0], atol=1e-6)
    np.testing.assert_array_equal(found.adversarial[1], IMAGES[1])  # nothing was found
    assert found.norms[1] == 0 and np.all(found.queries == 2)
    assert np.all(attack(name, starts=starts).success)  # random images follow


@every
def test_a_start_of_the_target_class_reaches_the_target(name):
    targets = (Y + 1) % CLASSES
    starts = np.clip(0.5 + WEIGHTS.T[targets].reshape(IMAGES.shape), 0, 1)
    np.testing.assert_array_equal(labels(starts), targets)
    first = attack(name, y=targets, targeted=True, starts=starts, budget=2)
    found = attack(name, y=targets, targeted=True, starts=starts)
    assert np.all(first.success) and np.all(found.norms < 0.8 * first.norms)
    np.testing.assert_array_equal(labels(np.asarray(found.adversarial)), targets)


def test_an_image_without_a_start_fails():
    with pytest.warns(UserWarning, match="3 of 3 .* never changed.*starts="):
        found = attack("hop_skip_jump", lambda images: np.zeros(len(images), int), y=0 * Y)
    assert not np.any(found.success) and np.all(found.norms == 0)
    assert np.all(found.queries == BUDGET) and np.all(found.flat == BUDGET - 1)
    np.testing.assert_array_equal(found.adversarial, IMAGES)


def test_an_image_within_the_radius_stops():
    whole, eps = attack("geoda"), 1.0
    found = attack("geoda", eps=eps)
    assert np.all(found.success) and np.all(found.queries < BUDGET)
    assert np.all(found.norms <= eps) and np.all(whole.norms <= found.norms)


def test_negative_labels_are_unusable():
    with pytest.warns(UserWarning, match="3 of 3 images were not attacked"):
        found = attack("sign_opt", lambda images: np.full(len(images), -1))
    assert np.all(found.unusable == found.queries) and not np.any(found.success)


ERRORS = {
    "float labels": (dict(model=lambda v: labels(v) * 1.0), ValueError, "one row of scores"),
    "a negative class": (dict(y=Y - 3), ValueError, "y must hold classes from 0 on.* -3"),
    "two starts": (dict(starts=IMAGES[:2]), ValueError, r"one image for each of x.*\(2, 6, 6\)"),
    "bright starts": (dict(starts=255 * IMAGES), ValueError, r"starts must lie in \[0, 1\]"),
    "a negative radius": (dict(eps=-1.0), ValueError, "eps must be finite and not negative"),
    "no directions": (dict(num_directions=0), ValueError, "num_directions must be at least 1"),
    "an unknown output": (dict(output="label"), ValueError, r"output must be one of .*'labels'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    change, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message), warnings.catch_warnings():
        attack("hop_skip_jump", **change)


def test_scores_start_from_the_image():
    with pytest.raises(ValueError, match="starts are for attacks from labels"):
        attacks.run(5, attacks.square_attack(), scores, IMAGES, Y, 0.1, starts=IMAGES)
