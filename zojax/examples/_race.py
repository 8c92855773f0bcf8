"""A race of methods: equal evaluations, one grid of learning rates, chosen on validation data."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax import lm
from zojax.examples import _mlp
from zojax.examples._digits import shuffled_digits
from zojax.examples._methods import Make, evaluations

RATES = tuple(10.0 ** (k / 2) for k in range(-10, 1))  # 1e-5 to 1


class Work(NamedTuple):
    """A loss with its data. Functions are traced.

    Give large arrays to a function by `jax.tree_util.Partial`. They become arguments of the program;
    XLA copies the constants of a closure several times.
    """

    init: Callable[[jax.Array], Any]  # key -> params
    loss: Callable[..., jax.Array]  # (params, batch) -> scalar
    batch: Callable[[jax.Array], Any]  # key -> batch
    validation: Callable[[Any], jax.Array]  # params -> loss
    test: Callable[[Any], jax.Array]
    mu: float  # smoothing radius of all methods


class Runs(NamedTuple):
    """Losses of the runs of a method, one for each learning rate and seed."""

    evaluations: np.ndarray  # (points,)
    validation: np.ndarray  # (rates, seeds, points)
    test: np.ndarray  # (rates, seeds)

    def best(self) -> int:
        """The index of the rate with the lowest mean validation loss at the end."""
        ends = self.validation[:, :, -1].mean(axis=1)
        return int(np.argmin(np.where(np.isfinite(ends), ends, np.inf)))

    @property
    def curve(self) -> np.ndarray:
        """Mean validation losses of the best rate, `(points,)`."""
        return self.validation[self.best()].mean(axis=0)


def reached(evaluations: Sequence[int], curve: Sequence[float], loss: float) -> int | None:
    """Evaluations until a curve is at most `loss`; None if it never is."""
    return next((n for n, x in zip(evaluations, curve, strict=True) if x <= loss), None)


def race(
    work: Work,
    make: Make,
    budget: int,
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = range(5),
    points: int = 20,
) -> Runs:
    """Trains with every rate and seed side by side, in one program. Rates decay to 0 by a cosine.

    A run has `budget` evaluations of the loss, or less, for equally many steps between all points.
    """
    price = evaluations(make)
    steps = max(1, budget // price // points)
    # One axis of runs and not two: products of more than seven axes end the process on a CPU.
    shape = len(rates), len(seeds)
    runs = jnp.repeat(jnp.asarray(rates), shape[1]), jnp.tile(jnp.asarray(seeds), shape[0])
    leaves, structure = jax.tree.flatten(work)
    arrays = [leaf if isinstance(leaf, jax.Array) else None for leaf in leaves]

    @jax.jit
    def train(arrays, *runs):
        pairs = zip(leaves, arrays, strict=True)
        again = structure.unflatten([leaf if a is None else a for leaf, a in pairs])
        return jax.vmap(_training(again, make, steps, points))(*runs)

    validation, test = train(arrays, *runs)
    at = np.arange(points + 1) * steps * price
    return Runs(at, np.reshape(validation, (*shape, -1)), np.reshape(test, shape))


def _training(work: Work, make: Make, steps: int, points: int):
    """`(rate, seed) -> (validation losses (points + 1,), test loss ())`."""
    decay = optax.cosine_decay_schedule(1.0, steps * points)

    def training(rate, seed):
        init_key, data_key, key = jax.random.split(jax.random.key(seed), 3)
        params = work.init(init_key)
        tx = make(work.mu, key)

        def step(carry, i):
            params, state = carry
            extras = {"batch": work.batch(jax.random.fold_in(data_key, i))}
            updates, state = tx.update(None, state, params, value_fn=work.loss, **extras)
            scaled = jax.tree.map(lambda u: rate * decay(i) * u, updates)
            return (optax.apply_updates(params, scaled), state), None

        def part(carry, i):
            carry, _ = jax.lax.scan(step, carry, i * steps + jnp.arange(steps))
            return carry, work.validation(carry[0])

        first = work.validation(params)
        (params, _), losses = jax.lax.scan(part, (params, tx.init(params)), jnp.arange(points))
        return jnp.concatenate([first[None], losses]), work.test(params)

    return training


def state_per_parameter(work: Work, make: Make) -> float:
    """Numbers that a method keeps between steps, for each parameter."""
    params = jax.eval_shape(work.init, jax.random.key(0))
    state = jax.eval_shape(make(work.mu, jax.random.key(0)).init, params)
    numbers, parameters = (sum(x.size for x in jax.tree.leaves(t)) for t in (state, params))
    return numbers / parameters


def on_data(init: Callable, loss: Callable, parts: Sequence, batch: int, mu: float) -> Work:
    """The work of a loss `(params, batch) -> scalar` on test, validation and training data."""
    test, validation, train = parts
    on = lambda part: lambda params: loss(params, part)  # noqa: E731
    return Work(init, loss, lambda key: drawn(key, train, batch), on(validation), on(test), mu)


def nll(params: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy of the network, in nats."""
    return lm.mean_nll(_mlp.forward(params, x), labels)


def digits(
    mu: float = 1e-3, batch: int = 64, loss: Callable = nll, widths: Sequence[int] = (64, 32, 10)
) -> Work:
    """Scikit-learn's digits with a network of these widths, and `loss(params, x, labels)`.

    400 are for the test, 200 for validation.
    """
    images, labels = (np.split(part, (400, 600)) for part in shuffled_digits())
    parts = [(jnp.asarray(x), jnp.asarray(y)) for x, y in zip(images, labels, strict=True)]
    init = lambda key: _mlp.init(key, widths)  # noqa: E731
    return on_data(init, lambda params, batch: loss(params, *batch), parts, batch, mu)


def drawn(key: jax.Array, part: Any, count: int) -> Any:
    """Random rows of a tree of arrays, with replacement."""
    rows = jax.random.randint(key, (count,), 0, len(jax.tree.leaves(part)[0]))
    return jax.tree.map(lambda leaf: leaf[rows], part)
