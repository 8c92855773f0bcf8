"""QES = moves by whole numbers x one point x standardised values, then moves with error feedback."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax import implicit, noise, stencils
from zojax import shaping as shapings
from zojax._checks import require_count, require_positive, require_rate
from zojax._estimator import estimator
from zojax._numerics import promoting
from zojax._transform import ZerothOrder, ZerothOrderState, around, zeroth_order
from zojax._trees import PyTree, no_update
from zojax.directions import rademacher
from zojax.directions._independent import of_leaves
from zojax.optimizers._shared import Scheduled, documented, is_named, without_points
from zojax.shaping import Shaping

_RESIDUAL = 1.5  # the largest
_AT_ONCE = 2**18  # bytes whose residuals exist together
_ANCHOR = np.zeros((), np.float32)  # the steps of the inner transformation, whose scalars count


class _Past(NamedTuple):
    """`inner_state`: the coefficients of the last steps, and their numbers in the run, the latest first."""

    coefficients: jax.Array
    steps: jax.Array
    inner_state: optax.OptState


@documented
def qes(
    learning_rate: Scheduled | None = None,
    sigma: float = 1e-3,
    population: int = 8,
    decay: float = 0.9,
    horizon: int = 50,
    shaping: Shaping | None = None,
    mask: Callable[[tuple, jax.ShapeDtypeStruct], bool] | None = None,
    batch_size: int | None = 1,
    key: int | jax.Array = 0,
) -> ZerothOrder:
    r"""Evolution strategies on the integers of quantised weights.

    .. math::
        \delta_i = \lfloor \sigma \epsilon_i + u_i \rfloor, \quad
        g = \frac{1}{P \sigma} \sum_i f_i \delta_i, \quad
        s = \gamma e - \alpha g, \quad
        q \leftarrow q + \mathrm{round}(s), \quad e \leftarrow s - \mathrm{round}(s)

    over a population of P, with f its standardised losses. A move that leaves the range of its integer is
    zero, in :math:`\delta` and in the step. The residual e is the rounding error, within 1.5. It is not
    stored: each step computes it again from the coefficients of the last K steps, at the current integers.

    A step is P evaluations, and makes the noise of (K + 1) P members again. With a small sigma few integers
    move twice within K steps: a short K then loses little, and saves most of this noise. The state is
    K (P + 1) scalars. A compiled step that adds its update to donated parameters moves the integers in
    place. Values cannot come from outside, as with `values=`.

    Independent evidence: none beyond its paper.

    Args:
      learning_rate: alpha, a float or a schedule; :math:`P \sigma` by default. A step makes the moves of
        the members with :math:`\alpha |f| > P \sigma / 2`, and those with high losses the other way. By
        default these are members with :math:`|f| > 1/2`. A smaller rate chooses fewer members.
      sigma: of the moves, in units of the integers. A member moves a share of 0.8 sigma of its integers.
        Values of members differ because of the slope of the loss. Its curvature raises their mean. Choose a
        sigma that raises the mean by at most twice their standard deviation: 1e-3 for the 135 million
        weights of SmolLM2, 1e-2 for a network of 2,400 weights.
      population: P, at least 2.
      decay: gamma.
      horizon: K.
      shaping: `shaping.standardize()` by default; `shaping.centered_ranks()` sees only the order.
      mask: `mask(path, leaf) -> bool`, which leaves move; by default those with the name `integers`, as in
        `zojax.lm.Quantized`. uint8 leaves have two entries of 4 bits in a byte, int8 leaves one of 8 bits.
        All other parameters stay as they are.
      batch_size: members evaluated at once; None: all.

    Raises:
      ValueError: no leaf that the mask selects, or a population of one.
      TypeError: a selected leaf that is neither uint8 nor int8.

    References:
      Xu, Miikkulainen and Qiu, `Quantized evolution strategies <https://arxiv.org/abs/2602.03120>`_, 2026.

    >>> import jax.numpy as jnp, zojax
    >>> params = {"integers": jnp.full((4, 8), 100, jnp.int8), "scales": jnp.full(8, 0.01)}
    >>> loss = lambda p: jnp.mean((p["integers"] * p["scales"]) ** 2)
    >>> tx = zojax.qes(sigma=0.5, population=16, horizon=4)
    >>> result = zojax.minimize(loss, params, tx, 20)
    >>> bool(jnp.mean(result.params["integers"]) < 100)
    True
    """
    require_positive("sigma", sigma)
    require_rate("decay", decay)
    n, horizon = require_count("population", population), require_count("horizon", horizon)
    rate = n * sigma if learning_rate is None else learning_rate
    require_rate("learning_rate", rate)
    if n < 2:
        raise ValueError(f"population must be at least 2, got {n}: values are compared.")
    source = estimator(
        rademacher(),
        stencils.one_point(),
        shapings.standardize() if shaping is None else shaping,
        mu=sigma,
        num_directions=n,
        batch_size=n if batch_size is None else batch_size,
        with_key=True,
    )
    rule = _Rule(
        rate, sigma, decay, horizon, partial(is_named, "integers") if mask is None else mask
    )
    source = without_points(source, "qes moves integers inside of its evaluations")
    # Its own parameter stays at zero: its loss moves the integers by the key of each member.
    tx = zeroth_order(optax.set_to_zero(), source, key)

    def init(params: PyTree) -> ZerothOrderState:
        _chosen(rule, params)
        state = tx.init(_ANCHOR)
        past = jnp.zeros((horizon, n), state.coefficients.dtype), jnp.zeros(horizon, jnp.int32)
        return state._replace(inner_state=_Past(*past, state.inner_state))

    loss, finished, check = partial(_moving, rule), partial(_finished, rule), partial(_chosen, rule)
    return around(tx, init, _Past, lambda params: _ANCHOR, loss, finished, check)


class _Rule(NamedTuple):
    """The arguments of `qes` that its step reads."""

    rate: Scheduled
    sigma: float
    decay: float
    horizon: int
    mask: Callable[[tuple, Any], bool]


def _chosen(rule: _Rule, params: PyTree) -> list[bool]:
    """Whether each leaf moves."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    found = [bool(rule.mask(path, leaf)) for path, leaf in leaves]
    for (path, leaf), moves in zip(leaves, found, strict=True):
        if moves and jnp.result_type(leaf) not in (jnp.uint8, jnp.int8):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} must be uint8 (two entries of 4 bits) or int8, "
                f"got {jnp.result_type(leaf)}; let mask leave it out."
            )
    if not any(found):
        raise ValueError(
            "mask selects no leaf to move: give integers the name 'integers', as zojax.lm.Quantized does, "
            "or give qes a mask."
        )
    return found


