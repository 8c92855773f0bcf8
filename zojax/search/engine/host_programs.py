"""The functions of an algorithm on the host: run by NumPy where spaces are small, compiled otherwise."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._call import PROGRAMS
from zojax._keys import as_key
from zojax._numerics import float_dtype
from zojax.search.algorithms._algorithm import Algorithm
from zojax.search.engine._primitives import NoNumPyFormError
from zojax.search.engine.code_store import stored
from zojax.search.engine.numpy_program import Code, runnable, traced
from zojax.search.engine.packed import pack, unpack
from zojax.search.engine.shared_space import bounds_of, shared
from zojax.search.engine.task import as_types_of, first_state
from zojax.search.spaces import Space

State = Any  # leaves for NumPy, or a `Packed`
WIDE = 1000  # coordinates from which a compiled program is faster


class HostPrograms(NamedTuple):
    """What the host calls. The type of a state is the programs' own."""

    start: Callable[..., State]  # (key) -> state
    resume: Callable[..., State]  # (the algorithm's state) -> state
    ask: Callable[..., tuple[Any, State]]  # (state) -> (x, state)
    tell: Callable[..., State]  # (state, x, values) -> state
    step: Callable[..., tuple[Any, State]]  # (state, x, values, asks): tells, and asks if it should
    inject: Callable[..., State]  # (state, x, value) -> state
    end: Callable[..., tuple]  # (state) -> (the algorithm's state, its best point, its value)
    dtype: np.dtype  # of points and values


def host_programs(
    algorithm: Algorithm, space: Space, budget: int, key: jax.Array, dtype: np.dtype
) -> HostPrograms:
    """The programs of a search. NumPy starts at once, and XLA is faster for many coordinates."""
    programs = numpy_programs(algorithm, space, budget, key, dtype)
    return programs or _compiled(algorithm, space, budget)


def numpy_programs(
    algorithm: Algorithm, space: Space, budget: int, key: jax.Array, dtype: np.dtype
) -> HostPrograms | None:
    """Programs that NumPy runs; None for many coordinates, or an algorithm without such a form."""
    if space.dimension >= WIDE:
        return None
    try:
        with jax.enable_x64(dtype == np.float64):
            return _by_numpy(algorithm, space, budget, key.dtype, dtype)
    except NoNumPyFormError:
        return None


@lru_cache(PROGRAMS)
def _by_numpy(
    algorithm: Algorithm, space: Space, budget: int, key: Any, dtype: Any
) -> HostPrograms:
    try:
        codes = _codes(algorithm, shared(space), budget, key, dtype)
    except NoNumPyFormError:
        raise
    except Exception:  # of any kind: the algorithm reads a bound as a number, or makes a mistake
        codes = _codes(algorithm, space, budget, key, dtype)
    return _bound(*codes, bounds_of(space, dtype), dtype)


@dataclass(frozen=True, eq=False)
class Start:
    """The code of `start`, and the structure and the leaves' types of a state."""

    code: Code
    structure: Any
    shapes: tuple


@dataclass(frozen=True, eq=False)
class Steps:
    """The codes of all other programs: most budgets share them."""

    ask: Code
    tell: Code
    inject: Code
    best: Code


@lru_cache(PROGRAMS)
@stored
def _start(algorithm: Algorithm, space: Space, budget: int, key: Any, dtype: Any) -> Start:
    code, state = traced(
        partial(first_state, algorithm, space, budget), jax.ShapeDtypeStruct((), key)
    )
    if any(jnp.issubdtype(leaf.dtype, jax.dtypes.extended) for leaf in jax.tree.leaves(state)):
        raise NoNumPyFormError("a state with keys has no form in NumPy.")
    leaves, structure = jax.tree.flatten(state)
    return Start(code, structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))


