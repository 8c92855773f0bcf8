"""Searches of zojax: a step is one run from the next seed, in a compiled program where JAX can trace it."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contestants.search import on_host, seeds
from benchmarks.contestants.searches import Played
from benchmarks.problems import Box, Problem
from zojax import search

DOMAINS = {
    "c": search.uniform,
    "i": lambda low, high, shape: search.integers(int(low), int(high), shape),
    "k": lambda low, high, shape: search.choice(range(int(high) + 1), shape),
}


def build(work, algorithm, workers=0, **settings):
    if workers:
        return seeds(work, on_host(work, partial(_minimize, workers, bool(work.noise))))
    kind = {"Problem": _problem, "Bbob": _bbob}
    run = kind.get(type(work).__name__, _host)(work, partial(make, algorithm, **settings))
    return seeds(work, run)


def _minimize(workers, noisy, fun, box, budget, seed):
    """The default of `search.minimize` on the host, in batches of as many points as workers."""
    space = space_of(box)
    algorithm = search.default_algorithm(space, budget, batch_size=workers, noisy=noisy)

    def value(point, key=None):
        del key  # the noise is the host's
        return fun(np.concatenate([point[part] for part in sorted(point)]))

    options = {"budget": budget, "key": seed, "jit": False, "with_key": noisy}
    best = search.minimize(value, space, algorithm, **options).best
    return np.concatenate([best[part] for part in sorted(best)])


def make(name, space, budget, resample=0, start=0, **settings) -> search.Algorithm:
    """An algorithm by name; `start` is of `_host` alone."""
    del start
    if name == "default" and not resample:
        return search.default_algorithm(space, budget)
    if name == "sre":
        return search.sre(search.sracos())
    algorithm = getattr(search, "portfolio" if name == "default" else name)(**settings)
    return search.resample(algorithm, resample) if resample else algorithm


def space_of(box: Box) -> search.Space:
    """The box as arrays of neighbours with one kind and one range."""
    rows = list(zip(box.kind, box.lo, box.hi, strict=True))
    parts = [(row, len(list(same))) for row, same in itertools.groupby(rows)]
    return search.space(
        {f"{i:03}": DOMAINS[row[0]](*row[1:], (n,)) for i, (row, n) in enumerate(parts)}
    )


def flatten(point: dict) -> jax.Array:
    """The user's point as the vector of the formulas."""
    return jnp.concatenate([1.0 * point[part] for part in sorted(point)])


def ask_and_tell(algorithm, space, budget, values_of, key):
    """Best values so far and the last state of one run; `values_of` takes encoded points and the step."""

    def step(carry, i):
        state, best = carry
        x, state = algorithm.ask(space, state)
        values = values_of(x, i)
        state = algorithm.tell(space, state, x, values)
        best = jnp.minimum(best, jax.lax.cummin(values))
        return (state, best[-1]), best

    start = algorithm.init(key, space, budget), jnp.asarray(jnp.inf)
    steps = jnp.arange(budget // algorithm.batch_size)
    (state, _), best = jax.lax.scan(step, start, steps)
    return best.reshape(-1), state


def _problem(problem: Problem, make):
    space = space_of(problem.box)
    algorithm = make(space, problem.budget)

    @jax.jit
    def run(key, shift):
        noise_key = jax.random.fold_in(key, 1)

        def values(points, i):
            decoded = jax.vmap(lambda x: flatten(space.decode(x)))(points)
            true = jax.vmap(lambda x: problem.formula(x, shift, jnp))(decoded)
            if not problem.noise:
                return true
            noise = jax.random.normal(jax.random.fold_in(noise_key, i), true.shape)
            return true + problem.noise * noise

        best, state = ask_and_tell(algorithm, space, problem.budget, values, key)
        return best, flatten(space.decode(algorithm.best(state)[0]))

    def seed(number):
        best, x = run(jax.random.key(number), jnp.asarray(problem.shift(number)))
        return Played(np.asarray(best, float), np.asarray(x, float))

    return seed


def _bbob(work, make):
    """All functions share one program: the function is an argument of it."""
    from benchmarks import bbob

    space = search.space(search.uniform(-5, 5, (work.dim,)))
    algorithm = make(space, work.budget)
    branches = [partial(bbob.value, name, work.dim) for name in bbob.FUNCTIONS]

    @jax.jit
    def run(which, key, params):
        def values(points, i):
            del i
            value = partial(jax.lax.switch, which, branches)
            return jnp.stack([value(space.decode(x), params) for x in points])

        return ask_and_tell(algorithm, space, work.budget, values, key)[0]

    def seed(number):
        instance, which = divmod(number, len(bbob.FUNCTIONS))
        with jax.enable_x64(True):
            params = bbob.instance(bbob.FUNCTIONS[which], work.dim, instance)
            best = np.asarray(run(which, jax.random.key(instance), params), float)
        return Played(best, np.zeros(work.dim))

    return seed


def _host(work, make):
    """Ask and tell with a function of the host, after `start` random candidates."""
    from benchmarks.tuning import SPACE

    start = make.keywords.get("start", 0)
    algorithm = make(SPACE, work.budget)
    steps = algorithm.ask, algorithm.tell, algorithm.inject
    ask, tell, inject = (jax.jit(step, static_argnums=0) for step in steps)

    def run(fun, box, budget, seed):
        key, start_key = jax.random.split(jax.random.key(seed))
        state = algorithm.init(key, SPACE, budget - start)
        for x in SPACE.sample(start_key, start) if start else ():
            state = inject(SPACE, state, x, jnp.float32(fun(x)))
        for _ in range(budget - start):
            x, state = ask(SPACE, state)
            state = tell(SPACE, state, x, jnp.float32([fun(x[0])]))
        return algorithm.best(state)[0]

    return on_host(work, run)
