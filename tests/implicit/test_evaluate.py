"""The public function: pytrees, transformations around it, arguments, errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.directions._laws import LAWS
from tests.implicit._helpers import close, materialised, noises, normal
from tests.implicit._models import MODELS
from tests.implicit.test_models import reference
from zojax import directions, noise
from zojax._trees import floats_only, structure_of
from zojax.implicit import evaluate, explain

DIRECTIONS = {name: law.direction for name, law in LAWS.items()} | {
    "low_rank": directions.low_rank(2, factors="normal"),
    "masked": directions.masked(directions.rademacher(), lambda path, leaf: len(leaf.shape) > 2),
}
FAST = ("rademacher", "low_rank", "masked")


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in DIRECTIONS]
)
def test_every_direction_one_at_a_time_and_together(name):
    """Under jit: alone, vmapped over directions and signs, and mapped one after another."""
    loss, params = MODELS["mixture"]()
    direction = DIRECTIONS[name]

    @jax.jit
    def run(params, key):
        frame = direction.frame(key, 3, params)

        def two_sided(at):
            def one(i):
                z = direction.draw(frame, i, params)
                return jax.vmap(lambda s: at(loss, params, z, s))(jnp.array([0.1, -0.1]))

            return one

        indices = jnp.arange(3)
        together, one_by_one = (
            jax.vmap(two_sided(evaluate)),
            lambda i: lax.map(two_sided(evaluate), i),
        )
        return together(indices), one_by_one(indices), lax.map(two_sided(reference), indices)

    together, one_by_one, expected = run(params, jax.random.key(0))
    close(together, expected, 1e-5)
    close(one_by_one, expected, 1e-5)


def test_outside_jit_equals_inside():
    params, x = {"w": normal(0, (3, 4, 5)), "b": normal(1, (5,))}, normal(2, (3, 2, 4))

    def loss(p):
        return jnp.tanh(jnp.einsum("ebc,ecf->ebf", x, p["w"]) + p["b"])

    direction = directions.low_rank()
    draw = jax.jit(lambda key: direction.draw(direction.frame(key, 1, params), 0, params))
    z = draw(jax.random.key(0))
    inside = jax.jit(lambda p, z: evaluate(loss, p, z, 0.1))(params, z)
    close(evaluate(loss, params, z, 0.1), inside, 1e-6)


def test_other_leaves_arguments_and_outputs_pass_through():
    """Keys, integers, Python values and None stay what they are; so do static arguments and aux."""
    params = {
        "w": normal(0, (3, 4)),
        "count": jnp.array(2),
        "key": jax.random.key(0),
        "activation": jnp.tanh,
        "nothing": None,
        "fixed": normal(1, (4,)),
    }
    z = dict.fromkeys(params) | {"w": noises((3, 4))["rows"]}

    def fun(p, x, double, *, label):
        assert isinstance(double, bool) and isinstance(label, str) and p["nothing"] is None
        y = p["activation"](x @ p["w"] + p["fixed"]) * p["count"] * (2 if double else 1)
        y = y + jax.random.normal(p["key"], y.shape)
        return y, {"w": p["w"], "label": label, "key": p["key"], "twice": (y, y)}

    x = normal(2, (5, 3))
    y, aux = evaluate(fun, params, z, 0.1, x, True, label="loss")
    moved = params | {"w": materialised(params["w"], z["w"], 0.1)}
    expected_y, expected = fun(moved, x, True, label="loss")
    close((y, aux["w"], aux["twice"]), (expected_y, expected["w"], expected["twice"]), 1e-6)
    assert aux["label"] == "loss" and aux["key"] == params["key"]


def test_scale_zero_is_the_function_and_scale_is_linear_in_products():
    w, x = normal(0, (4, 5)), normal(1, (3, 4))
    z = noises((4, 5), 1)["low_rank"]
    base, *moved = (evaluate(lambda w: x @ w, w, z, s) for s in (0.0, 0.25, 0.5))
    close(base, x @ w, 1e-7)
    close(2 * (moved[0] - base), moved[1] - base, 1e-5)


def test_bfloat16_scale_and_noise_dtypes_leave_dtypes_alone():
    w, x = normal(0, (4, 5), jnp.bfloat16), normal(1, (3, 4), jnp.bfloat16)
    for z in noises((4, 5), 1).values():
        assert evaluate(lambda w: x @ w, w, z, 0.1).dtype == jnp.bfloat16


def test_noise_is_generated_for_the_rows_that_are_read():
    """An embedding lookup hashes two rows of a table of a thousand."""
    table = jax.ShapeDtypeStruct((1000, 16), jnp.float32)
    direction = directions.normal()

    def run(table, key):
        z = direction.draw(direction.frame(key, 1, table), 0, table)
        return evaluate(lambda w: w[jnp.array([3, 7])], table, z, 0.1)

    flops = jax.jit(run).lower(table, jax.random.key(0)).compile().cost_analysis()["flops"]
    assert flops < 1000 * 16


@pytest.mark.parametrize(("kept", "is_most"), [(slice(-1), True), (slice(1), False)])
def test_most_of_a_low_rank_product_is_sliced_before_its_sum(kept, is_most):
    """A compiler moves a slice into a product, but not past a sum."""
    z = noises((6, 7), 1)["low_rank"]
    fun = lambda w: (normal(1, (5, 6)) @ w)[kept]  # noqa: E731
    jaxpr = jax.make_jaxpr(lambda w: evaluate(fun, w, z, 0.1))(normal(0, (6, 7))).jaxpr
    makers = {out: eqn.primitive.name for eqn in jaxpr.eqns for out in eqn.outvars}
    slices = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "slice"]
    sliced = [makers[e.invars[0]] for e in slices if e.invars[0].aval.shape == (5, 7)]
    assert sliced == (
        ["dot_general", "add"] if is_most else ["add"]
    )  # "add": noise of rank 2, or all


def test_grad_through_scale_sees_the_slope():
    """Directional derivatives by differentiating in the scale: values and slopes agree."""
    loss, params = MODELS["mixture"]()
    z = jax.tree.map(lambda p: noise.StoredNoise(jnp.ones_like(p)), params)
    slope = jax.jit(jax.grad(lambda s: evaluate(loss, params, z, s)))(0.0)
    ones = jax.tree.map(jnp.ones_like, params)
    expected = jax.jit(lambda *point: jax.jvp(loss, *point)[1])((params,), (ones,))
    close(slope, expected, 1e-4)


def test_errors():
    w, z = jnp.ones((3, 4)), noises((3, 4))["rows"]
    with pytest.raises(ValueError, match="on_missing must be .* got 'ignore'"):
        evaluate(jnp.sum, w, z, 0.1, on_missing="ignore")
    with pytest.raises(ValueError, match=r"noise of params\['w'\] has shape \(3, 4\)"):
        evaluate(lambda p: jnp.sum(p["w"]), {"w": w[0]}, {"w": z}, 0.1)
    with pytest.raises(ValueError, match="dtype int32, which cannot be perturbed; put None"):
        evaluate(jnp.sum, w.astype(jnp.int32), z, 0.1)
    for wrong in (directions.normal, jnp.ones((3, 4))):
        with pytest.raises(TypeError, match="noise must be a direction"):
            explain(jnp.sum, w, wrong)
        with pytest.raises(TypeError, match="tree of zojax.noise objects"):
            evaluate(jnp.sum, w, wrong, 0.1)


def test_a_direction_stands_for_what_it_draws():
    params = {"w": jnp.ones((64, 32)), "b": jnp.ones(32), "steps": 3}
    direction = directions.low_rank(rank=2)
    like = floats_only(structure_of(params))
    z = direction.draw(direction.frame(jax.random.key(0), 1, like), 0, like)

    def fun(p, x):
        return p["steps"] * (x @ p["w"] + p["b"])

    report = explain(fun, params, direction, jnp.ones((2, 64)))
    assert str(report) == str(explain(fun, params, z, jnp.ones((2, 64))))
    rows = [re.split("  +", line) for line in str(report).splitlines()]
    assert ["-", "params['w']", "low rank", "float32[64,32]", "kept through dot_general"] in rows


def test_report_reads_well():
    params = {"w": jnp.ones((64, 32)), "b": jnp.ones(32), "unused": jnp.ones(2)}
    kinds = {k: noises(v.shape, 1 if k == "w" else None) for k, v in params.items()}
    z = {"w": kinds["w"]["low_rank"], "b": kinds["b"]["rows"], "unused": kinds["unused"]["stored"]}
    report = explain(
        lambda p, x: x @ jnp.exp(p["w"]) + x @ p["w"] + p["b"], params, z, jnp.ones((2, 64))
    )
    head, *rows, _, together, total, missing = str(report).splitlines()
    assert re.split("  +", head) == "bytes parameter noise part use where remedy".split()
    rows = [re.split("  +", row) for row in rows]
    assert rows[0][:5] == ["8 KiB", "params['w']", "low rank", "float32[64,32]", "NO RULE for exp"]
    assert re.fullmatch(r"tests/implicit/test_evaluate.py:\d+:\d+", rows[0][5])
    assert rows[0][6] == 'implicit.rule("exp")'
    assert rows[1][:5] == ["128 B", "params['b']", "dense", "float32[1,32]", "vector for add"]
    assert ["-", "params['w']", "low rank", "float32[64,32]", "kept through dot_general"] in rows
    assert ["-", "params['unused']", "dense, stored", "float32[2]", "unused"] in rows
    assert together == "perturbed parts in memory together: at most 8 KiB"
    assert total.startswith("parameters: 8.133 KiB; an evaluation needs at most 1.98 forwards")
    assert "768 B of factors" in total and report.factors == 2 * (64 + 32) * 4
    assert missing == "no rule for some uses of params['w']"
    assert report.largest_slice == 64 * 32 * 4 and len(report.missing) == 1
    assert np.all([leaf.name.startswith("params") for leaf in report.leaves.values()])


def test_a_report_does_not_depend_on_the_batch():
    params = {"embed": jnp.ones((64, 32)), "gain": jnp.ones(32)}

    def loss(p, tokens):
        return jnp.mean((p["embed"][tokens] * p["gain"]) @ p["embed"].T)

    for direction in (directions.rademacher(), directions.low_rank()):
        reports = [
            explain(loss, params, direction, jnp.zeros(shape, int))
            for shape in [(2, 3), (4, 16), (1, 1)]
        ]
        assert str(reports[0]) == str(reports[1])
        assert len({report.together for report in reports}) == 1  # one token may be kept otherwise


def test_the_plot_has_a_bar_for_each_materialised_parameter():
    import matplotlib

    matplotlib.use("Agg")
    params = {"w": jnp.ones((64, 32)), "b": jnp.ones(32), "unused": jnp.ones(2)}
    report = explain(
        lambda p, x: x @ p["w"] + p["b"], params, directions.normal(), jnp.ones((2, 64))
    )
    ax = report.plot()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["together", "['w']", "['b']"] and ax.get_xlabel() == "KiB"
    assert sorted(bar.get_width() for bar in ax.patches) == [0.125, 8, 8]
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["8 KiB, 1.98 forwards", "8 KiB, dot_general", "128 B, add"]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["at most", "part in use", "vector"]
    assert report.plot(ax) is ax


def test_a_gpu_has_the_vectors_of_all_layers_before_the_loop(monkeypatch):
    """The same numbers, but the loop draws matrices only."""
    params = {"w": normal(0, (3, 4, 4)), "b": normal(1, (3, 4))}
    direction, key = directions.rademacher(), jax.random.key(0)
    drawn = direction.draw(direction.frame(key, 1, params), 0, params)

    def loss(params, h):
        return lax.scan(lambda h, p: (jnp.tanh(h @ p["w"] + p["b"]), None), h, params)[0]

    def run():
        fun = lambda p, h: evaluate(loss, p, drawn, 0.1, h)  # noqa: E731
        body = next(
            e.params["jaxpr"]
            for e in jax.make_jaxpr(fun)(params, normal(2, (2, 4))).eqns
            if e.primitive.name == "scan"
        )
        return jax.jit(fun)(params, normal(2, (2, 4))), str(body)

    here, body = run()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    there, of_gpu = run()
    np.testing.assert_allclose(there, here, rtol=1e-5)
    assert len(of_gpu) < 0.8 * len(body)
