"""What ends an attack early: all that was found comes with the exception, every query is counted."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests._trees import assert_same_bits
from tests.attacks.table import ATTACKS, BUDGET, CLASSES, X, Y, model, on_the_host
from zojax import attacks

pytestmark = pytest.mark.usefixtures("uncompiled")
IMAGES = np.asarray(X)


class Failing:
    """A model that counts what it answers, and fails instead of answering more than `limit`."""

    def __init__(self, limit, fail):
        self.limit, self.fail, self.queries, self.calls = limit, fail, 0, 0

    def __call__(self, images):
        self.calls += 1
        if self.queries + len(images) > self.limit:
            self.fail()
        self.queries += len(images)
        return on_the_host(model)(images)


def raising(error):
    def fail():
        raise error

    return fail


def interrupted():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def run(name, host, batch_size=3, **options):
    return ATTACKS[name].run(host, batch_size=batch_size, jit=False, **options)


def assert_true(partial, host, name):
    """Every answered query is counted, and each image is what the model says of it."""
    assert type(partial) is attacks.Result and partial.adversarial.shape == X.shape
    assert int(partial.queries.sum()) == host.queries
    predicted = np.argmax(model(partial.adversarial), axis=1)
    np.testing.assert_array_equal(partial.success, predicted != Y)
    assert np.all(partial.norms <= ATTACKS[name].eps * (1 + 1e-6))


@pytest.mark.parametrize("fail", [raising(RuntimeError("no quota")), interrupted])
@pytest.mark.parametrize("name", ["square_linf", "nes"])
def test_a_model_that_fails_leaves_what_was_found(name, fail):
    whole = run(name, on_the_host(model))
    for share in (0.01, 0.1, 0.5, 0.9):
        host = Failing(int(share * whole.queries.sum()), fail)
        with pytest.raises((RuntimeError, KeyboardInterrupt)) as caught:
            run(name, host)
        partial = caught.value.partial_result
        assert_true(partial, host, name)
        assert host.queries > host.limit - 3 and np.all(partial.queries <= whole.queries)
        solved = np.asarray(partial.success)
        assert solved.any() or share < 0.9
        np.testing.assert_array_equal(partial.queries[solved], np.asarray(whole.queries)[solved])
        np.testing.assert_array_equal(partial.adversarial[solved], whole.adversarial[solved])


def test_the_images_of_an_interrupted_round_are_told_apart():
    host = Failing(5, raising(OSError("connection lost")))
    with pytest.raises(OSError, match="connection lost") as caught:
        run("nes", host, batch_size=2)
    assert caught.value.partial_result.queries.tolist() == [1, 1, 1, 1, 0, 0, 0]
    host = Failing(7 + 14, raising(OSError("connection lost")))  # a round is 10 queries of an image
    with pytest.raises(OSError) as caught:
        run("nes", host, batch_size=7)
    assert caught.value.partial_result.queries.tolist() == [11, 5, 1, 1, 1, 1, 1]


def test_a_programming_error_ends_the_attack_at_the_first_call():
    calls = []

    def mistaken(images):
        calls.append(len(images))
        return images.no_such_method()

    with pytest.raises(AttributeError, match="no_such_method") as caught:
        run("square_linf", mistaken)
    assert calls == [3] and int(caught.value.partial_result.queries.sum()) == 0
    assert caught.traceback[-1].name == "mistaken"


@pytest.mark.parametrize("score", [np.nan, -np.inf, np.inf])
def test_a_model_without_a_finite_score_is_refused_after_ten_calls(score):
    calls = []

    def broken(images):
        calls.append(len(images))
        return np.full((len(images), CLASSES), score)

    with pytest.raises(ValueError, match="no finite score in its first 10 calls") as caught:
        run("square_linf", broken)
    partial = caught.value.partial_result
    assert len(calls) == 10 and not np.any(partial.success)
    assert int(partial.queries.sum()) == sum(calls) == int(partial.unusable.sum())


def test_late_scores_are_waited_for():
    calls = []

    def warming_up(images):
        calls.append(images)
        scores = on_the_host(model)(images)
        return scores if len(calls) > 9 else np.full_like(scores, np.nan)

    result = run("square_linf", warming_up)
    assert np.any(result.success) and int(result.unusable.sum()) == 21


SHAPES = {
    "one image loses its axis": (lambda out: out[0] if len(out) == 1 else out, r"got shape \(3,\)"),
    "another number of classes": (
        lambda out: out if len(out) > 1 else np.pad(out, [(0, 0), (0, 1)]),
        "as many scores as in its first call, 3, got 4",
    ),
    "complex": (lambda out: out if len(out) > 1 else out + 0j, "real numbers, got dtype complex64"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_outputs_that_depend_on_the_size_of_a_batch_lose_nothing(case):
    change, message = SHAPES[case]
    host = Failing(np.inf, None)
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        run("square_linf", lambda images: change(host(images)))  # batches of 3, 3, 1
    host.queries -= 1  # the answer that was refused
    assert_true(caught.value.partial_result, host, "square_linf")


def test_a_model_may_reuse_its_buffer():
    buffer = np.zeros((3, CLASSES), np.float32)

    def reusing(images):
        out = buffer[: len(images)]
        out[:] = on_the_host(model)(images)
        images[:] = np.nan  # also that of its input
        return out

    assert_same_bits(run("square_linf", reusing), run("square_linf", on_the_host(model)))


def test_the_state_of_a_session_outlives_an_error():
    session = attacks.ask_tell(attacks.square_attack("linf", BUDGET), 0.2, BUDGET)
    state = session.init(5, X, Y)
    with pytest.raises(ValueError, match="one row of scores"):
        session.tell(state, np.zeros((3, CLASSES)))
    while len(points := session.ask(state)):
        state = session.tell(state, on_the_host(model)(points))
    whole = run("square_linf", on_the_host(model))
    np.testing.assert_array_equal(session.result(state).queries, whole.queries)


class Acts:
    """A model that acts in some of its calls, before it answers."""

    def __init__(self, numbers, act):
        self.numbers, self.act, self.calls, self.lock = numbers, act, 0, threading.Lock()

    def __call__(self, images):
        with self.lock:
            number, self.calls = self.calls, self.calls + 1
        if number in self.numbers:
            self.act()
        return on_the_host(model)(images)


def test_an_executor_and_retries_change_nothing():
    whole = run("square_linf", on_the_host(model))
    with ThreadPoolExecutor(3) as pool:
        flaky = Acts({0, 3, 9}, raising(OSError("no connection")))
        assert_same_bits(run("square_linf", flaky, executor=pool, retries=3), whole)


def test_late_scores_are_unusable():
    found = run("square_linf", Acts({0}, lambda: time.sleep(10_000)), timeout=0.3)
    assert found.unusable.tolist() == [1] * 3 + [0] * (len(IMAGES) - 3)
