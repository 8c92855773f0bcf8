"""The noise itself: the published generator, access to any part, and the distribution of the entries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.random import threefry_2x32
from scipy import special, stats

from zojax import directions, noise

pytestmark = pytest.mark.optimized

SOURCES = {"signs": noise.Signs, "normals": noise.Normals}
SEED = noise.make_seed(jax.random.key(7))


@pytest.fixture(params=SOURCES)
def source(request):
    return SOURCES[request.param](SEED)


@pytest.fixture(scope="module")
def normals():
    return np.asarray(noise.row_noise(noise.Normals(SEED), (1000, 1000)).dense())


@pytest.fixture(scope="module")
def signs():
    return np.asarray(noise.row_noise(noise.Signs(SEED), (1000, 1000)).dense())


def test_threefry_is_the_published_generator():
    # Known answers of the Random123 distribution for threefry2x32 with 20 rounds.
    full = np.uint32(0xFFFFFFFF)
    pi = [np.uint32(x) for x in (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)]
    cases = [
        ((np.uint32(0),) * 2, (np.uint32(0),) * 2, (0x6B200159, 0x99BA4EFE)),
        ((full,) * 2, (full,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((pi[2], pi[3]), (pi[0], pi[1]), (0xC4923A9C, 0x483DF7A0)),
    ]
    for key, counter, expected in cases:
        words = noise.threefry(key, jnp.array([counter[0]]), jnp.array([counter[1]]))
        assert [int(w[0]) for w in words] == list(expected)


def test_threefry_agrees_with_jax():
    counts = lax.iota(jnp.uint32, 64)
    expected = threefry_2x32((SEED[0], SEED[1]), counts)
    ours = jnp.concatenate(noise.threefry((SEED[0], SEED[1]), counts[:32], counts[32:]))
    assert jnp.array_equal(ours, expected)


def test_mix_is_a_weyl_step_and_the_published_rounds():
    """Without a key `mix` is triple32 of a multiple of the golden ratio, here in Python's integers."""

    def triple32(x):
        for shift, factor in ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)):
            x = (x ^ x >> shift) * factor % 2**32
        return x ^ x >> 14

    counters = [0, 1, 2, 1000, 2**31, 2**32 - 1]
    words = noise.mix((np.uint32(0), np.uint32(0)), jnp.array(counters, jnp.uint32))
    assert words.tolist() == [triple32(c * 0x9E3779B9 % 2**32) for c in counters]
    # Undone from the last round to the first, so no two counters share a word under one key.
    key = (SEED[0], SEED[1])
    words = np.asarray(noise.mix(key, lax.iota(jnp.uint32, 2**20)))
    assert np.unique(words).size == 2**20


@pytest.mark.parametrize("width", [1, 31, 32, 33, 64, 65, 200])
def test_any_entry_alone_equals_the_whole(source, width):
    whole = noise.row_noise(source, (5, 3, width)).dense()
    rows, columns = jnp.meshgrid(
        jnp.arange(15, dtype=jnp.uint32), jnp.arange(width, dtype=jnp.uint32), indexing="ij"
    )
    alone = source.columns(rows, columns, width).reshape(5, 3, width)
    assert jnp.array_equal(whole, alone)


