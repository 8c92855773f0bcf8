"""The zoo of the benchmarks: its names, its table, and models of it by value."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import works, zoo
from benchmarks.contestants import zoo as contestant
from benchmarks.models import Model
from benchmarks.sections import zoo as section


def test_names_are_the_documented_functions_of_the_files():
    assert len(zoo.NAMES) >= 40 and set(zoo.WHY) <= set(zoo.NAMES) and all(zoo.ABOUT.values())
    assert zoo.NAMES[:2] == ("linen.mlp", "linen.lenet") and "equinox.of" not in zoo.NAMES
    files = {path.stem for path in Path(zoo.__file__).parent.glob("*.py")}
    assert files == {*zoo.FILES, "__init__", "data"}


@pytest.mark.parametrize("name", ["plain.masked", "equinox.weight_norm", "nnx.lora"])
def test_values_are_those_at_materialised_parameters(name):
    model = zoo.make(name)
    base, expected = contestant.at_materialised(model)
    for kind in contestant.KINDS:
        found = contestant.implicitly(model, kind)
        change = np.max(np.abs(expected[kind] - base))
        assert change > 0
        np.testing.assert_allclose(found, expected[kind], rtol=1e-6, atol=1e-3 * change)


def test_a_row_has_peaks_times_and_uses_without_a_rule(monkeypatch):
    """A sorted weight has no rule for low-rank noise."""

    def loss(params, x):
        return jnp.sum(jnp.square(x @ jnp.sort(params, axis=0)))

    model = Model(loss, jnp.ones((40, 8)), {"x": jnp.ones((2, 40))})
    monkeypatch.setattr(zoo, "make", lambda name: model)
    monkeypatch.setitem(zoo.WHY, "plain.masked", "a sort reads every entry")
    host = contestant.build(works.make("zoo", {"model": "plain.masked", "directions": 2}))
    host.run()
    row = {"work": "plain.masked"} | host.facts()
    (line,) = section.table([row])
    assert line["d"] == 320 and line["error"] < 1e-3 and line["NO RULE, low rank"] == "sort (40, 8)"
    assert 1 < line["signs: peak / forward"] < 3 and row["low rank"]["time"]["n"] == 3
    parts = row["signs"]["together"]
    assert (
        parts == 4 * 40 * 8
        and line["signs: rule"] == 1.01 + parts / row["signs"]["peaks"]["forward"]
    )
    failing = row | {"low rank": {"no rule": ["pad (3,)"], "failed": "no batch"}}
    (line,) = section.table([failing])
    assert (
        line["NO RULE, low rank"] == "pad (3,)"
        and line["why"] == "no batch; " + zoo.WHY["plain.masked"]
    )
    (line,) = section.table([{"work": "plain.masked", "failed": "not installed: nothing"}])
    known = {column: text for column, text in line.items() if text != ""}
    assert known == {"model": "plain.masked", "why": "not installed: nothing"}
