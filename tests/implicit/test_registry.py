"""Rules from outside the package: they take effect, and the examples of the guides run."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from tests.implicit._helpers import close, materialised, noises, normal
from zojax.implicit import _registry, evaluate, explain, rule, settled_update

ROOT = Path(zojax.__file__).parent.parent
GUIDES = {
    "README": (ROOT / "zojax/implicit/README.md").read_text(),
    "CONTRIBUTING": (ROOT / "CONTRIBUTING.md").read_text().split("## Add a rule")[-1],
}


@pytest.fixture(autouse=True)
def table(monkeypatch):
    """A table of the test's own."""
    monkeypatch.setattr(_registry, "_TABLE", dict(_registry._TABLE))


def summed(w):
    return x() @ jnp.cumsum(w, axis=1) + jnp.sum(jnp.cumsum(w, axis=0))


def x():
    return normal(9, (3, 4))


@pytest.mark.parametrize("guide", GUIDES)
def test_the_example_of_a_guide(guide):
    """Its code runs, and its rule of `cumsum` keeps low-rank noise, and is right for every kind."""
    w, kinds = normal(1, (4, 5)), noises((4, 5), 1)
    assert explain(summed, w, kinds["low_rank"]).missing
    exec("\n".join(re.findall(r"```python\n(.*?)```", GUIDES[guide], re.DOTALL)), {})
    for kind, z in kinds.items():
        close(evaluate(summed, w, z, 0.3), summed(materialised(w, z, 0.3)), 1e-5)
        missing = [event.primitive for _, event in explain(summed, w, z).missing]
        assert ("cumsum" in missing) == (kind == "masked_low_rank"), kind


def test_a_rule_takes_effect_at_the_next_trace():
    w, z = normal(1, (4, 5)), noises((4, 5), 1)["low_rank"]
    before = evaluate(jnp.sin, w, z, 0.1)

    @rule("sin")
    def without_noise(context, eqn, w):
        context.kept(w, eqn)
        return [jnp.sin(w.base)]

    np.testing.assert_allclose(evaluate(jnp.sin, w, z, 0.1), jnp.sin(w), rtol=1e-6)
    assert not np.allclose(before, jnp.sin(w))
    (leaf,) = explain(jnp.sin, w, z).leaves.values()
    assert [(e.kind, e.primitive) for e in leaf.events] == [("kept", "sin")]


def test_a_rule_sees_multipliers_and_squares_only_if_it_says_so():
    w, z = normal(1, (4, 5)), noises((4, 5), 1)["low_rank"]
    seen = []

    def look(context, eqn, w):
        seen.append((type(w).__name__, bool(getattr(w, "multipliers", ()))))
        return context.fallback(eqn, w)

    def fun(w):
        return jnp.sin(w * jnp.sum(w**2, 0)) + jnp.sin(w**2)  # a factor that each direction changes

    for deferred in (False, True):
        rule("sin", deferred=deferred)(look)
        found = jax.jit(lambda w: evaluate(fun, w, z, 0.1))(w)
        close(found, fun(materialised(w, z, 0.1)), 1e-5)
    # Without the property: folded multipliers, and no call for a square, which is an array.
    assert seen == [("Perturbed", False), ("Perturbed", True), ("Perturbed", False)]


def test_properties_are_read_from_the_table():
    """`moves` and `broadcasts` by explain, `product` by the update of an optimizer."""
    w, z = normal(1, (4, 5)), noises((4, 5))["rows"]

    def kind(fun):
        (leaf,) = explain(fun, w, z).leaves.values()
        return leaf.events[-1].kind

    def rounds(fun):
        update = settled_update(lambda g, s: (fun(g), s), jnp.bool_(True), jnp.float32(0))
        return " or " in str(jax.make_jaxpr(update)(w, ()))

    assert kind(jnp.sin) == "slice" and not rounds(jnp.sin)
    _registry.describe("sin", moves=True, product=True)
    assert kind(jnp.sin) == "missing" and rounds(jnp.sin)
    larger = lambda w: jax.lax.atan2(w[None], normal(2, (3, 4, 5)))  # noqa: E731
    assert kind(larger) == "slice"
    _registry.describe("atan2", broadcasts=True)
    assert kind(larger) == "elementwise"


def test_rule_needs_names():
    with pytest.raises(TypeError, match='rule takes names of primitives, as in @rule."pad".'):

        @rule
        def pad(context, eqn, w):
            return context.fallback(eqn, w)
