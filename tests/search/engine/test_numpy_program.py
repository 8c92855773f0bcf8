"""Programs that NumPy runs, beside the same functions under JAX."""

import os
import time
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from zojax import search
from zojax.search._later import at_size, changed_if
from zojax.search._random import Random, normals, unit, words
from zojax.search.algorithms._root import symmetric_root
from zojax.search.engine._primitives import MIDDLE
from zojax.search.engine.host_programs import _by_numpy
from zojax.search.engine.numpy_program import (
    NoNumPyFormError,
    named_input,
    numpy_program,
    runnable,
    traced,
)
from zojax.search.engine.once import never_twice

F = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
N = np.arange(-6, 6, dtype=np.int32).reshape(3, 4)
U = (np.arange(12, dtype=np.uint32) * np.uint32(0x9E3779B9)).reshape(3, 4)
B = N % 2 == 0
WIDE = 1.5 + np.cos(np.arange(9000, dtype=np.float32)).reshape(300, 30)


def loop(a):
    return lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, c[1] * 2), (0, a))


def cumulated(a):
    return lax.scan(lambda c, x: (c + x, c * x), a[0], a, reverse=True)


def handed_through(a):
    """A branch that changes one of three arrays, inside one that hands them all through."""

    def inner(a, b, c):
        return lax.cond(a[0, 0] > 9, lambda a, b, c: (a, b + 1, c), lambda *abc: abc, a, b, c)

    return lax.cond(a[0, 0] < 9, inner, lambda a, b, c: (a, b, c * 2), a, 2 * a, 3 * a)


def tripled(pair, factor):
    return pair[0] * 3, changed_if(factor < 9, lambda b: b * 2, pair[1])


