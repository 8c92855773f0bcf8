"""Formulas written out in NumPy, for the directions that a transformation draws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def bowl(x):
    return x @ (jnp.array([1.0, 10.0]).astype(x.dtype) * x) / 2


def steps_from(start, transformations, fun=bowl):
    """The parameters after one step of each transformation; they share their state."""
    params = start
    state = transformations[0].init(params)
    for tx in transformations:
        updates, state = tx.update(None, state, params, value_fn=fun)
        params = optax.apply_updates(params, updates)
        yield params


def drawn(direction, tx_key, step, num_directions, x):
    """The z of a step, shape (num_directions, d): the noise key is the step's own."""
    noise_key = jax.random.fold_in(tx_key, step)
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    frame = direction.frame(noise_key, num_directions, like)
    return np.stack(
        [
            np.asarray(direction.draw(frame, i, like).dense(), np.float64)
            for i in range(num_directions)
        ]
    )


def tilted(x):
    """Neither even nor quadratic, so that every term of a formula shows."""
    return jnp.sum(jnp.sin(x) + jnp.arange(1.0, 5.0) * x**2)


def values(x):
    return float(np.sum(np.sin(x) + np.arange(1.0, 5.0) * x**2))


X = np.array([0.3, -0.7, 1.1, 0.2])
KEY = jax.random.key(11)
MU = 0.05


def central(x, z, mu):
    c = [(values(x + mu * zi) - values(x - mu * zi)) / (2 * mu) for zi in z]
    return np.mean(c * z.T, axis=1)


def by_hand(rule, direction, num_directions=1, mu=lambda t: MU, gradient=central):
    """Three steps of x, memory = rule(x, g, t, memory)."""
    x, memory, trail = X, None, []
    for t in range(3):
        z = drawn(direction, KEY, t, num_directions, jnp.asarray(X))
        x, memory = rule(x, gradient(x, z, mu(t)), t, memory)
        trail.append(x)
    return trail


def assert_steps_equal(tx, trail, tolerance=1e-5):
    actual = list(steps_from(jnp.asarray(X), [tx] * len(trail), tilted))
    np.testing.assert_allclose(actual, trail, rtol=tolerance)