def _moving(rule: _Rule, value_fn: Callable, params: PyTree) -> Callable:
    """The loss of a member, whose key moves the integers."""

    def moved(anchor, key, **extras):
        del anchor
        zs = _moves_of(rule, noise.make_seed(key), params)
        return implicit.evaluate(lambda p: value_fn(p, **extras), params, zs, jnp.float32(1))

    return moved


def _moves_of(rule: _Rule, seed: jax.Array, params: PyTree) -> PyTree:
    """The noise of one member: `LatticeNoise` at leaves that move, None at others."""

    def moves(own, leaf, is_chosen):
        return noise.lattice_noise(leaf, own, rule.sigma) if is_chosen else None

    return of_leaves(moves, seed, 0, params, _chosen(rule, params))


@promoting
def _finished(rule: _Rule, state, params, updates, after) -> tuple[PyTree, ZerothOrderState]:
    """The moves of a step, and the state with its coefficients; nothing where no value was finite."""
    del updates  # of the anchor
    c = jnp.where(jnp.isnan(after.coefficients), 0, after.coefficients)
    ok = ~jnp.all(jnp.isnan(after.coefficients))
    past = state.inner_state
    rows = jnp.concatenate([c[None], past.coefficients])
    steps = jnp.concatenate([state.count[None], past.steps])
    rates = jax.vmap(rule.rate)(steps) if callable(rule.rate) else jnp.full(len(steps), rule.rate)
    seeds = jax.vmap(partial(_seeds, state.rng_key, len(c)))(steps)
    # The oldest first, as they were taken.
    scaled = (rates[:, None] * rows).astype(jnp.float32)
    taken = scaled[::-1], seeds[::-1]
    treedef: Any
    leaves, treedef = jax.tree.flatten(params)
    updates = [
        _moves(rule, leaf, i, len(leaves), ok, *taken) if moves else no_update(leaf)
        for i, (leaf, moves) in enumerate(zip(leaves, _chosen(rule, params), strict=True))
    ]
    new = _Past(rows[:-1], steps[:-1], after.inner_state)
    kept = jax.tree.map(partial(jnp.where, ok), new, past._replace(inner_state=after.inner_state))
    return jax.tree.unflatten(treedef, updates), after._replace(inner_state=kept)


