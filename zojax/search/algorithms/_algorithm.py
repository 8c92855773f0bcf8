"""What a search algorithm is: three pure functions over encoded points, and what several share."""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._numerics import float_dtype, promoting
from zojax.search.spaces import Space


class Algorithm(NamedTuple):
    """A derivative-free search, as in optax a NamedTuple of pure functions.

        state = algorithm.init(key, space, budget)
        x, state = algorithm.ask(space, state)            # encoded points, (batch_size, d)
        state = algorithm.tell(space, state, x, values)   # values (batch_size,), lower is better
        x, value = algorithm.best(state)

    States are pytrees of arrays: they can be saved, vmapped and carried through `lax.while_loop`.

    Attributes:
      init: (key, space, budget) -> state. The budget is a Python int and decides sizes.
      ask: (space, state) -> (x, state), `batch_size` points inside the space.
      tell: (space, state, x, values) -> state. Values are finite or +inf.
      best: state -> (x, value), the recommendation so far.
      inject: (space, state, x, value) -> state, takes over a point that was evaluated elsewhere.
      batch_size: points of one ask.
      in_flight: how many asks may be open at once; above 1, tells come in any order.
      runs_together: whether several runs are best vmapped; algorithms that branch a lot run one after
        the other, since under vmap every branch is computed.
      repeats_points: whether asking for a point again is meant (noise), so that its value is not reused.
      stays_inside: whether all points are of the space; `poss` asks for larger subsets, too.
      samples: evaluations of which a value that `inject` takes is the mean; `resample` has several.
    """

    init: Callable[[jax.Array, Space, int], Any]
    ask: Callable[[Space, Any], tuple[jax.Array, Any]]
    tell: Callable[[Space, Any, jax.Array, jax.Array], Any]
    best: Callable[[Any], tuple[jax.Array, jax.Array]]
    inject: Callable[[Space, Any, jax.Array, jax.Array], Any]
    batch_size: int = 1
    in_flight: int = 1
    repeats_points: bool = False
    stays_inside: bool = True
    samples: int = 1
    runs_together: bool = True


def reused(factory: Callable[..., Algorithm]) -> Callable[..., Algorithm]:
    """Equal settings give the same object, so that a program is compiled once for them."""

    def new(*args, **settings) -> Algorithm:
        return promoting_all(factory(*args, **settings))

    remembered = functools.lru_cache(maxsize=64, typed=True)(new)

    @functools.wraps(factory)
    def make(*args, **settings) -> Algorithm:
        # Arrays, which may be traced, have no hash.
        hashable = all(isinstance(s, Hashable) for s in (*args, *settings.values()))
        return (remembered if hashable else new)(*args, **settings)

    return make


def promoting_all(algorithm: Algorithm) -> Algorithm:
    """The algorithm, all of whose functions are `promoting`."""
    names = "init", "ask", "tell", "best", "inject"
    return algorithm._replace(**{name: promoting(getattr(algorithm, name)) for name in names})


def bounds_of(space: Space) -> tuple[jax.Array, jax.Array]:
    """The encoded lower and upper bounds, (d,) each."""
    return jnp.asarray(space.low, float_dtype()), jnp.asarray(space.high, float_dtype())


def span_of(space: Space) -> jax.Array:
    """The width of each coordinate's range, (d,); never zero."""
    return jnp.asarray(np.maximum(space.high - space.low, 1e-30), float_dtype())


def where(condition: jax.Array, a, b):
    """One of two pytrees of equal types: `jnp.where` makes a program within the program of every leaf."""
    return jax.tree.map(lambda x, y: x if x is y else jax.lax.select(condition, x, y), a, b)


def keep_best(state, x: jax.Array, value: jax.Array):
    """`state` with the point as its `x` and `value`, if it is better than what they are."""
    better = value < state.value
    return state._replace(
        x=jnp.where(better, x, state.x), value=jnp.where(better, value, state.value)
    )


def recommended(state) -> tuple[jax.Array, jax.Array]:
    """The `x` and `value` of a state: what `keep_best` has kept."""
    return state.x, state.value


def sequential(tell_one: Callable) -> Callable:
    """A tell for one point made into one for an array of points with a single row."""

    def tell(space, state, x, values):
        return tell_one(space, state, x[0], values[0])

    return tell