VIEWS = {
    "slice": lambda x: x[2:4],
    "index": lambda x: x[1],
    "gather": lambda x: x[jnp.array([4, 0, 4])],
    "reverse": lambda x: x[::-1],
    "transpose": lambda x: jnp.swapaxes(x, 0, 1),
    "reshape": lambda x: x.reshape((15,) + x.shape[2:]),
    "dynamic": lambda x: lax.dynamic_slice_in_dim(x, 3, 2),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_equals_the_view_of_the_whole(source, view):
    z = noise.row_noise(source, (5, 3, 40))
    index = VIEWS[view]
    seen = dataclasses.replace(z, row=index(z.row.array()))
    assert jnp.array_equal(seen.dense(), index(z.dense()))
    assert seen.shape == index(z.dense()).shape


def test_a_slice_inside_scan_equals_the_whole(source):
    z = noise.row_noise(source, (4, 3, 40))
    rows = z.row.array()
    _, slices = lax.scan(lambda c, row: (c, dataclasses.replace(z, row=row).dense()), None, rows)
    assert jnp.array_equal(slices, z.dense())


def test_scalar_and_empty_leaves():
    assert noise.row_noise(noise.Normals(SEED), ()).dense().shape == ()
    assert noise.row_noise(noise.Signs(SEED), (0, 3)).dense().shape == (0, 3)
    assert noise.row_noise(noise.Signs(SEED), (3, 0)).dense().shape == (3, 0)


def test_nothing_of_the_leaf_size_is_stored(source):
    shape = (256, 4096)
    step = jax.jit(lambda p, seed: p + 1e-3 * noise.row_noise(type(source)(seed), shape).dense())
    arguments = (jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((2,), jnp.uint32))
    temporaries = step.lower(*arguments).compile().memory_analysis().temp_size_in_bytes
    assert temporaries <= 0.25 * 4 * 256 * 4096


@pytest.mark.parametrize("order", range(1, 7))
def test_moments_of_normals(normals, order):
    n = normals.size
    double_factorial = {1: 0, 2: 1, 3: 0, 4: 3, 5: 0, 6: 15, 8: 105, 10: 945, 12: 10395}
    variance = double_factorial[2 * order] - double_factorial[order] ** 2
    moment = np.mean(normals.astype(np.float64) ** order)
    assert abs(moment - double_factorial[order]) < 5 * np.sqrt(variance / n)


@pytest.mark.parametrize("sign", [1, -1])
def test_standard_normal_at_every_one_of_its_inputs(sign):
    k = np.arange(2**23, dtype=np.uint32)
    words = k | np.uint32(0 if sign > 0 else 2**31)
    z = np.asarray(jax.jit(noise.standard_normal)(words), np.float64)
    magnitude = special.ndtri(0.5 + (k + 0.5) / 2**24)
    inner = magnitude < 3.7  # all but 2e-4 of them
    np.testing.assert_allclose(z[inner], sign * magnitude[inner], rtol=2.5e-5)
    np.testing.assert_allclose(z, sign * magnitude, rtol=8e-5)


def test_normals_pass_kolmogorov_smirnov(normals):
    assert stats.kstest(normals.ravel(), "norm").pvalue > 1e-3
    # and in the tails, where the centre of the distribution would hide an error
    tail = normals[np.abs(normals) > 3].ravel()
    expected = normals.size * 2 * stats.norm.sf(3)
    assert abs(tail.size - expected) < 5 * np.sqrt(expected)
    conditional = stats.norm.sf(np.abs(tail)) / stats.norm.sf(3)
    assert stats.kstest(conditional, "uniform").pvalue > 1e-3


def test_signs_are_balanced(signs):
    assert set(np.unique(signs)) == {-1.0, 1.0}
    n = signs.size
    assert abs(signs.mean()) < 5 / np.sqrt(n)
    for axis in (0, 1):  # rows and columns: sums of 1000 signs, 1000 of them
        sums = signs.sum(axis=axis)
        assert abs(np.mean(sums**2) / 1000 - 1) < 5 * np.sqrt(2 / 1000)


@pytest.mark.parametrize("kind", ["normals", "signs"])
def test_neighbours_are_uncorrelated(kind, request):
    """Rows, columns, and lags at which words of the generator would repeat."""
    z = request.getfixturevalue(kind).astype(np.float64)
    for lag in (1, 2, 31, 32, 33, 64, 500):
        for pair in ((z[:, lag:], z[:, :-lag]), (z[lag:], z[:-lag])):
            product = pair[0] * pair[1]
            assert abs(product.mean()) < 5 / np.sqrt(product.size)


def test_leaves_directions_and_steps_are_uncorrelated():
    like = [jax.ShapeDtypeStruct((200, 200), jnp.float32)] * 2
    for direction in (directions.rademacher(), directions.normal()):
        samples = []
        for step in range(2):
            key = jax.random.fold_in(jax.random.key(3), step)
            frame = direction.frame(key, 2, like)
            for index in range(2):
                samples += [z.dense().ravel() for z in _leaves(direction.draw(frame, index, like))]
        samples = np.stack(samples)
        correlation = samples @ samples.T / samples.shape[1]
        off_diagonal = correlation - np.diag(np.diagonal(correlation))
        assert np.abs(off_diagonal).max() < 5 / np.sqrt(samples.shape[1])


def _flipped(place, bit):
    """Words of 4096 rows at 4 columns, and with one bit of the seed, the row or the column flipped."""
    rows = lax.broadcasted_iota(jnp.uint32, (4096, 4), 0)
    columns = lax.broadcasted_iota(jnp.uint32, (4096, 4), 1) * np.uint32(777)

    def words(s0, s1, row, column):
        keys = noise.row_keys((SEED[0] ^ s0, SEED[1] ^ s1), rows ^ row)
        return noise.mix(keys, columns ^ column)

    flips = [np.uint32(0)] * 4
    flips[place] = np.uint32(1 << bit)
    return words(*[np.uint32(0)] * 4), words(*flips)


@pytest.mark.parametrize("place", range(4), ids=["seed 0", "seed 1", "row", "column"])
def test_avalanche(place):
    """One flipped input bit flips every output bit with probability 1/2: strictly, bit by bit."""
    for bit in range(32):
        a, b = _flipped(place, bit)
        changed = np.asarray(a ^ b).ravel()
        rates = [np.mean((changed >> out) & 1) for out in range(32)]
        # 32 x 32 x 4 rates are looked at in all: 5 standard errors hold for all of them.
        assert np.abs(np.array(rates) - 0.5).max() < 5 * 0.5 / np.sqrt(changed.size)


@pytest.mark.parametrize("place", range(4), ids=["seed 0", "seed 1", "row", "column"])
def test_neighbouring_keys_are_uncorrelated(place):
    for bit in (0, 1, 15, 31):
        for value in (noise.standard_normal, noise.random_sign):
            a, b = (np.asarray(value(w), np.float64) for w in _flipped(place, bit))
            assert abs(np.mean(a * b)) < 5 / np.sqrt(a.size)


def test_every_bit_of_a_word_is_balanced():
    rows = lax.iota(jnp.uint32, 1024)
    keys = [k[:, None] for k in noise.row_keys((SEED[0], SEED[1]), rows)]
    words = np.asarray(noise.mix(keys, rows[None])).ravel()
    for bit in range(32):
        assert abs(np.mean((words >> bit) & 1) - 0.5) < 5 * 0.5 / np.sqrt(words.size)


def _leaves(tree):
    return jax.tree.leaves(tree, is_leaf=lambda x: hasattr(x, "dense"))


def test_factors_are_the_same_bits_among_several_devices(monkeypatch):
    parts = [((3,), (5, 2)), ((40,), (7,)), ((1,), (1,))]
    for source in SOURCES.values():
        alone = noise.low_rank_noise(source, SEED, parts, 3)
        with monkeypatch.context() as patched:
            patched.setattr(jax, "device_count", lambda: 2)
            among = noise.low_rank_noise(source, SEED, parts, 3)
        for a, b in zip(alone, among, strict=True):
            np.testing.assert_array_equal(a.left, b.left)
            np.testing.assert_array_equal(a.right, b.right)


def test_uniforms_are_uniform():
    u = np.asarray(noise.row_noise(noise.Uniforms(SEED), (1000, 1000)).dense())
    assert np.all(u * 2**24 == np.floor(u * 2**24)) and u.min() >= 0 and u.max() < 1
    assert stats.kstest(u.ravel()[::7], "uniform").pvalue > 1e-3
