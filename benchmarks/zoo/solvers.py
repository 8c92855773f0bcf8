"""Differential and algebraic equations whose right-hand side is a network: diffrax, optimistix, lineax."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import optimistix

from benchmarks.models import Model
from benchmarks.zoo.data import KEY, normal
from benchmarks.zoo.equinox import of

WIDTH = 64
KEYS = jax.random.split(KEY, 4)


def _field(**options):
    return eqx.nn.MLP(WIDTH, WIDTH, 128, 1, jnp.tanh, key=KEYS[0], **options)


def neural_ode() -> Model:
    """diffeqsolve with Tsit5 and adaptive steps."""

    def apply(field, x):
        def solve(y):
            term, options = diffrax.ODETerm(lambda t, y, args: field(y)), {"dt0": 0.1, "y0": y}
            steps = diffrax.PIDController(rtol=1e-3, atol=1e-3)
            solver = diffrax.Tsit5()
            found = diffrax.diffeqsolve(term, solver, 0, 1, stepsize_controller=steps, **options)
            return found.ys[0]

        return jax.vmap(solve)(x)

    return of(_field(), normal(8, WIDTH), apply)


def neural_sde() -> Model:
    """diffeqsolve with Euler steps and additive noise of a network."""
    noise = eqx.nn.Linear(WIDTH, WIDTH, key=KEYS[1])

    def apply(fields, x):
        drift, diffusion = fields
        path = diffrax.UnsafeBrownianPath((WIDTH,), KEYS[2])

        def solve(y):
            terms = diffrax.MultiTerm(
                diffrax.ODETerm(lambda t, y, args: drift(y)),
                diffrax.ControlTerm(lambda t, y, args: jnp.diag(0.1 * diffusion(y)), path),
            )
            adjoint = diffrax.DirectAdjoint()
            return diffrax.diffeqsolve(terms, diffrax.Euler(), 0, 1, 0.1, y, adjoint=adjoint).ys[0]

        return jax.vmap(solve)(x)

    return of((_field(), noise), normal(8, WIDTH), apply)


def fixed_point() -> Model:
    """A deep equilibrium model: optimistix.fixed_point of a layer."""
    layer = eqx.nn.Linear(WIDTH, WIDTH, key=KEYS[0])

    def apply(layer, x):
        def solve(y):
            solver = optimistix.FixedPointIteration(rtol=1e-5, atol=1e-5)
            step = lambda z, args: jnp.tanh(0.5 * layer(z) + args)  # noqa: E731
            return optimistix.fixed_point(step, solver, jnp.zeros(WIDTH), y, max_steps=64).value

        return jax.vmap(solve)(x)

    return of(layer, normal(8, WIDTH), apply)


def linear_solve() -> Model:
    """lineax.linear_solve with a matrix of parameters."""
    layer = eqx.nn.Linear(WIDTH, WIDTH, key=KEYS[0])

    def apply(layer, x):
        matrix = jnp.eye(WIDTH) + 0.3 * layer.weight
        operator = lineax.MatrixLinearOperator(matrix)
        return jax.vmap(lambda y: lineax.linear_solve(operator, layer.bias + y).value)(x)

    return of(layer, normal(8, WIDTH), apply)
