"""Whole models, unmodified: the loss is the materialised one, and little is materialised."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from tests._numpy import by_numpy
from tests.implicit import _models
from tests.implicit._helpers import close, each_of, materialised, noises
from tests.implicit._models import MODELS
from zojax._trees import is_float
from zojax.directions.low_rank import cut
from zojax.execution import _largest_product
from zojax.implicit import evaluate, explain


def _slow_if_alike(name):
    """Unrolled models have the equations of scanned ones, and flax's nnx and Haiku those of linen."""
    alike = "unrolled" in name or name in ("flax_nnx", "haiku")
    return pytest.param(name, marks=pytest.mark.slow) if alike else name


@pytest.fixture(scope="module", params=map(_slow_if_alike, MODELS))
def model(request):
    return request.param, *_model(request.param)


def _model(name):
    try:
        return MODELS[name]()
    except ImportError as error:
        pytest.skip(str(error))


def draw(params, kind, rank=2):
    """Noise of one kind; vectors have dense noise under low rank, as in `directions.low_rank`."""

    def one(i, leaf):
        if not is_float(leaf):
            return None
        is_matrix = leaf.ndim >= 2
        kinds = noises(leaf.shape, cut(leaf.shape) if is_matrix else None, rank, i)
        return kinds[kind if kind in kinds else "rows"]

    leaves, treedef = jax.tree.flatten(params)
    return treedef.unflatten([one(i, leaf) for i, leaf in enumerate(leaves)])


def reference(loss, params, noise, scale):
    return loss(moved(params, noise, scale))


def moved(params, noise, scale):
    leaves, treedef = jax.tree.flatten(params)
    noise = treedef.flatten_up_to(noise)
    pairs = zip(leaves, noise, strict=True)
    return treedef.unflatten([p if z is None else materialised(p, z, scale) for p, z in pairs])


def implicit_and_reference(loss, params, scale):
    """The losses under dense and low-rank noise, evaluated and materialised."""
    drawn = {k: draw(params, k) for k in ("rows", "low_rank")}
    implicit = {k: evaluate(loss, params, z, scale) for k, z in drawn.items()}
    return implicit, each_of(loss, {k: moved(params, z, scale) for k, z in drawn.items()})


def test_equals_materialised(model):
    _, loss, params = model
    close(*by_numpy(partial(implicit_and_reference, loss))(params, 0.05), 1e-5)


def test_low_rank_weights_are_never_materialised(model):
    _, loss, params = model
    report = explain(loss, params, draw(params, "low_rank"))
    assert not report.missing, str(report)
    for leaf in filter(_is_weight, report.leaves.values()):
        assert {e.kind for e in leaf.events} <= {"kept", "activation"}, str(leaf)


def test_dense_noise_is_materialised_a_slice_at_a_time(model):
    _, loss, params = model
    report = explain(loss, params, draw(params, "rows"))
    assert not report.missing, str(report)
    for leaf in report.leaves.values():
        assert leaf.nbytes <= 4 * math.prod(_slice(leaf)), str(leaf)


@pytest.mark.parametrize("name", [*map(_slow_if_alike, MODELS)])
def test_the_compiler_needs_no_more_than_explain_says(name, monkeypatch):
    """A forward, and the parts that explain finds in memory together.

    Low rank: also the factors, and a second output of the largest product.
    """
    for size, value in {"VOCABULARY": 256, "WIDTH": 64, "HEADS": 16, "LAYERS": 2}.items():
        monkeypatch.setattr(_models, size, value)
    loss, params = _model(name)

    def temporaries(fun, *args):
        return jax.jit(fun).lower(*args).compile().memory_analysis().temp_size_in_bytes

    forward = temporaries(loss, params)
    second_output = 4 * _largest_product(jax.make_jaxpr(loss)(params).jaxpr)
    for kind in ("rows", "low_rank"):
        noise = jax.eval_shape(partial(draw, params, kind))
        ours = temporaries(lambda p, z: evaluate(loss, p, z, jnp.float32(0.1)), params, noise)
        report = explain(loss, params, noise)
        allowed = forward + report.together
        if kind == "low_rank":
            assert 0 < report.factors < 4 * sum(x.size for x in jax.tree.leaves(params))
            allowed += report.factors + second_output
        else:
            assert report.together >= report.largest_slice > 0 and report.factors == 0
        assert ours <= allowed, (kind, ours, forward, str(report))


def test_directions_share_the_parameters(model):
    """vmap over directions: the jaxpr holds no array of directions x weight."""
    _, loss, params = model
    report = explain(loss, params, draw(params, "low_rank"))
    weights = list(filter(_is_weight, report.leaves.values()))
    count = 13  # no other axis has this size

    def population(params, scales):
        leaves, treedef = jax.tree.flatten(params)
        noise = treedef.flatten_up_to(draw(params, "low_rank", rank=5))

        def one(scale):
            # The factors differ between directions, the parameters do not.
            scaled = jax.tree.map(lambda a: a * scale.astype(jnp.result_type(a)), noise)
            mine = treedef.unflatten(scaled)
            return evaluate(loss, params, mine, scale)

        return jax.vmap(one)(scales)

    jaxpr = jax.make_jaxpr(population)(params, jnp.ones(count)).jaxpr
    made = {_unordered(shape) for shape in _shapes(jaxpr)}
    for leaf in weights:
        for shape in (leaf.shape, _slice(leaf)):
            assert _unordered((count, *shape)) not in made, leaf.name


def _slice(leaf):
    """The part of a leaf in use at once: a layer of a stack."""
    return leaf.shape[1:] if "blocks" in leaf.name else leaf.shape


def _is_weight(leaf):
    """Not a bias or a gain, nor positions, which are added to activations."""
    shape = _slice(leaf)
    return len(shape) > 1 and math.prod(shape) > 16 and "wpe" not in leaf.name


def _unordered(shape):
    """Shapes up to the order of axes and axes of size one, so the search finds every view."""
    return tuple(sorted(n for n in shape if n != 1))


def _shapes(jaxpr):
    for eqn in jaxpr.eqns:
        yield from (v.aval.shape for v in eqn.outvars if hasattr(v.aval, "shape"))
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda x: hasattr(x, "eqns")):
            value = getattr(value, "jaxpr", value)
            if hasattr(value, "eqns"):
                yield from _shapes(value)
