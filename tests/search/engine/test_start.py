"""The start of a search: what is traced again, and what is read from JAX's cache."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import search
from zojax.search.engine import code_store, host_programs
from zojax.search.engine.numpy_program import Code, form_of

MIXED = {"kind": search.choice([1, 2, 3]), "level": search.ordered([1, 3, 4])}


def sphere(point):
    leaves = [leaf for leaf in jax.tree.leaves(point) if not isinstance(leaf, str)]
    return float(sum(np.sum(np.square(leaf)) for leaf in leaves))


def values_of(space, algorithm=None):
    found = search.minimize(sphere, space, algorithm, budget=45, key=0, jit=False)
    return found.history.values


def forget():
    host_programs._by_numpy.cache_clear()
    host_programs._start.cache_clear()
    host_programs._steps.cache_clear()


def refuse(*_):
    raise AssertionError("traced again")


def continuous(high):
    return search.uniform(-1, high, (3,))


def mixed(high):
    return MIXED | {"n": search.integers(0, high), "x": search.real(0, high)}


def snapped(high):
    widths, layers = (
        search.log_integers(1, 100),
        search.choice({"a": {}, "b": search.integers(0, 9)}),
    )
    return [search.uniform(-1, high), widths, search.integers(0, high), layers]


def grid(high):
    return search.integers(-1, 900 * high, (3,))


@pytest.mark.parametrize(
    "made, algorithm",
    [
        (continuous, search.turbo()),
        (mixed, search.cma_es()),
        (grid, search.sracos()),
        (snapped, search.sracos()),
    ],
)
def test_other_bounds_trace_nothing_and_give_the_values_of_a_trace_of_their_own(
    made, algorithm, monkeypatch
):
    values_of(made(2), algorithm)
    with monkeypatch.context() as without:
        without.setattr(host_programs, "traced", refuse)
        found = values_of(made(5), algorithm)
    forget()
    monkeypatch.setattr(host_programs, "shared", lambda space: space)
    np.testing.assert_allclose(found, values_of(made(5), algorithm), rtol=1e-9)
    forget()


def written(code):
    """Writes the code with all of its branches, and returns the equations that need a form."""
    for eqn in code._written().calls.values():
        codes = [p for p in jax.tree.leaves(eqn.params) if isinstance(p, Code)]
        if not codes:
            yield eqn
        for inner in codes:
            yield from written(inner)


@pytest.mark.parametrize("name", ["cma_es", "snes", "iterated_local_search", "portfolio"])
def test_branches_that_are_traced_later_have_forms_in_numpy(name):
    space = host_programs.shared(search.space(grid(2)))
    key = jax.random.key(0).dtype
    _, steps = host_programs._codes(getattr(search, name)(), space, 1000, key, np.dtype("float32"))
    equations = [*written(steps.tell), *written(steps.ask)]
    assert equations and all(form_of(eqn) for eqn in equations)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(code_store, "_folder", lambda: tmp_path)
    forget()
    yield tmp_path
    forget()


def test_a_stored_program_is_not_traced(folder, monkeypatch):
    algorithm = search.portfolio()
    found = values_of(continuous(2), algorithm)
    forget()
    assert len(list(folder.iterdir())) == 2
    with monkeypatch.context() as without:
        without.setattr(host_programs, "traced", refuse)
        assert values_of(continuous(2), algorithm).tolist() == found.tolist()
    forget()
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:99])
    assert values_of(continuous(2), algorithm).tolist() == found.tolist()


def test_a_file_of_another_user_is_not_read(folder, monkeypatch):
    algorithm = search.random_search()
    values_of(continuous(2), algorithm)
    forget()
    monkeypatch.setattr(os, "getuid", lambda: 1 + os.stat(folder).st_uid, raising=False)
    with pytest.raises(PermissionError):
        code_store._read(next(folder.iterdir()))
    monkeypatch.setattr(code_store.pickle, "load", refuse)
    assert len(values_of(continuous(2), algorithm)) == 45


def test_functions_of_others_are_not_stored(folder):
    inner = search.random_search()
    own = inner._replace(tell=lambda *args: inner.tell(*args))
    assert len(values_of(continuous(2), own)) == 45
    forget()
    assert not list(folder.iterdir())


def test_an_algorithm_that_reads_bounds_as_numbers_has_a_program_for_each_space():
    inner = search.random_search()

    def ask(space, state):
        x, state = inner.ask(space, state)
        return jnp.maximum(x, float(space.high[0]) / 2), state

    for high in (2, 4):
        found = search.minimize(
            sphere, continuous(high), inner._replace(ask=ask), budget=5, key=0, jit=False
        )
        assert found.history.points.min() >= high / 2
