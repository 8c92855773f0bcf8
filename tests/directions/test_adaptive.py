"""Laws of every adaptive direction in the table `ADAPTIVE`."""

import pickle
import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests._laws import fast
from tests._trees import assert_close
from tests.directions._laws import ADAPTIVE, read
from zojax import directions
from zojax.directions import Outcome
from zojax.implicit import Inputs, explain

W = np.array([[0.9, -0.2, 0.4], [0.1, -1.3, 0.6], [-0.7, 0.05, 0.3], [0.35, 1.1, -0.8]])
LIKE = jax.ShapeDtypeStruct(W.shape, jnp.float32)
KEYS = [jax.random.key(seed) for seed in range(4)]
MANY = 20_000
SUBSPACES = fast([], [name for name in ADAPTIVE if name.startswith("subspace,")])
ROWS = fast(["cone", "subspace"], ADAPTIVE)


@cache
def memories(name):
    """The memory at the beginning of each of some steps, as a run leaves it."""
    return jax.jit(_run, static_argnums=0)(name)


def _run(name):
    law, params = ADAPTIVE[name], jnp.asarray(W, jnp.float32)
    adaptive, found = law.adaptive, []
    memory = adaptive.init(LIKE)
    for key in KEYS:
        own = jax.random.fold_in(key, 1)
        memory, direction = adaptive.of_step(memory, own, params, Inputs(read, params))
        found.append(memory)
        frame = direction.frame(key, law.num_directions, LIKE)
        c = jnp.arange(1.0, 1 + law.num_directions) / 10
        grads = direction.combine(frame, c, LIKE)
        memory = adaptive.learn(memory, Outcome(grads, c, jnp.float32(0.5), frame))
    return found


def of_last_step(name):
    """Its bases are of an even step."""
    params, memory = jnp.asarray(W, jnp.float32), memories(name)[-1]
    inputs = Inputs(read, params)
    return ADAPTIVE[name].adaptive.of_step(memory, KEYS[0], params, inputs)[1]


@pytest.mark.parametrize("name", ROWS)
def test_a_memory_keeps_its_shapes_and_dtypes(name):
    first, *rest = [jax.eval_shape(lambda m=m: m) for m in memories(name)]
    assert first == jax.eval_shape(lambda: ADAPTIVE[name].adaptive.init(LIKE))
    assert all(other == first for other in rest)


@pytest.mark.parametrize("name", [n for n in ADAPTIVE if n != "layers_in_turn"])  # a lambda
def test_pickle_keeps_every_function(name):
    adaptive = ADAPTIVE[name].adaptive
    again = pickle.loads(pickle.dumps(adaptive))
    assert jax.eval_shape(lambda: again.init(LIKE)) == jax.eval_shape(lambda: adaptive.init(LIKE))
    for mine, theirs in zip(adaptive[1:4], again[1:4], strict=True):
        assert getattr(mine, "func", mine) is getattr(theirs, "func", theirs)


@pytest.mark.parametrize("name", ROWS)
def test_combine_sums_what_draw_gives(name):
    direction, n = of_last_step(name), ADAPTIVE[name].num_directions
    frame = direction.frame(KEYS[0], n, LIKE)
    c = jnp.arange(1.0, 1 + n)
    expected = sum(c[i] * direction.draw(frame, i, LIKE).dense() for i in range(n))
    assert_close(direction.combine(frame, c, LIKE), expected, 1e-5)


@pytest.mark.parametrize("name", ROWS)
def test_the_covariance_is_the_stated_one(name):
    law, direction = ADAPTIVE[name], of_last_step(name)
    frame = direction.frame(KEYS[0], MANY, LIKE)

    @jax.jit
    def draw():
        z = jax.vmap(lambda i: direction.draw(frame, i, LIKE).dense())(jnp.arange(MANY))
        return z.reshape(MANY, -1)

    z = np.asarray(draw(), np.float64)
    memory = jax.tree.map(lambda x: np.asarray(x, np.float64), memories(name)[-1])
    expected = law.covariance(memory, W)
    products = z[:, :, None] * z[:, None, :]
    error = products.std(axis=0) / np.sqrt(MANY)
    assert np.all(np.abs(products.mean(axis=0) - expected) < 5 * error + 1e-4)