@lru_cache(PROGRAMS)
@stored
def _steps(algorithm: Algorithm, space: Space, structure: Any, shapes: tuple, dtype: Any) -> Steps:
    shape, n, d = jax.ShapeDtypeStruct, algorithm.batch_size, space.dimension
    state, of_one = structure.unflatten([shape(*leaf) for leaf in shapes]), algorithm.value_shape
    x, values = shape((n, d), dtype), shape((n, *of_one), dtype)
    ask, _ = traced(partial(algorithm.ask, space), state)
    tell, _ = traced(partial(algorithm.tell, space), state, x, values)
    point, value = shape((d,), dtype), shape(of_one, dtype)
    inject, _ = traced(partial(algorithm.inject, space), state, point, value)
    best, _ = traced(algorithm.best, state)
    return Steps(ask, tell, inject, best)


def _codes(
    algorithm: Algorithm, space: Space, budget: int, key: Any, dtype: Any
) -> tuple[Start, Steps]:
    start = _start(algorithm, space, budget, key, dtype)
    return start, _steps(algorithm, space, start.structure, start.shapes, dtype)


def _bound(first: Start, steps: Steps, bounds: dict[str, np.ndarray], dtype: Any) -> HostPrograms:
    structure, shapes = first.structure, first.shapes
    codes = first.code, steps.ask, steps.tell, steps.inject, steps.best
    start, ask, tell, inject, best = (runnable(code, bounds) for code in codes)

    def ask_one(leaves):
        x, *leaves = ask(*leaves)
        return x, leaves

    def resume(earlier):
        both = zip(jax.tree.leaves(earlier), shapes, strict=True)
        return [np.asarray(leaf, kind) for leaf, (_, kind) in both]

    def step(leaves, x, values, asks):
        leaves = tell(*leaves, x, values)
        return ask_one(leaves) if asks else (x, leaves)

    def end(leaves):
        # JAX would round float64 to its own precision.
        arrays = jax.device_put(leaves) if dtype == float_dtype() else map(np.asarray, leaves)
        return structure.unflatten(arrays), *best(*leaves)

    return HostPrograms(
        start=lambda key: start(np.asarray(jax.random.key_data(key))),
        resume=resume,
        ask=ask_one,
        tell=lambda leaves, x, values: tell(*leaves, x, values),
        step=step,
        inject=lambda leaves, x, value: inject(*leaves, x, value),
        end=end,
        dtype=dtype,
    )


@lru_cache(PROGRAMS)
def _compiled(algorithm: Algorithm, space: Space, budget: int) -> HostPrograms:
    """One program tells and asks, which halves the calls."""
    start, resume, step, inject, end = _programs_of(algorithm, space)
    dtype = float_dtype()
    nothing = np.zeros((algorithm.batch_size, space.dimension), dtype)
    no_values = np.zeros((algorithm.batch_size, *algorithm.value_shape), dtype)
    return HostPrograms(
        start=lambda key: start(key, budget),
        resume=lambda state: resume(state, budget),
        ask=lambda state: step(state, nothing, no_values, False, True),
        tell=lambda state, x, values: step(state, x, values, True, False)[1],
        step=lambda state, x, values, asks: step(state, x, values, True, asks),
        inject=inject,
        end=end,
        dtype=dtype,
    )


@lru_cache(PROGRAMS)
def _programs_of(
    algorithm: Algorithm, space: Space
) -> tuple[Callable, Callable, Callable, Callable, Callable]:
    """(start, resume, step, inject, end) for all budgets."""

    def start(key, budget):
        return pack(first_state(algorithm, space, budget, key))

    def resume(earlier, budget):
        return pack(as_types_of(earlier, first_state(algorithm, space, budget, as_key(0))))

    def step(packed, x, values, tells, asks):
        def tell(state):
            return algorithm.tell(space, state, x, values)

        state = lax.cond(tells, tell, lambda state: state, unpack(packed))
        ask = partial(algorithm.ask, space)
        x, state = lax.cond(asks, ask, lambda state: (x, state), state)
        return x, pack(state)

    def inject(packed, x, value):
        return pack(algorithm.inject(space, unpack(packed), x, value))

    def end(packed):
        state = unpack(packed)
        return state, *algorithm.best(state)

    start, resume = (jax.jit(program, static_argnums=1) for program in (start, resume))
    return start, resume, jax.jit(step), jax.jit(inject), jax.jit(end)
