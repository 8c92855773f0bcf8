"""Everything public of each kind is in its law table.

A function's return annotation tells its kind. A row is named after its function; a variant may add
words: "mezo, normal and decay" or "square_l2".
"""

import inspect
import re

import pytest

import zojax
from tests._laws import SHAPINGS, STENCILS
from tests.attacks.test_laws import ATTACKS
from tests.directions._laws import ADAPTIVE
from tests.directions._laws import LAWS as DIRECTIONS
from tests.optimizers._laws import OF_INTEGERS, OPTIMIZERS
from tests.search.algorithms._laws import ALGORITHMS
from zojax import attacks, directions, optimizers, search, shaping, stencils

# A kind is its package, the type that its functions return, and its law table.
KINDS = {
    "directions": (directions, zojax.Direction, DIRECTIONS),
    "adaptive directions": (directions, directions.Adaptive, ADAPTIVE),
    "stencils": (stencils, zojax.Stencil, STENCILS),
    "shapings": (shaping, zojax.Shaping, SHAPINGS),
    "optimizers": (optimizers, zojax.ZerothOrder, OPTIMIZERS | OF_INTEGERS),
    "algorithms": (search, search.Algorithm, ALGORITHMS),
    "attacks": (attacks, attacks.Result, ATTACKS),
}


DRIVERS = {"run"}  # of any attack


def functions_of(package, kind):
    """The public functions of a package that return a kind."""
    functions = [getattr(package, name) for name in package.__all__]
    returned = {
        f: inspect.signature(f).return_annotation for f in functions if inspect.isroutine(f)
    }
    named = {f.__name__ for f, found in returned.items() if found in (kind, kind.__name__)}
    return named - DRIVERS


def without_row(public, table):
    """Public names without a row of their own."""
    owners = set()
    for row in table:
        names = [name for name in public if re.match(rf"{name}(\W|_|$)", row)]
        owners |= {max(names, key=len)} if names else set()
    return public - owners


@pytest.mark.parametrize("kind", KINDS)
def test_everything_public_is_in_its_law_table(kind):
    package, returned, table = KINDS[kind]
    public = functions_of(package, returned)
    assert len(public) > 3 and not without_row(public, table)


def test_a_function_without_a_row_is_found():
    table = {"mezo, decay": 0, "square_l2": 0}
    assert without_row({"mezo", "square", "mezo_two"}, table) == {"mezo_two"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_argument_is_refused_by_the_function_that_was_called(kind):
    package, returned, _ = KINDS[kind]
    for name in functions_of(package, returned) - {
        "from_evosax"
    }:  # it has its strategy's arguments
        with pytest.raises(TypeError, match=rf"{name}\(\) got .*'misspelt'"):
            getattr(package, name)(misspelt=1)
