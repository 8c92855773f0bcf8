"""A count of equal failures: when it is fatal, what ends it, what it says."""

import pytest

from zojax._failures import LIMIT, Failures, as_catch


def counted(*errors, catch=()):
    failures = Failures(catch)
    for error in errors:
        failures = failures.of(error)
    return failures


def test_equal_failures_from_the_first_evaluation_on_are_fatal():
    errors = [KeyError(str(i)) for i in range(LIMIT)]
    assert not counted(*errors[:-1]).is_fatal
    failures = counted(*errors)
    assert failures.is_fatal and failures.first is errors[0]
    again = failures.explained(), failures.explained()
    assert again[0] is errors[0] and len(errors[0].__notes__) == 1
    assert "All 10 evaluations raised KeyError. Pass catch=(KeyError,)" in errors[0].__notes__[0]


@pytest.mark.parametrize("at", [0, 5, LIMIT - 1])
@pytest.mark.parametrize("other", [None, ValueError()])
def test_an_evaluation_that_differs_ends_the_count_for_good(at, other):
    errors = [KeyError() for _ in range(3 * LIMIT)]
    errors[at] = other
    failures = counted(*errors)
    assert not failures.is_fatal and (failures.first is None) and failures.count == 3 * LIMIT


def test_a_subclass_is_another_type_but_is_caught():
    assert counted(LookupError(), KeyError()).first is None
    assert counted(KeyError(), catch=(LookupError,)).first is None
    assert counted(KeyError(), catch=(ValueError,)).first is not None


def test_a_false_exception_is_kept():
    class Empty(Exception):
        def __len__(self):
            return 0

    first = Empty()
    assert counted(first, Empty()).first is first


@pytest.mark.parametrize(
    "catch", [ValueError, [ValueError], ("ValueError",), (KeyboardInterrupt,), None]
)
def test_catch_is_a_tuple_of_exception_types(catch):
    with pytest.raises(TypeError, match=r"catch must be a tuple .* got"):
        as_catch(catch)
    assert as_catch((ValueError, OSError)) == (ValueError, OSError)
