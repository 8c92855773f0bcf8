"""The programs of a search on the device: its first carry, the loop, and evaluations outside the loop."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from zojax._call import PROGRAMS, kept_with_loss
from zojax._failures import unbatchable
from zojax._numerics import float_dtype
from zojax._scalars import traced_values
from zojax.search._random import evaluation_key, split
from zojax.search.engine.task import Problem, as_types_of, first_state, keeps_points


class Carry(NamedTuple):
    """The carry of the loop. With several runs, `state` and `key` have a leading axis of runs."""

    evaluations: jax.Array  # () int32, of each run
    state: Any
    begin: jax.Array  # () int32, evaluations before the first row of the histories
    values: jax.Array  # (rows, runs), with several objectives (rows, runs, objectives)
    points: jax.Array  # (rows, runs, d), or no rows if too large
    used: jax.Array  # (runs,) evaluations until the run stopped
    since: jax.Array  # (runs,) evaluations since the best value improved
    best: jax.Array  # (runs,); the least number, unused, with several objectives
    running: jax.Array  # (runs,) bool
    key: jax.Array  # of the evaluations


class DevicePrograms(NamedTuple):
    """The programs of a function."""

    advance: Callable  # `_steps`; it may reuse the memory of its carry
    advance_a_copy: Callable  # `_steps`; its carry must survive an interrupt
    evaluate_known: Callable
    evaluate_again: Callable


@lru_cache(PROGRAMS)
def starting(problem: Problem, free: bool, length: int) -> Callable[..., Carry]:
    return jax.jit(partial(_start, problem, free, length))


def _start(
    problem: Problem, free: bool, length: int, key, known_x, known_values, target, earlier
) -> Carry:
    """The carry before the first call. A call has at most `length` evaluations.

    `earlier` has the states and the best values (runs,) of an earlier search, or is None.
    """
    runs, rows = problem.runs, max(1, length) + problem.algorithm.batch_size - 1

    def init(key):
        return first_state(problem.algorithm, problem.space, problem.planned, key)

    def inject_all(state):
        def inject(state, known):
            return problem.algorithm.inject(problem.space, state, *known), None

        samples = 1 if free else problem.algorithm.samples
        means = jnp.mean(known_values.reshape(-1, samples, *problem.value_shape), axis=1)
        return lax.scan(inject, state, (known_x[::samples], means))[0] if len(known_x) else state

    keys, lift = (key, lambda f: f) if runs == 1 else (split(key, runs), jax.vmap)
    first = lift(init)(keys)
    state = lift(inject_all)(first if earlier is None else as_types_of(earlier[0], first))
    spent = 0 if free else len(known_x)
    kept = rows if keeps_points(problem, problem.budget) else 0
    best = jnp.full(runs, jnp.min(problem.score(known_values), initial=jnp.inf), float_dtype())
    best = best if earlier is None else jnp.minimum(best, earlier[1])
    return Carry(
        evaluations=jnp.int32(spent),
        state=state,
        begin=jnp.int32(spent),
        values=jnp.full((rows, runs, *problem.value_shape), jnp.inf, float_dtype()),
        points=jnp.zeros((kept, runs, problem.space.dimension), known_x.dtype),
        used=jnp.full(runs, spent, jnp.int32),
        since=jnp.zeros(runs, jnp.int32),
        best=best,
        running=~(best <= target),
        key=lift(evaluation_key)(keys),
    )


@kept_with_loss
def programs_of(fun: Callable[[], Callable]) -> Callable[[Problem, bool], DevicePrograms]:
    @lru_cache(PROGRAMS)
    def of(problem: Problem, stops: bool) -> DevicePrograms:
        def advance(*inputs):
            return _steps(problem._replace(fun=fun()), stops, *inputs)

        def evaluate_known(x, args, key):
            keys = _keys(jnp.arange(len(x)), evaluation_key(key)) if problem.with_key else None
            values = _evaluate(problem._replace(fun=fun()), x, args, keys)
            return _or_inf(True, values, problem)

        def evaluate_again(*inputs):
            return _evaluate_again(problem._replace(fun=fun()), *inputs)

        return DevicePrograms(
            jax.jit(advance, donate_argnums=0),
            jax.jit(advance),
            jax.jit(evaluate_known),
            jax.jit(evaluate_again, static_argnums=0),
        )

    return of


def _steps(problem: Problem, stops: bool, carry: Carry, until, args, target, patience) -> Carry:
    """Continues to `until` evaluations of each run, or until all runs have stopped."""

    def more(carry: Carry):
        return (carry.evaluations < until) & jnp.any(carry.running)

    def step(carry: Carry):
        x, told, state = _ask_and_tell(problem, carry, args)
        if stops and problem.runs > 1:
            state = jax.tree.map(partial(_where, carry.running), state, carry.state)
        carry = _record(problem, carry, state, x, told)
        if not stops:
            return carry
        goes_on = ~(carry.best <= target) & ~(carry.since >= patience)
        return carry._replace(running=carry.running & goes_on)

    return lax.while_loop(more, step, carry)


def _ask_and_tell(problem: Problem, carry: Carry, args):
    """One batch of each run: points (runs, batch, d), values (runs, batch), the next state."""
    space, algorithm, runs = problem.space, problem.algorithm, problem.runs
    batch = algorithm.batch_size
    lift = (lambda f: f) if runs == 1 else jax.vmap
    x, state = lift(partial(algorithm.ask, space))(carry.state)
    numbers = carry.evaluations + jnp.arange(batch, dtype=jnp.int32)
    keys = None
    if problem.with_key:
        keys = lift(partial(_keys, numbers))(carry.key).reshape(-1)
    values = _evaluate(problem, x.reshape(runs * batch, -1), args, keys)
    values = values.reshape(runs, batch, *problem.value_shape)
    # The last batch is told and counted only as far as the budget goes.
    allowed = (numbers < problem.budget)[None]
    told = _or_inf(allowed, values, problem)
    state = lift(partial(algorithm.tell, space))(state, x, told if runs > 1 else told[0])
    return x.reshape(runs, batch, -1), told, state


def _or_inf(allowed, values, problem: Problem):
    """Values (..., *value_shape), inf where they are not allowed or an objective is not finite."""
    if not problem.value_shape:
        return jnp.where(allowed & jnp.isfinite(values), values, jnp.inf)
    usable = allowed & jnp.all(jnp.isfinite(values), axis=-1)
    return jnp.where(usable[..., None], values, jnp.inf)


def _keys(numbers, key):
    """A key for each evaluation, from its number in the run, as on the host."""
    return jax.vmap(partial(jax.random.fold_in, key))(numbers)


def _evaluate(problem: Problem, x, args, keys):
    """Values (n, *value_shape) of encoded points (n, d). `keys` (n,) are for functions with a key."""

    def objective(x, key):
        extra = {"key": key} if problem.with_key else {}
        value = problem.fun(problem.space.decode(x), *args, **extra)
        return problem.signed(traced_values(value, problem.value_shape).astype(float_dtype()))

    if not problem.with_key and len(x) == 1:
        return objective(x[0], None)[None]
    with unbatchable(
        "zojax evaluates several points at once: pass jit=False, which calls fun for one at a time."
    ):
        return jax.vmap(objective)(x, keys)


def type_of_values(problem: Problem, args) -> np.dtype:
    """The dtype that a function without keys returns when it is compiled."""
    x = jax.ShapeDtypeStruct((problem.space.dimension,), float_dtype())
    return jax.eval_shape(lambda x: problem.fun(problem.space.decode(x), *args), x).dtype


def _evaluate_again(problem: Problem, batches: int, x, used, first, args, key):
    """Values (runs, batches * batch_size) of one point per run, x (runs, d), batch after batch.

    `used` (runs,) evaluations and `first` such batches came before.
    """
    runs, batch = problem.runs, problem.algorithm.batch_size
    rows = jnp.repeat(x, batch, axis=0)

    def more(carry):
        return carry[0] < batches

    def step(carry):  # the key is part of the carry: a scan would reuse it in every step
        i, key, values = carry
        keys = None
        if problem.with_key:
            later = (first + i) * batch + jnp.arange(batch, dtype=jnp.int32)
            keys = jax.vmap(_keys)(used[:, None] + later[None], key.reshape(runs)).reshape(-1)
        new = _evaluate(problem, rows, args, keys).reshape(runs, batch)
        return i + 1, key, lax.dynamic_update_index_in_dim(values, new, i, 0)

    values = jnp.zeros((batches, runs, batch), float_dtype())
    values = lax.while_loop(more, step, (jnp.int32(0), key, values))[2]
    values = jnp.moveaxis(values, 0, 1).reshape(runs, -1)
    return jnp.where(jnp.isfinite(values), values, jnp.inf)


def _record(problem: Problem, carry: Carry, state, x, told) -> Carry:
    """Enters a batch into the histories, which have room beyond the budget."""
    told = _where(carry.running, told, jnp.inf)
    lowest = jnp.min(problem.score(told).reshape(len(told), -1), axis=1)
    done = jnp.minimum(carry.evaluations + told.shape[1], problem.budget)
    row = carry.evaluations - carry.begin
    points = carry.points
    if len(points):
        points = lax.dynamic_update_slice_in_dim(points, jnp.swapaxes(x, 0, 1), row, 0)
    return carry._replace(
        evaluations=done,
        state=state,
        values=lax.dynamic_update_slice_in_dim(carry.values, jnp.swapaxes(told, 0, 1), row, 0),
        points=points,
        used=jnp.where(carry.running, done, carry.used),
        since=jnp.where(lowest < carry.best, 0, carry.since + done - carry.evaluations),
        best=jnp.minimum(lowest, carry.best),
    )


def _where(running, new, old):
    """`new` (runs, ...) in the runs that go on, else `old`."""
    return jnp.where(running.reshape(running.shape + (1,) * (new.ndim - 1)), new, old)


def recommendations(problem: Problem, state) -> tuple[np.ndarray, np.ndarray]:
    """The recommendation of each run: points (runs, d), values (runs,); or the fronts of all runs."""
    best: Any = problem.algorithm.best
    x, value = _best(best, problem.runs)(state)
    rows = np.asarray(x).reshape(-1, problem.space.dimension)
    shape = problem.value_shape if problem.is_front else ()
    return rows, np.asarray(value, float).reshape(-1, *shape)


@lru_cache(PROGRAMS)
def _best(best: Any, runs: int) -> Callable:
    # A new function, because JAX keeps the programs of `best` as long as the algorithm lives.
    return jax.jit(partial(best) if runs == 1 else jax.vmap(best))