OF_FLOATS = {
    "arithmetic": lambda a: -a * a + a / 3 - 1,
    "bits": lambda a: lax.bitcast_convert_type(a, jnp.uint32),
    "parts-of-bits": lambda a: lax.bitcast_convert_type(a, jnp.uint8),
    "converted": lambda a: (a.astype(int), a.astype(bool), a > 1),
    "one-number": lambda a: (a[1, 2] * 2).astype(int) + 1,
    "rounded": lambda a: (jnp.round(a), lax.round(a), jnp.floor(a), jnp.ceil(a)),
    "functions": lambda a: (jnp.exp(a), jnp.log1p(a**2), jnp.tanh(a), abs(a) ** 0.3, jnp.sign(a)),
    # Primitives of their own with jax >= 0.12.
    "polynomials": lambda a: (
        jnp.polyval(a[0] / 9, a),
        jnp.polyval(jnp.arange(12.0), a / 9),
        jnp.log2(3 + a),
        jnp.tile(a, (2, 3)),
        jax.jvp(jnp.tanh, (a,), (a,)),
        lax.optimization_barrier((a, 2 * a)),
    ),
    "erf": lambda a: (lax.erf(a), lax.erf_inv(a / 3), jax.nn.sigmoid(a)),
    "not-finite": lambda a: jnp.isfinite(1 / jnp.floor(a)),
    "clamped": lambda a: jnp.clip(a, -1, 0.5),
    "selected": lambda a: jnp.where(a > 0, a, 2 * a),
    "one-selected": lambda a: jnp.where(a[0, 0] > 0, a, 2 * a),
    "shapes": lambda a: (a.T, a.ravel()[None], a[:, None] + a[0], jnp.flip(a, 0)),
    "joined": lambda a: (jnp.concatenate([a, a]), jnp.stack([a, -a], 1), jnp.pad(a, 1)),
    "slices": lambda a: (a[1:3, ::2], lax.dynamic_slice(a, (2, 3), (2, 2))),
    "split": lambda a: jnp.split(a, [1, 3], axis=1),
    "updated": lambda a: lax.dynamic_update_slice(a, a[:1, :2], (9, 1)),
    "rows": lambda a: a[jnp.array([2, 0])],
    "columns": lambda a: a[:, jnp.array([3, 0, 0])],
    "diagonal": lambda a: jnp.diagonal(a[:, :3]),
    "outside": lambda a: jnp.take(a, jnp.array([0, 99]), axis=0),
    "outside, filled": lambda a: jnp.take(a, jnp.array([0, 99]), axis=0, fill_value=2),
    "scattered": lambda a: a.at[jnp.array([2, 0]), 1].set(7.0),
    "scattered-outside": lambda a: a.at[jnp.array([2, 9])].set(7.0),
    "of-each-row": jax.vmap(lambda row: row[jnp.argmax(row)]),
    "windows-of-rows": lambda a: jax.vmap(lambda row, i: lax.dynamic_slice(row, (i,), (2,)))(
        a, jnp.array([2, 0, 1])
    ),
    "scattered-in-rows": lambda a: jax.vmap(lambda row, i: row.at[i].set(7.0))(
        a, jnp.array([3, 0, 9])
    ),
    "products": lambda a: (a @ a.T, a[0] @ a[1], jnp.einsum("ij,ik->jk", a, a)),
    "batched-product": lambda a: jnp.einsum("bi,bij->bj", a, jnp.stack([a] * 3, 2)[..., 0, None]),
    "sorted": lambda a: (jnp.sort(a % 0.7), jnp.argsort(a % 0.7, axis=0)),
    "reduced": lambda a: (a.sum(), a.max(0), a.min(), a.prod(1), jnp.any(a > 1), jnp.all(a > 1, 1)),
    "found": lambda a: (jnp.argmax(a % 0.7, 1), jnp.argmin(a % 0.7)),
    "cumulated": lambda a: (jnp.cumsum(a, 1), lax.cummax(a % 0.7, reverse=True), jnp.cumprod(a, 0)),
    "iota": lambda a: a + lax.broadcasted_iota(jnp.float32, (3, 4), 1),
    "cond": lambda a: lax.cond(a[0, 0] > 0, lambda a: a, lambda a: 3 * a, a),
    "handed-through": handed_through,
    "filled": lambda a: (jnp.full((3, 4), a[0, 0]) - jnp.full((3, 4), 2.0), a * a[1, 1]),
    "one-choice": lambda a: (jnp.where(F < 9, a, -a), jnp.where(a[0] < F[0, 3], a, a[:1])),
    "written-twice": lambda a: (a[1] * 2 + a[1] * 2, jnp.stack([a[0, 1], a[1, 0]])),
    "later": lambda a: changed_if(a[0, 0] < 0, tripled, (a, a[0]), a[1, 1]),
    "later, not": lambda a: changed_if(a[0, 0] > 0, tripled, (a, a[0]), a[1, 1]),
    "later of a batch": jax.vmap(lambda a: changed_if(a[0] > -1, jnp.sin, a)),
    "switch": lambda a: lax.switch(9, [lambda a: a, lambda a: a + 1], a),
    "while": loop,
    "while of a batch": jax.vmap(
        lambda a: lax.while_loop(lambda a: a.sum() < 20, lambda a: 2 * jnp.abs(a), a)
    ),
    "scan": cumulated,
    "vmap": jax.vmap(lambda a: jnp.dot(a, a) * a),
    "called": lambda a: jax.jit(lambda a: a + 1)(a) * jax.nn.relu(a),
    "cholesky": lambda a: lax.linalg.cholesky(a @ a.T + jnp.eye(3), symmetrize_input=False),
    "not-definite": lambda a: lax.linalg.cholesky(a[:, :3], symmetrize_input=False),
    "triangular-blocks": lambda a: lax.linalg.triangular_solve(
        jnp.tril(jnp.cos(jnp.arange(70.0 * 70).reshape(70, 70))) / 9 + jnp.eye(70),
        jnp.sin(jnp.arange(140.0).reshape(70, 2)) * a[0, 0],
        left_side=True,
        lower=True,
    ),
    "dot-rows": lambda a: WIDE @ (a[0, 0] * jnp.ones((30, 60))),
    "dot-empty": lambda a: (a @ a[:0].T, a[:0] @ a.T, WIDE[:, :0] @ (a[0, 0] * jnp.ones((0, 3)))),
    "dot-vector": lambda a: WIDE @ (a[0, 0] * jnp.ones(30)),
    "triangular": lambda a: lax.linalg.triangular_solve(
        jnp.tril(a[:, :3]) - jnp.eye(3), a, left_side=True, lower=True, transpose_a=True
    ),
    "eigenvalues": lambda a: jnp.linalg.eigvalsh(a @ a.T),
}
OF_INTS = {
    "whole-division": lambda a: (lax.div(a, 4), lax.rem(a, 4)),
    "signed-shift": lambda a: lax.shift_right_arithmetic(a, 1),
    "scalar-division": lambda a: [lax.div(a[i, 0], 4) + lax.rem(a[i, 0], 5) for i in (0, 2)],
}
OF_WORDS = {
    "unsigned-division": lambda a: lax.div(a, np.uint32(7)),
    "wraps": lambda a: a * np.uint32(0x9E3779B9) + a,
    "shifts": lambda a: (a >> 3) ^ (a << 2),
    "whole-of-parts": lambda a: lax.bitcast_convert_type(a.astype(jnp.uint8), jnp.uint32),
}
FUNCTIONS = {name: (fun, F) for name, fun in OF_FLOATS.items()}
FUNCTIONS |= {name: (fun, N) for name, fun in OF_INTS.items()}
FUNCTIONS |= {name: (fun, U) for name, fun in OF_WORDS.items()}
FUNCTIONS["logic"] = (lambda b: (b & ~b[::-1]) | (b ^ b[:, ::-1]), B)