@pytest.mark.parametrize("name", ["subspace", *SUBSPACES, *fast([], ["input_span"])])
def test_bases_stay_for_some_steps(name):
    bases = [[b for b in jax.tree.leaves(m) if b.ndim == 2 and b.any()] for m in memories(name)]
    for a, b, c in zip(bases[0], bases[1], bases[2], strict=True):
        assert np.array_equal(a, b) and not np.array_equal(b, c)


@pytest.mark.parametrize("sides", fast(["right"], ["left", "right", "both"]))
@pytest.mark.parametrize("basis", fast(["normal"], ["orthonormal", "normal"]))
def test_subspaces_have_unit_covariance_over_many_bases(sides, basis):
    """The mean square of an entry is 1, whatever the rank."""
    adaptive = directions.subspace(2, sides, basis=basis)
    params = jnp.zeros(W.shape)

    @jax.jit
    @jax.vmap
    def one(key):
        memory = adaptive.begin(adaptive.init(LIKE), jax.random.fold_in(key, 1), params)
        direction = adaptive.direction(memory, params)
        return direction.draw(direction.frame(key, 1, LIKE), 0, LIKE).dense().ravel()

    z = np.asarray(one(jax.random.split(jax.random.key(0), 4000)), np.float64)
    products = z[:, :, None] * z[:, None, :]
    error = products.std(axis=0) / np.sqrt(len(z))
    assert np.all(np.abs(products.mean(axis=0) - np.eye(W.size)) < 5 * error)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_explain_reports_a_first_step(name):
    report = explain(
        lambda w: jnp.sum(jnp.ones((2, 4)) @ w), jnp.asarray(W), ADAPTIVE[name].adaptive
    )
    (leaf,) = report.leaves.values()
    assert (leaf.noise == "low rank") == name.startswith(("subspace", "input_span"))


def test_runs_side_by_side_decompose_one_matrix_at_a_time():
    """Two batched decompositions at once wait for each other for ever on a CPU with two cores."""
    like = {
        "a": jax.ShapeDtypeStruct((6, 4), jnp.float32),
        "b": jax.ShapeDtypeStruct((5, 3), jnp.float32),
    }
    subspace, orthogonal = directions.subspace(2), directions.orthogonal()
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), like)

    def frames(key):
        return subspace.begin(subspace.init(like), key, params), orthogonal.frame(key, 2, like)

    lowered = jax.jit(jax.vmap(frames)).lower(jax.random.split(KEYS[0], 3)).as_text()
    calls = [line for line in lowered.splitlines() if "lapack_sgeqrf" in line]
    shapes = {re.search(r"-> \(tensor<([0-9x]+)xf32>", line)[1] for line in calls}
    assert shapes == {"6x2", "4x2", "5x2", "3x2", "39x2"}, calls


def test_a_momentum_is_projected_on_new_bases():
    """Between orthonormal bases, what both span stays; here they span everything."""
    adaptive = directions.subspace(4, "both", 1, momentum=0.5)
    params = jnp.zeros((4, 4))
    like = jax.ShapeDtypeStruct(params.shape, jnp.float32)

    @jax.jit
    def two_bases():
        memory = adaptive.begin(adaptive.init(like), KEYS[0], params)
        moment = jnp.arange(16.0).reshape(4, 4)
        memory = memory._replace(moment=moment, age=jnp.int32(1))
        return memory, adaptive.begin(memory, KEYS[1], params)

    memory, after = two_bases()
    before, now = (m.left.T @ m.moment @ m.right for m in (memory, after))
    assert not np.allclose(memory.left, after.left)
    np.testing.assert_allclose(before, now, atol=1e-4)


ERRORS = {
    "sides": (lambda: directions.subspace(2, "up"), "sides must be one of"),
    "basis": (lambda: directions.subspace(2, basis="qr"), "basis must be one of"),
    "rank": (lambda: directions.subspace(0), "rank must be at least 1, got 0"),
    "density": (lambda: directions.small_weights(0.0), r"density must be in \(0, 1\]"),
    "layers": (
        lambda: directions.layers(0.5, lambda p, leaf: 0.5).frame(KEYS[0], 1, LIKE),
        "layer_of must give an int",
    ),
    "pairs": (
        lambda: of_last_step("curvature").frame(KEYS[0], 3, LIKE),
        "num_directions must be even, got 3",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        make()
