"""Public names keep the import paths that they had before the packages."""

import importlib

import pytest

from zojax import search

OLD = {
    "domains": "CONTINUOUS ORDERED UNORDERED Domain choice integers log_integers ordered uniform",
    "spaces": "Space space",
    "default": "default_algorithm",
    "pposs": "pposs",
    "sracos": "sracos",
    "from_evosax": "from_evosax",
}


@pytest.mark.parametrize("module", OLD)
def test_a_public_name_is_found_at_its_old_path(module):
    old = importlib.import_module(f"zojax.search.{module}")
    for name in OLD[module].split():
        assert getattr(old, name) is getattr(search, name)


def test_an_algorithm_of_the_same_name_as_its_module_is_the_algorithm():
    importlib.import_module("zojax.search.sracos")
    assert callable(search.sracos) and callable(search.algorithms.sracos)