def run_by_numpy(fun, *inputs):
    program, shapes = numpy_program(fun, *inputs)
    return jax.tree.unflatten(jax.tree.structure(shapes), program(*inputs)), shapes


@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_jax(name):
    fun, a = FUNCTIONS[name]
    result, shapes = run_by_numpy(fun, a)
    expected = fun(jnp.asarray(a))
    for found, wanted, shape in zip(*map(jax.tree.leaves, (result, expected, shapes)), strict=True):
        assert np.shape(found) == shape.shape and found.dtype == shape.dtype
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("rows", [words, unit, normals])
def test_rows_of_random_numbers_equal_jax_in_any_order(rows):
    def fun(seed, draws):
        return rows(Random(seed, draws), 5), rows(Random(seed + 1, draws), 5)

    seed = np.array([7, 9], np.uint32)
    program, _ = numpy_program(fun, seed, np.uint32(0))
    numbers = np.array([0, 1, 2, 63, 64, 1000, 3, 2**32 - 1], np.uint32)
    expected = jax.jit(jax.vmap(fun, (None, 0)))(seed, numbers)
    found = [program(seed, number) for number in numbers]
    for one, other in zip(zip(*found, strict=True), expected, strict=True):
        np.testing.assert_allclose(np.stack(one), other, rtol=2e-6)