def _seeds(key: jax.Array, n: int, step: jax.Array) -> jax.Array:
    """The seeds of the members of a step, as its losses got their keys."""
    of_losses = noise.fold_in(noise.fold_in(key, step), np.uint32(2**32 - 1))
    return jax.vmap(lambda i: noise.make_seed(jax.random.fold_in(of_losses, i)))(jnp.arange(n))


def _moves(rule: _Rule, leaf, number: int, count: int, ok, scaled, seeds) -> jax.Array:
    """What to add to the bytes of a leaf, modulo 256; some rows at a time.

    The loop writes new bytes into the leaf. XLA cancels leaf + (new - leaf): a step that adds the update to
    donated parameters moves them in place.
    """
    width = leaf.shape[-1] if leaf.ndim else 1
    rows = jnp.reshape(leaf, (-1, width))
    like = noise.lattice_noise(leaf, seeds[0, 0], rule.sigma)

    oldest = jnp.argmax(jnp.any(scaled != 0, axis=1))  # before it no step was taken
    less = partial(jax.tree.map, jnp.subtract)

    def of_row(row, values):
        entries = noise.entries_of(values, like.bits)

        def member(totals, c_and_seed):
            c, seed = c_and_seed
            own = noise.child_seeds(seed, 0, count)[number]
            moves = noise.Moves(own, rule.sigma, like.bits).rows(row, width)
            after = noise.moved(entries, noise.digits_of(moves, like.bits), leaf.dtype)
            return [t + c * m for t, m in zip(totals, less(after, entries), strict=True)], None

        def step(i, carry):
            residuals, _ = carry
            g, _ = jax.lax.scan(member, zeros, (scaled[i], seeds[i]))
            wanted = less([rule.decay * e for e in residuals], g)
            after = noise.moved(entries, [jnp.round(s) for s in wanted], leaf.dtype)
            left = less(wanted, less(after, entries))
            return [jnp.clip(e, -_RESIDUAL, _RESIDUAL) for e in left], after

        zeros = [jnp.zeros_like(part) for part in entries]
        _, after = jax.lax.fori_loop(oldest, len(scaled), step, (zeros, entries))
        return jnp.where(ok, noise.bytes_of(after, leaf.dtype), values)

    most = max(1, min(len(rows), _AT_ONCE // width))
    # A rest would copy the leaf.
    at_once = next(n for n in range(most, 0, -1) if len(rows) % n == 0)

    def write(i, rows):
        numbers = jnp.uint32(i * at_once) + jnp.arange(at_once, dtype=jnp.uint32)
        block = jax.lax.dynamic_slice_in_dim(rows, i * at_once, at_once)
        moved = jax.vmap(of_row)(numbers, block)
        return jax.lax.dynamic_update_slice_in_dim(rows, moved, i * at_once, 0)

    new = jax.lax.fori_loop(0, len(rows) // at_once, write, rows)
    return jnp.reshape(new, leaf.shape) - leaf
