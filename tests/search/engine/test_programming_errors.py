"""Functions that fail alike from the first evaluation on end the search, with what they raised."""

import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.search.engine._helpers import counted
from zojax import search

LINE = search.space({"lr": search.uniform(0, 1)})
RESET = search.coordinate_reset()


def run(fun, algorithm=RESET, budget=30, **options):
    return search.minimize(fun, LINE, algorithm, budget=budget, key=0, jit=False, **options)


def mistyped(p):
    return p["learning_rate"]


@pytest.mark.filterwarnings("ignore:an evaluation failed")
@pytest.mark.parametrize("budget, calls_made", [(30, 10), (10, 10), (4, 4), (1, 1)])
@pytest.mark.parametrize("algorithm", [RESET, search.random_search(3)])
def test_an_error_of_every_evaluation_is_raised(algorithm, budget, calls_made):
    fun, calls = counted(mistyped)
    with pytest.raises(KeyError, match="learning_rate") as raised:
        run(fun, algorithm, budget)
    assert len(calls) == calls_made
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert frames[-1].name == "mistyped"
    (note,) = raised.value.__notes__
    assert f"All {calls_made} evaluations raised KeyError. Pass catch=(KeyError,)" in note
    partial = raised.value.partial_result
    assert partial.evaluations == partial.failures == calls_made


@pytest.mark.filterwarnings("ignore:an evaluation failed")
@pytest.mark.parametrize(
    "returned", [None, "3", 1j, np.zeros(2), {"loss": 1.0}, [[1.0], [1.0, 2.0]]], ids=repr
)
def test_what_is_never_a_number_is_raised(returned):
    fun, calls = counted(lambda p: returned)
    with pytest.raises(TypeError, match="fun must return"):
        run(fun)
    assert len(calls) == 10


@pytest.mark.filterwarnings("ignore:an evaluation failed")
@pytest.mark.parametrize("algorithm", [search.asracos(in_flight=3), search.random_search(4)])
def test_errors_in_an_executor_are_raised(algorithm):
    with ThreadPoolExecutor(3) as pool, pytest.raises(KeyError) as raised:
        run(mistyped, algorithm, executor=pool)
    assert raised.value.partial_result.evaluations == 10


@pytest.mark.filterwarnings("ignore:an evaluation failed")
def test_runs_that_are_repeated_count_together():
    fun, calls = counted(mistyped)
    with pytest.raises(KeyError, match="learning_rate"):
        run(fun, budget=6, repeats=4)
    assert len(calls) == 10
    fun, calls = counted(lambda p: mistyped(p) if len(calls) > 6 else 1.0)
    assert run(fun, budget=6, repeats=4).failures == 18


@pytest.mark.filterwarnings("ignore:an evaluation failed")
@pytest.mark.parametrize("odd", [1.0, np.nan, np.inf, 1e39, ValueError("other")])
@pytest.mark.parametrize("at", [1, 10])
def test_one_evaluation_that_differs_shows_that_the_function_works(odd, at):
    def differs(p):
        if len(calls) != at:
            return mistyped(p)
        if isinstance(odd, Exception):
            raise odd
        return odd

    fun, calls = counted(differs)
    result = run(fun)
    assert len(calls) == result.evaluations == 30
    assert result.failures == 30 - (odd in (1.0, 1e39))  # both are values on the host


@pytest.mark.filterwarnings("ignore:an evaluation failed")
def test_what_is_caught_counts_as_failed():
    fun, calls = counted(mistyped)
    result = run(fun, catch=(ValueError, LookupError))
    assert len(calls) == result.failures == 30 and "KeyError" in result.message
    with pytest.raises(KeyError):
        run(mistyped, catch=(ValueError,))
    with pytest.raises(TypeError, match=r"catch must be a tuple .* got <class 'KeyError'>"):
        run(mistyped, catch=KeyError)


@pytest.mark.filterwarnings("ignore:an evaluation failed")
def test_an_interrupt_is_no_reason_to_raise_what_failed_before():
    def fails_then_interrupted(p):
        if len(calls) > 5:
            raise KeyboardInterrupt
        return mistyped(p)

    fun, calls = counted(fails_then_interrupted)
    result = run(fun)
    assert result.failures == result.evaluations == 5
    assert result.message.startswith("interrupted; no evaluation succeeded: KeyError")
