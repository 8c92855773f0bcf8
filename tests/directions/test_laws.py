"""Laws of every direction in the table `LAWS`: unbiased, with the stated variance, exact where stated.

All tolerances are five standard errors at fixed keys.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from tests._laws import fast
from tests.directions._laws import LAWS, NORM2, B, D, G, H, X
from zojax import directions, noise, stencils
from zojax.directions._permutation import permute

SHAPES = {"flat": (D,), "tree": {"w": (2, 3), "b": (5,), "s": ()}}
SAMPLES = 20_000


def _unflatten(shapes, x):
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda s: isinstance(s, tuple))
    sizes = np.cumsum([int(np.prod(s)) for s in leaves])[:-1].tolist()
    return treedef.unflatten(
        [p.reshape(s) for p, s in zip(jnp.split(x, sizes), leaves, strict=True)]
    )


def _flatten(tree):
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)])


def _quadratic(params):
    x = _flatten(params)
    return 0.5 * x @ jnp.asarray(H, x.dtype) @ x + jnp.asarray(B, x.dtype) @ x


MU = 0.7
FLAT, TREE = ("flat", "float64"), ("tree", "float32")
# Forward differences run over a tree. Where their variance is known, it holds that of central ones;
# only low-rank directions depend on the shapes of leaves.
CENTRAL = [
    *((n, *FLAT) for n in LAWS),
    ("low_rank", *TREE),
    pytest.param("sparse", *TREE, marks=pytest.mark.slow),
]


def _samples(direction, shapes, dtype=jnp.float32, samples=SAMPLES, stencil=None, mu=0.1, q=1):
    """`samples` independent estimates, as rows."""
    estimator = zojax.estimator(direction, stencil or stencils.central(), mu=mu, num_directions=q)
    params = _unflatten(shapes, jnp.asarray(X, dtype))

    @jax.jit
    @jax.vmap
    def one(key):
        return _flatten(estimator.estimate(key, _quadratic, params).grads)

    return np.asarray(one(jax.random.split(jax.random.key(1), samples)), np.float64)


@cache
def _central(name, shapes, dtype):
    with jax.enable_x64(dtype == "float64"):
        return _samples(LAWS[name].direction, SHAPES[shapes], dtype)


def _assert_mean(samples, expected):
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    slack = 1e-3 * np.abs(expected).max()  # rounding of float32 differences
    assert np.all(np.abs(samples.mean(axis=0) - expected) < 5 * error + slack)


def _assert_trace(samples, expected):
    squares = np.sum((samples - G) ** 2, axis=1)
    error = squares.std(ddof=1) / np.sqrt(len(squares))
    assert abs(squares.mean() - expected) < 5 * error + 2e-3 * expected


@pytest.mark.parametrize(("name", "shapes", "dtype"), CENTRAL)
def test_central_differences_are_unbiased_with_the_stated_variance(name, shapes, dtype):
    samples = _central(name, shapes, dtype)
    _assert_mean(samples, G)
    _assert_trace(samples, LAWS[name].trace)


# The others have the moments of signs or of a sphere too.
@pytest.mark.parametrize(
    "name",
    fast(["rademacher", "normal", "sphere", "coordinate"], [n for n in LAWS if LAWS[n].forward]),
)
def test_forward_differences_are_unbiased_and_add_the_stated_variance(name):
    """On a quadratic odd moments vanish, so forward differences are unbiased too."""
    law, (shapes, dtype) = LAWS[name], TREE
    samples = _samples(law.direction, SHAPES[shapes], dtype, stencil=stencils.forward(), mu=MU)
    _assert_mean(samples, G)
    _assert_trace(samples, law.trace + MU**2 / 4 * law.forward)


@pytest.mark.parametrize("name", [n for n, law in LAWS.items() if law.covariance is not None])
def test_covariance_matrix(name):
    centred = _central(name, *FLAT) - G
    products = centred[:, :, None] * centred[:, None, :]
    error = products.std(axis=0, ddof=1) / np.sqrt(len(products))
    difference = np.abs(products.mean(axis=0) - LAWS[name].covariance)
    assert np.all(difference < 5 * error + 5e-3 * NORM2)


LOW_RANK = {
    "signs, rank 1": (dict(rank=1), lambda m, n, r: m * n - 1 + 2 * (r - 1) / r),
    "signs, rank 3": (dict(rank=3), lambda m, n, r: m * n - 1 + 2 * (r - 1) / r),
    "normal, rank 1": (
        dict(rank=1, factors="normal"),
        lambda m, n, r: ((m + 2) * (n + 2) + (r - 1) * (m * n + 2)) / r - 1,
    ),
    "normal, rank 2": (
        dict(rank=2, factors="normal"),
        lambda m, n, r: ((m + 2) * (n + 2) + (r - 1) * (m * n + 2)) / r - 1,
    ),
}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param("signs, rank 1", (3, 4), marks=pytest.mark.slow),
        ("signs, rank 3", (2, 2, 3)),
        pytest.param("normal, rank 1", (2, 2, 3), marks=pytest.mark.slow),
        ("normal, rank 2", (3, 4)),
    ],
)
def test_low_rank_trace_of_a_matrix_and_a_stack(name, shape):
    options, factor = LOW_RANK[name]
    samples = _samples(directions.low_rank(**options), shape, samples=60_000)
    _assert_mean(samples, G)
    # Both shapes are cut where m + n is least: 3 x 4 and (2 2) x 3.
    _assert_trace(samples, factor(4, 3, options["rank"]) * NORM2)


@pytest.mark.parametrize("name", fast(["normal"], ["rademacher", "normal"]))
def test_independent_directions_divide_the_covariance(name):
    samples = _samples(LAWS[name].direction, SHAPES["flat"], q=4, samples=8000)
    _assert_trace(samples, LAWS[name].trace / 4)


def test_a_sum_in_one_kernel_is_that_of_a_loop(monkeypatch):
    """The sum on a GPU, where a loop over small terms would be many small kernels."""
    monkeypatch.setattr("zojax.directions._combine._AT_ONCE", 2)
    estimator = zojax.estimator(directions.rademacher(), num_directions=5, mu=MU)
    params = _unflatten(SHAPES["tree"], jnp.ones(D))
    assert " scan[" in str(jax.make_jaxpr(zojax.grad(_quadratic, estimator))(0, params))
    loop = jax.jit(zojax.grad(_quadratic, estimator))(0, params)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    of_gpu = zojax.estimator(directions.rademacher(), num_directions=5, mu=MU)
    kernel = jax.jit(zojax.grad(_quadratic, of_gpu))(0, params)
    assert " scan[" not in str(jax.make_jaxpr(zojax.grad(_quadratic, of_gpu))(0, params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), kernel, loop)


def test_stored_directions_have_the_sum_of_those_made_one_by_one(monkeypatch):
    """To the bit: small directions are stored, large ones are not."""
    monkeypatch.setattr("zojax.directions._combine._AT_ONCE", 2)
    like = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    signs, c = directions.rademacher(), jnp.linspace(-1.3, 1.7, 5)

    def total():
        return jax.jit(lambda key: signs.combine(signs.frame(key, 5, like), c, like))(
            jax.random.key(0)
        )

    stored = total()
    monkeypatch.setattr("zojax.directions._combine._SMALL", 0)
    np.testing.assert_array_equal(stored, total())


@pytest.mark.parametrize(("name", "q"), [("orthogonal", 3), ("coordinate", 8)])
def test_orthogonal_directions_leave_d_over_q_minus_one(name, q):
    samples = _samples(LAWS[name].direction, SHAPES["flat"], q=q, samples=8000)
    _assert_mean(samples, G)
    _assert_trace(samples, (D / q - 1) * NORM2)


@pytest.mark.parametrize(("size", "count"), [(8, 4), (16, 8), (64, 32)])
def test_a_small_permutation_joins_all_pairs_alike(size, count):
    """The variance of several Hadamard rows depends on the exclusive or of two places."""

    def places(key):
        seed = noise.make_seed(key)
        return jax.vmap(lambda i: permute(seed, i, size))(jnp.arange(count, dtype=jnp.uint32))

    drawn = np.asarray(jax.jit(jax.vmap(places))(jax.random.split(jax.random.key(0), 20_000)))
    i, j = np.triu_indices(count, 1)
    pairs = drawn[:, i] ^ drawn[:, j]
    shares = np.stack([np.mean(pairs == x, axis=1) for x in range(1, size)], axis=1) * (size - 1)
    error = shares.std(axis=0, ddof=1) / np.sqrt(len(shares))
    assert np.all(np.abs(shares.mean(axis=0) - 1) < 5 * error)


@pytest.mark.parametrize(("d", "q"), [(16, 4), pytest.param(12, 6, marks=pytest.mark.slow), (9, 8)])
def test_hadamard_leaves_what_is_orthogonal_in_the_padded_space(d, q):
    padded = 2 ** (d - 1).bit_length()
    g = np.linspace(-1, 2, d)
    estimator = zojax.estimator(directions.hadamard(), num_directions=q, mu=0.1)
    estimate = jax.jit(
        jax.vmap(
            lambda key: (
                estimator.estimate(key, lambda x: x @ g.astype(np.float32), jnp.zeros(d)).grads
            )
        )
    )
    samples = np.asarray(estimate(jax.random.split(jax.random.key(0), 8000)), np.float64)
    _assert_mean(samples, g)
    squares = np.sum((samples - g) ** 2, axis=1)
    error = squares.std(ddof=1) / np.sqrt(len(squares))
    trace = (padded / q - 1) * (d - 1) / (padded - 1) * (g @ g)
    assert abs(squares.mean() - trace) < 5 * error


FULL_SETS = [("coordinate", "tree"), ("orthogonal", "flat"), ("hadamard", "flat")]


def test_every_full_set_is_tested():
    assert {n for n, law in LAWS.items() if law.exact} == {name for name, _ in FULL_SETS}


@pytest.mark.parametrize(("name", "shapes"), FULL_SETS)
def test_a_full_set_recovers_the_exact_gradient(name, shapes):
    direction, q = LAWS[name].direction, LAWS[name].exact
    with jax.enable_x64(True):
        (grads,) = _samples(direction, SHAPES[shapes], jnp.float64, samples=1, q=q)
    np.testing.assert_allclose(grads, G, rtol=2e-6, atol=2e-6)


def test_hadamard_is_exact_at_q_equal_d_when_d_is_a_power_of_two():
    h = H[:8, :8]
    estimator = zojax.estimator(directions.hadamard(), num_directions=8, mu=0.1)
    grads = zojax.grad(lambda x: x @ jnp.asarray(h, jnp.float32) @ x / 2, estimator)(
        0, jnp.arange(8.0)
    )
    np.testing.assert_allclose(grads, h @ np.arange(8.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["normal", "rademacher"])
def test_bias_of_a_cubic(name):
    """sum a_i x_i^3 / 6 is biased by mu^2 a_i E z_i^4 / 6 at any x: a_i/2 normal, a_i/6 rademacher."""
    a, mu = np.linspace(-2.0, 2.0, D), 1.5
    estimator = zojax.estimator(LAWS[name].direction, mu=mu)
    loss = lambda x: jnp.sum(jnp.asarray(a, x.dtype) * x**3) / 6  # noqa: E731
    estimate = jax.jit(
        jax.vmap(lambda key: estimator.estimate(key, loss, jnp.asarray(X, jnp.float32)).grads)
    )
    samples = np.asarray(estimate(jax.random.split(jax.random.key(2), 100_000)), np.float64)
    fourth_and_cross = {"normal": 1 / 2, "rademacher": 1 / 6}[name]
    _assert_mean(samples, a * X**2 / 2 + mu**2 * a * fourth_and_cross)


def test_noisy_values_add_their_variance():
    """Values with noise of variance s^2 add s^2 d / (2 mu^2) to one central difference."""
    s, mu = 0.5, 0.3
    estimator = zojax.estimator(directions.rademacher(), mu=mu)

    @jax.jit
    @jax.vmap
    def one(key):
        points, asked = estimator.ask(key, jnp.asarray(X, jnp.float32))
        noise = s * jax.random.normal(jax.random.fold_in(key, 9), (2,))
        return estimator.tell(asked, jax.vmap(_quadratic)(points) + noise)

    samples = np.asarray(one(jax.random.split(jax.random.key(0), SAMPLES)), np.float64)
    _assert_mean(samples, G)
    _assert_trace(samples, (D - 1) * NORM2 + s**2 * D / (2 * mu**2))


def test_sparse_shares_its_mask_within_a_step():
    like = jax.ShapeDtypeStruct((300,), jnp.float32)
    direction = directions.sparse(0.2)
    frame = direction.frame(jax.random.key(0), 2, like)
    a, b = (np.asarray(direction.draw(frame, i, like).dense()) for i in range(2))
    assert np.array_equal(a != 0, b != 0) and not np.array_equal(a, b)
    other = direction.frame(jax.random.key(1), 2, like)
    assert not np.array_equal(a != 0, np.asarray(direction.draw(other, 0, like).dense()) != 0)


def test_masked_perturbs_only_what_it_selects():
    mask = {"w": jnp.arange(6).reshape(2, 3) % 2 == 0, "b": True, "s": False}
    direction = directions.masked(directions.rademacher(), mask)
    chosen = np.concatenate([np.ones(5), [0], np.arange(6) % 2 == 0]).astype(bool)  # b, s, w
    samples = _samples(direction, SHAPES["tree"], samples=8000)
    assert np.all(samples[:, ~chosen] == 0)
    _assert_mean(samples[:, chosen], G[chosen])


def test_masked_by_a_predicate_equals_masked_by_a_tree():
    tree = {"w": True, "b": False, "s": True}
    predicate = partial(_path_in, {"w", "s"})
    both = [
        _samples(directions.masked(directions.normal(), mask), SHAPES["tree"], samples=3)
        for mask in (tree, predicate)
    ]
    np.testing.assert_array_equal(*both)


def _path_in(names, path, leaf):
    return path[0].key in names


def test_masks_of_numpy_bools_and_of_leaves_that_are_not_perturbed():
    masks = {"w": np.True_, "b": np.False_, "n": False, "key": False}
    params = {"w": jnp.ones(3), "b": jnp.ones(2), "n": jnp.arange(2), "key": jax.random.key(0)}
    estimator = zojax.estimator(directions.masked(directions.rademacher(), masks))
    grads = zojax.grad(lambda p: jnp.sum(p["w"]) + jnp.sum(p["b"]), estimator)(0, params)
    assert np.all(np.abs(grads["w"]) > 0) and np.all(grads["b"] == 0)


def test_a_mask_within_a_mask():
    part = np.array([True, False, True])
    inner = directions.masked(directions.sphere(), {"w": part, "b": True})
    estimator = zojax.estimator(directions.masked(inner, {"w": part, "b": False}))
    params = {"w": jnp.ones(3), "b": jnp.ones(2)}
    grads = zojax.grad(lambda p: jnp.sum(p["w"]) + jnp.sum(p["b"]), estimator)(0, params)
    assert np.all((grads["w"] != 0) == part) and np.all(grads["b"] == 0)


@pytest.mark.parametrize("mask", [{"w": False}, {"w": np.zeros(3, bool)}])
def test_masks_that_select_nothing_are_refused(mask):
    with pytest.raises(ValueError, match="mask selects nothing"):
        directions.masked(directions.rademacher(), mask)


@pytest.mark.parametrize("mask", [{"a": True}, lambda path, leaf: False, {"w": jnp.ones(3)}])
def test_masks_that_do_not_fit_are_refused(mask):
    estimator = zojax.estimator(directions.masked(directions.rademacher(), mask))
    with pytest.raises(ValueError, match="mask"):
        zojax.grad(lambda p: jnp.sum(p["w"]), estimator)(0, {"w": jnp.ones(3)})


@pytest.mark.parametrize("name, limit", [("coordinate", 12), ("orthogonal", 12), ("hadamard", 16)])
def test_more_directions_than_dimensions_are_refused(name, limit):
    estimator = zojax.estimator(getattr(directions, name)(), num_directions=limit + 1)
    with pytest.raises(ValueError, match=f"num_directions must be at most {limit}"):
        zojax.grad(_quadratic, estimator)(0, jnp.ones(D))


def test_coordinates_of_one_step_differ_and_cover_uniformly():
    like = [jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((2, 2), jnp.float32)]
    direction = directions.coordinate()

    @jax.jit
    @jax.vmap
    def places(key):
        frame = direction.frame(key, 3, like)
        z = jax.vmap(lambda i: _flatten([n.dense() for n in direction.draw(frame, i, like)]))
        return jnp.argmax(jnp.abs(z(jnp.arange(3))), axis=1)

    drawn = np.asarray(places(jax.random.split(jax.random.key(0), 7000)))
    assert all(len(set(row)) == 3 for row in drawn)
    counts = np.bincount(drawn.ravel(), minlength=7)
    assert np.all(np.abs(counts - 3000) < 5 * np.sqrt(3000))


def test_coordinate_combines_by_scatter_as_by_definition():
    like = [jax.ShapeDtypeStruct((3,), jnp.float32), jax.ShapeDtypeStruct((2, 2), jnp.float32)]
    direction, c = directions.coordinate(), jnp.array([0.5, -2.0, 3.0])

    @jax.jit
    def both(key):
        frame = direction.frame(key, 3, like)
        z = [[n.dense() for n in direction.draw(frame, i, like)] for i in range(3)]
        total = sum(c[i] * _flatten(z[i]) for i in range(3))
        return _flatten(direction.combine(frame, c, like)), total

    np.testing.assert_allclose(*both(jax.random.key(0)), rtol=1e-6)


@pytest.mark.parametrize("density", [0, -0.1, 1.5])
def test_sparse_refuses_other_densities(density):
    with pytest.raises(ValueError, match="density"):
        directions.sparse(density)


@pytest.mark.parametrize("rank, error", [(0, ValueError), (1.5, TypeError)])
def test_low_rank_refuses_other_ranks(rank, error):
    with pytest.raises(error, match="rank"):
        directions.low_rank(rank)


def test_low_rank_refuses_unknown_factors():
    with pytest.raises(ValueError, match="factors"):
        directions.low_rank(factors="uniform")


@pytest.mark.parametrize("density", [2**-32, 3e-10, 1e-9, 3e-7, 0.1, 1, np.float32(0.3)])
def test_sparse_is_calibrated_for_every_density(density):
    """E z^2 = (share of hashes below the threshold) * scale^2 = 1."""
    direction, like = directions.sparse(density), jax.ShapeDtypeStruct((3,), jnp.float32)
    source = direction.draw(direction.frame(jax.random.key(0), 1, like), 0, like).source
    kept = source.threshold / 2**32
    assert kept * source.scale**2 == pytest.approx(1, rel=1e-9)
    assert kept == pytest.approx(float(density), abs=2**-33)


def test_sparse_with_density_one_keeps_the_largest_hash(monkeypatch):
    monkeypatch.setattr(noise, "threefry", lambda seed, a, b: (jnp.full_like(b, 2**32 - 1), a))
    direction, like = directions.sparse(1.0), jax.ShapeDtypeStruct((3,), jnp.float32)
    seed = jnp.zeros(2, jnp.uint32)
    assert jnp.all(direction.draw((seed[0], seed[1]), 0, like).dense() != 0)


def test_sparse_takes_numbers_of_numpy_and_jax():
    like = jax.ShapeDtypeStruct((300,), jnp.float32)

    def drawn(density):
        direction = directions.sparse(density)
        return direction.draw(direction.frame(jax.random.key(0), 1, like), 0, like).dense()

    for number in (np.float64(0.25), np.float16(0.25), jnp.float32(0.25), jnp.bfloat16(0.25)):
        np.testing.assert_array_equal(drawn(number), drawn(0.25))


@pytest.mark.parametrize(
    "density, error, match",
    [
        (1e-10, ValueError, r"density must be at least 2\^-32 = 2.33e-10, got 1e-10"),
        (lambda step: 0.1, TypeError, "density must be a number, got .*it has no schedule"),
        ("0.1", TypeError, "density must be a number"),
        (jnp.ones(2), TypeError, "density must be a number"),
    ],
)
def test_sparse_says_why_a_density_is_refused(density, error, match):
    with pytest.raises(error, match=match):
        directions.sparse(density)


def test_sparse_refuses_a_traced_density_by_name():
    with pytest.raises(TypeError, match="density must be a static number.*static_args='density'"):
        jax.jit(lambda p: directions.sparse(p).max_directions(()))(0.1)


def test_a_predicate_that_returns_an_array_is_refused_by_leaf():
    direction = directions.masked(directions.rademacher(), lambda path, leaf: np.ones(3, bool))
    with pytest.raises(TypeError, match=r"mask must return a bool for params\['w'\]"):
        zojax.grad(lambda p: jnp.sum(p["w"]), zojax.estimator(direction))(0, {"w": jnp.ones(3)})


def test_low_rank_names_factors_that_are_no_string():
    with pytest.raises(ValueError, match="factors must be one of"):
        directions.low_rank(factors=["normal"])
