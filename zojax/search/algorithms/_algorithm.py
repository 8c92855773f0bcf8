"""The contract of a search algorithm: five pure functions over encoded points."""

from typing import Any, NamedTuple, Protocol

import jax

from zojax.search.spaces import Space

State = Any  # a pytree of arrays, of the algorithm's own type


class InitFn(Protocol):
    def __call__(self, key: jax.Array, space: Space, budget: int, /) -> State:
        """The first state. The budget is a Python int and may set sizes of arrays."""


class AskFn(Protocol):
    def __call__(self, space: Space, state: State, /) -> tuple[jax.Array, State]:
        """`batch_size` points inside the space, encoded, (batch_size, d); and the next state."""


class TellFn(Protocol):
    def __call__(self, space: Space, state: State, x: jax.Array, values: jax.Array, /) -> State:
        """The state after the values (batch_size,) of asked points x. A failed evaluation is +inf."""


class BestFn(Protocol):
    def __call__(self, state: State, /) -> tuple[jax.Array, jax.Array]:
        """The recommended point (d,) and its value ()."""


class InjectFn(Protocol):
    def __call__(self, space: Space, state: State, x: jax.Array, value: jax.Array, /) -> State:
        """The state after a point (d,) that was evaluated elsewhere."""


class ForgetFn(Protocol):
    def __call__(self, state: State, /) -> State:
        """The state without values of points, because the function changed. Its learnt shape may stay."""


class Algorithm(NamedTuple):
    """A derivative-free search: a NamedTuple of pure functions, as in optax. Lower values are better.

        state = algorithm.init(key, space, budget)
        x, state = algorithm.ask(space, state)            # encoded points, (batch_size, d)
        state = algorithm.tell(space, state, x, values)   # values (batch_size,), finite or +inf
        x, value = algorithm.best(state)

    States are pytrees of arrays: you can save them, vmap over them and carry them through `lax.while_loop`.

    Attributes:
      init: (key, space, budget) -> state. The budget is a Python int and may set sizes of arrays.
      ask: (space, state) -> (x, state), with `batch_size` points inside the space.
      tell: (space, state, x, values) -> state.
      best: state -> (x, value), the recommendation so far.
      inject: (space, state, x, value) -> state, after a point (d,) that was evaluated elsewhere.
      batch_size: points of one ask.
      in_flight: how many asks may be open at once. Above 1, tells come in any order.
      repeats_points: True for noisy functions: the same point may be evaluated again.
      stays_inside: whether all points belong to the space. `poss` asks for larger subsets, too.
      samples: evaluations behind the value of an injected point. `resample` averages several.
      runs_together: whether `vmap` over runs pays. It computes every branch, so an algorithm with many
        branches runs once after the other.
      objectives: values of an evaluation. Above 1, `values` is (batch_size, objectives), an injected value
        (objectives,), and a failed evaluation +inf in all of them. `best` is then the front so far, points
        (n, d) and values (n, objectives), with inf in the rows outside it.
      forget: state -> state without values, after which the function may change. With it, constraints enter
        in an augmented Lagrangian; without, by rules.
      name: the call that made it, such as "sracos(exploration=0.1)".
    """

    init: InitFn
    ask: AskFn
    tell: TellFn
    best: BestFn
    inject: InjectFn
    batch_size: int = 1
    in_flight: int = 1
    repeats_points: bool = False
    stays_inside: bool = True
    samples: int = 1
    runs_together: bool = True
    objectives: int = 1
    forget: ForgetFn | None = None
    name: str = ""

    @property
    def value_shape(self) -> tuple[int, ...]:
        """The shape of one value: () for one objective, else (objectives,)."""
        return () if self.objectives == 1 else (self.objectives,)


def require_algorithm(name: str, value: Any) -> Algorithm:
    """The algorithm, or a TypeError that names the argument."""
    if not isinstance(value, Algorithm):
        raise TypeError(f"{name} must be one of zojax.search, such as sracos(), got {value!r}.")
    return value
