"""The engine's tests compile small searches, too: `test_few.py` has those of the function alone."""

import pytest


@pytest.fixture(autouse=True)
def whole_searches(request, monkeypatch):
    if request.module.__name__.split(".")[-1] != "test_few":
        monkeypatch.setattr("zojax.search.engine.minimize.FEW", 0)
