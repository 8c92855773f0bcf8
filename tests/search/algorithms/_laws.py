"""The law table of search algorithms: one row for every public algorithm, and a run of each."""

from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests._numpy import by_numpy
from zojax import search
from zojax.search.spaces import ORDERED


@dataclass(frozen=True)
class Die(search.Domain):
    """A user's own domain, whose coordinates begin at 3."""

    low = 3
    high = 6
    kind = ORDERED

    def decode(self, x):
        return x.astype(int)

    def encode(self, value):
        return np.asarray(value, float)


MIXED = search.space(
    {
        "x": search.uniform(-1, 2, (2,)),
        "rate": search.log_uniform(1e-3, 1),
        "width": search.log_integers(1, 64),
        "layers": search.integers(0, 9),
        "kind": search.choice([1, 2, 3]),
        "level": search.ordered([0.1, 0.2, 0.5]),
        "own": Die(),
    }
)
CONTINUUM = search.space({"x": search.uniform(-1, 2, (5,)), "rate": search.log_uniform(1e-3, 1)})
FLAGS, KINDS = search.choice([0, 1], (5,)), search.choice([1, 2, 3], (6,))
RATE = search.ordered([0.001, 0.01, 0.1, 1.0])
DISCRETE = search.space({"flags": FLAGS, "kinds": KINDS, "rate": RATE})
SUBSETS = search.space(search.subset(40, max_size=3))
WIDE = search.space({"x": search.uniform(-1, 2, (40,)), "rate": search.log_uniform(1e-3, 1)})
STEPS, BUDGET = 20, 60


class Row(NamedTuple):
    """An algorithm, a space for it, and the laws that it is excused from."""

    algorithm: search.Algorithm
    space: search.Space
    is_monotone: bool = True  # the recommended value never rises; a mean of new values may
    has_lowest: bool = True  # and it is the lowest value so far
    amplifies: bool = False  # rounding, by small differences, so that vmap needs float64


# One row for each public algorithm. A second row for the same one has a label after a colon.
ALGORITHMS = {
    "random_search": Row(search.random_search(3), MIXED),
    "coordinate_reset": Row(search.coordinate_reset(), MIXED),
    "coordinate_search": Row(search.coordinate_search(), MIXED),
    "racos": Row(search.racos(), MIXED),
    "sracos": Row(search.sracos(), MIXED),
    "sracos:continuum": Row(search.sracos(replacement="margin", parity=True), CONTINUUM),
    "sracos:region": Row(search.sracos(shrinking=0.5, frequency=0.3), MIXED),
    "asracos": Row(search.asracos(in_flight=3), MIXED),
    "ssracos": Row(search.ssracos(times=3, idle=4, num_positives=2), CONTINUUM, is_monotone=False),
    "resample": Row(search.resample(search.coordinate_reset(), 4), MIXED, has_lowest=False),
    "turbo": Row(search.turbo(4), MIXED, amplifies=True),
    "iterated_local_search": Row(search.iterated_local_search(), DISCRETE),
    "quadratic_model": Row(search.quadratic_model(batch_size=3), MIXED, amplifies=True),
    "quasi_newton": Row(search.quasi_newton(), MIXED, amplifies=True),
    "snes": Row(search.snes(), MIXED, is_monotone=False),
    "cma_es": Row(search.cma_es(), MIXED, amplifies=True),
    "cma_es:noisy": Row(search.cma_es(noisy=True), MIXED, is_monotone=False),
    "portfolio": Row(search.portfolio(), MIXED, amplifies=True),
    "portfolio:small": Row(
        search.portfolio(
            search.random_search(), search.coordinate_reset(), noisy=search.random_search()
        ),
        CONTINUUM,
    ),
    "default_algorithm": Row(search.default_algorithm(WIDE, BUDGET), WIDE),
    "sre": Row(search.sre(search.coordinate_reset(), low_dimension=3), CONTINUUM),
    # A larger set may be better than the allowed ones.
    "poss": Row(search.poss(), SUBSETS, has_lowest=False),
    "pposs": Row(search.pposs(3), SUBSETS, has_lowest=False),
    "ponss": Row(search.ponss(0.1, 2), SUBSETS, is_monotone=False),
    "nsga2": Row(search.nsga2(2, population_size=6, batch_size=2), MIXED, is_monotone=False),
    "from_evosax:distribution": Row(search.from_evosax("SNES", 6), CONTINUUM),
    "from_evosax:population": Row(search.from_evosax("DifferentialEvolution", 6), CONTINUUM),
}


def value_of(space, x):
    """The distance from a point inside, in units of the range; a tenth of the space has no value."""
    low, span = jnp.asarray(space.low), jnp.asarray(space.high - space.low)
    u = (x - low) / span
    value = jnp.sum(jnp.abs(u - 0.3))
    return jnp.where(u[0] > 0.9, jnp.inf, value) if space is not SUBSETS else value


def values_of(algorithm, space, x):
    """`value_of`, or as many objectives, the distances from different points."""
    if algorithm.objectives == 1:
        return value_of(space, x)
    shifts = jnp.arange(algorithm.objectives) / 10
    span = jnp.asarray(space.high - space.low)
    return jnp.stack([value_of(space, x - shift * span) for shift in shifts])


def strong(tree):
    """Without weak types: a state that was asked and told has the types of the first one."""

    def one(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if is_key else jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(one, tree)


@cache
def step_of(algorithm, space):
    """(state) -> (the state after an ask and a tell, what happened)."""

    def step(state):
        x, state = algorithm.ask(space, state)
        values = jax.vmap(partial(values_of, algorithm, space))(x)
        state = algorithm.tell(space, state, x, values)
        return strong(state), (x, values, algorithm.best(state))

    return step


@partial(jax.jit, static_argnums=(0, 1))
def compiled_run(algorithm, space, state):
    """Some steps in one program."""
    step = step_of(algorithm, space)
    return jax.lax.scan(lambda state, _: step(state), state, None, STEPS)


@cache
def _numpy_step(algorithm, space):
    return by_numpy(step_of(algorithm, space))


def run(algorithm, space, state):
    """The same steps one by one, without a compiled program if NumPy has all operations."""
    happened = []
    for _ in range(STEPS):
        state, now = _numpy_step(algorithm, space)(state)
        happened.append(now)
    return state, jax.tree.map(lambda *rows: jnp.stack(rows), *happened)


def first_state(name, key):
    algorithm, space, *_ = ALGORITHMS[name]
    return strong(algorithm.init(key, space, BUDGET))


@cache
def started(name, seed=0, x64=False):
    """The first state of a run with this seed."""
    return by_numpy(partial(first_state, name))(jax.random.key(seed))