@pytest.mark.parametrize("rows", [1, MIDDLE[0] - 1, MIDDLE[0], MIDDLE[-1]])
@pytest.mark.parametrize("least", [1e-14, 1e-6, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_symmetric_root_of_any_size_equals_jax(rows, least, dtype):
    basis, _ = np.linalg.qr(np.random.default_rng(rows).normal(size=(rows, rows)))
    matrix = ((basis * np.geomspace(1, least, rows)) @ basis.T).astype(dtype)
    with jax.enable_x64(dtype == "float64"):
        program, _ = numpy_program(symmetric_root, matrix)
        np.testing.assert_allclose(
            program(matrix)[0], symmetric_root(matrix), atol=4 * np.finfo(dtype).eps ** 0.5
        )
    root = program(matrix)[0].astype(float)
    np.testing.assert_allclose(root @ root, matrix, atol=100 * np.finfo(dtype).eps)


def test_a_symmetric_root_of_nan_is_nan():
    for rows in (2, MIDDLE[0]):
        program, _ = numpy_program(symmetric_root, F[0, 0] + np.zeros((rows, rows), np.float32))
        assert np.isnan(program(np.full((rows, rows), np.nan, np.float32))[0]).all()


def test_a_symmetric_root_is_batched():
    matrices = F[:, None] * F[:, :, None] + np.eye(4, dtype=np.float32)
    roots = jax.vmap(symmetric_root)(matrices)
    np.testing.assert_allclose(roots @ roots, matrices, atol=1e-4)


@pytest.mark.skipif(os.cpu_count() == 1, reason="LAPACK has no other threads")
@pytest.mark.parametrize("rows", [40, MIDDLE[-1]])
def test_a_symmetric_root_wakes_no_other_threads(rows):
    factor = np.random.default_rng(0).normal(size=(rows, rows))
    matrix = factor @ factor.T
    program, _ = numpy_program(symmetric_root, matrix)
    before = time.process_time() - time.thread_time()
    for _ in range(50):
        program(matrix)
        time.sleep(0.001)
    assert time.process_time() - time.thread_time() - before < 0.05


def test_a_program_frees_what_no_later_line_reads():
    a = np.ones(100_000)

    def chain(a):
        for i in range(20):
            a = jnp.sqrt(a) + i
        return a

    with jax.enable_x64(True):
        program, _ = numpy_program(chain, a)
    program(a)
    tracemalloc.start()
    program(a)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * a.nbytes


def test_a_size_is_the_least_that_fits_and_the_largest_if_compiled():
    def sizes_of(counts):
        return [at_size(count, [2, 4, 5], lambda n, a: a + n, 0) for count in counts]

    counts = np.arange(6)
    program, _ = numpy_program(sizes_of, counts)
    assert program(counts) == [2, 2, 2, 4, 4, 5]
    assert sizes_of(counts) == [5] * 6


def test_keys_are_their_data():
    def fun(key):
        keys = jax.random.wrap_key_data(jax.random.key_data(key)[None] + jnp.uint32(1))
        return jax.random.key_data(keys[0])

    key = jax.random.key(3)
    program, _ = numpy_program(fun, key)
    (found,) = program(np.asarray(jax.random.key_data(key)))
    np.testing.assert_array_equal(found, fun(key))


@pytest.mark.parametrize(
    "fun",
    [
        lambda a: jnp.fft.fft(a),
        lambda a: lax.cond(a[0, 0] > 9, lambda a: jnp.linalg.qr(a)[0].sum(), jnp.sum, a),
        lambda a: lax.while_loop(lambda a: a[0, 0] > 9, lambda a: jnp.cbrt(a), a),
        lambda a: lax.shift_right_logical(a.astype(int), 1),
    ],
)
def test_an_equation_without_a_form_is_refused_before_any_is_run(fun):
    with pytest.raises(NoNumPyFormError, match="no form in NumPy"):
        numpy_program(fun, F)


def test_an_algorithm_without_a_form_is_compiled():
    def init(key, space, budget):
        return key

    def ask(space, key):
        key, own = jax.random.split(key)
        return jax.random.uniform(own, (1, space.dimension)), key

    def tell(space, key, x, values):
        return key

    algorithm = search.Algorithm(init, ask, tell, lambda key: (jnp.zeros(2), jnp.inf), tell)
    space = search.space(search.uniform(0, 1, (2,)))
    with pytest.raises(NoNumPyFormError):
        _by_numpy(algorithm, space, 9, jax.random.key(0).dtype, np.dtype("float32"))
    found = search.minimize(lambda x: float(x.sum()), space, algorithm, budget=9, key=0, jit=False)
    assert found.evaluations == 9 and len(set(found.history.values.tolist())) == 9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_later_branch_without_a_form_is_compiled(dtype):
    def fun(a):
        low = named_input("low", a.shape, a.dtype)
        return changed_if(a[0] > 0, lambda a, low: jnp.cbrt(a) + low, 2 * a, low)

    a = np.array([8.0, 27.0], dtype)
    with jax.enable_x64(dtype == np.float64):
        code, _ = traced(fun, a)
    for low in (1, 2):
        program = runnable(code, {"low": np.full(2, low, dtype)})
        (found,) = program(a)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, np.cbrt(2 * a) + low, rtol=10 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(program(-a)[0], -2 * a)


def test_a_search_goes_on_after_a_later_branch_without_a_form():
    inner = search.random_search()

    def tell(space, state, x, values):
        state = inner.tell(space, state, x, values)
        return changed_if(values[0] > 1, lambda s: s._replace(value=jnp.cbrt(s.value**3)), state)

    space, options = search.uniform(-1, 1, (2,)), dict(budget=30, key=0, jit=False)
    found, expected = (
        search.minimize(lambda x: float(abs(x).sum()), space, algorithm, **options)
        for algorithm in (inner._replace(tell=tell), inner)
    )
    np.testing.assert_allclose(found.best_value, expected.best_value, rtol=1e-12)
    assert found.history.values.tolist() == expected.history.values.tolist()


def test_the_memory_of_a_finite_space_has_a_form_in_float64():
    space = search.space(search.choice([0, 1], (30,)))
    algorithm = never_twice(search.random_search(), space, 900)
    assert algorithm is not search.random_search()
    with jax.enable_x64(True):
        _by_numpy(algorithm, space, 900, jax.random.key(0).dtype, np.dtype("float64"))


@pytest.mark.parametrize("width", [400, 1000])
def test_both_kinds_of_programs_take_the_same_steps(width):
    """At the width from which XLA runs on the host, and below."""
    space, options = search.uniform(-1, 1, (width,)), dict(budget=30, key=0)

    def fun(x):
        return float(np.abs(x[:3]).sum())

    found = search.minimize(fun, space, search.sracos(), jit=False, **options)
    again = search.minimize(lambda x: jnp.abs(x[:3]).sum(), space, search.sracos(), **options)
    np.testing.assert_allclose(found.history.values, again.history.values, rtol=1e-5)
