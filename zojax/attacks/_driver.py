"""One driver for all attacks: rounds of propose, evaluate, update, until solved or out of budget.

An `Attack` is three pure functions of one image. The driver maps them over images, projects whatever
they propose onto the ball and the box before a model sees it, counts queries, and stops each image by
itself. The same functions serve a compiled loop (`run`) and a model that JAX cannot trace (`ask_tell`).

An image's random numbers come from the key and from the image, not from its place in the batch, so its
result is the same alone and in any company, but for the order in which XLA sums.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from zojax import noise
from zojax._call import PROGRAMS, compiled_call, untraceable
from zojax._types import PyTree, as_key, promoting, require_count, require_positive
from zojax.attacks import _ball, _losses

_CPU_BATCH = 16  # convolutions on a CPU are no faster in larger batches, which leave the cache
_ACCELERATOR_BATCH = 1024
_FARTHEST = 1e6  # a larger radius allows no more images, and its square may overflow

# Images (n, ...), JAX arrays or for `jit=False` those of NumPy, to scores (n, classes).
Model = Callable[[Any], ArrayLike]


class Attack(NamedTuple):
    """What one round does, for one image.

    Attributes:
      norm: "linf" or "l2".
      loss: class loss of `zojax.attacks._losses`, to be lowered for the true class.
      points: queries of a round, a static int.
      init: `init(key, x, loss) -> state`, from the image and its loss; its key is the image's own.
      propose: `propose(key, state, x, eps, t) -> (points, *x.shape)`, images to evaluate in round t;
        the driver projects them.
      update: `update(key, state, x, eps, t, points, losses) -> state`, from the projected images and
        their losses (inf where an output was not finite).
    """

    norm: str
    loss: _losses.ClassLoss
    points: int
    init: Callable[[jax.Array, jax.Array, jax.Array], PyTree]
    propose: Callable[..., jax.Array]
    update: Callable[..., PyTree]


class Result(NamedTuple):
    """What an attack found; the leading axis runs over images.

    Attributes:
      adversarial: float32, as x: the adversarial image, or the best that was seen. Inside the ball and
        inside [0, 1].
      success: bool, whether it is adversarial.
      queries: int32, images shown to the model, at most the budget. The first is x itself, so an image
        that was misclassified from the start is solved by 1.
      norms: float32, the perturbation's length in the norm of the attack.
    """

    adversarial: jax.Array
    success: jax.Array
    queries: jax.Array
    norms: jax.Array


class AskTell(NamedTuple):
    """Pure functions for models that live elsewhere; made by `ask_tell`.

    Attributes:
      init: `init(key, x, y) -> state`.
      ask: `ask(state) -> points`, NumPy images of shape (n, ...) to evaluate; n = 0 when all is done.
      tell: `tell(state, outputs) -> state`, for outputs of shape (n, classes).
      result: `result(state) -> Result`, at any time.
    """

    init: Callable[..., Any]
    ask: Callable[[Any], np.ndarray]
    tell: Callable[[Any, Any], Any]
    result: Callable[[Any], Result]


class Progress(NamedTuple):
    """One image under attack; the driver's is a batch of them."""

    key: jax.Array
    x: jax.Array
    y: jax.Array
    t: jax.Array
    queries: jax.Array
    solved: jax.Array
    best: jax.Array
    best_loss: jax.Array
    inner: PyTree


class Setting(NamedTuple):
    """What the driver knows beside the attack."""

    budget: int
    targeted: bool
    output: str


def run(
    key: int | jax.Array,
    attack: Attack,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array,
    budget: int,
    targeted: bool,
    output: str,
    batch_size: int | None,
    jit: bool,
) -> Result:
    """Attacks a batch of images: one compiled program, or rounds of ask and tell for `jit=False`."""
    key, (x, y) = as_key(key), _check_images(x, y)
    setting = _check_setting(attack, eps, budget, targeted, output)
    if batch_size is None:
        batch_size = _CPU_BATCH if jax.default_backend() == "cpu" else _ACCELERATOR_BATCH
    batch_size = require_count("batch_size", batch_size)
    if not callable(model):
        raise TypeError(f"model must be a function of a batch of images, got {model!r}.")
    if jit:
        _check_outputs(_output_shape(model, jnp.shape(x)), jnp.shape(x)[0], y)
        arrays = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)
        return _run_compiled(model, key, attack, *arrays, float_of(eps), setting, batch_size)
    session = ask_tell(attack, eps, budget, targeted, output)
    state = session.init(key, x, y)
    while len(points := session.ask(state)):
        parts = [points[i : i + batch_size] for i in range(0, len(points), batch_size)]
        outputs = [np.asarray(model(part)) for part in parts]
        for part, out in zip(parts, outputs, strict=True):
            _check_outputs(out.shape, len(part), y)
        state = session.tell(state, np.concatenate(outputs))
    return session.result(state)


def ask_tell(
    attack: Attack,
    eps: float | jax.Array,
    budget: int = 1000,
    targeted: bool = False,
    output: str = "logits",
) -> AskTell:
    """An attack on a model that is reached by other means than a function call.

    Args:
      attack: for example `attacks.square_attack()`.
      eps: radius of the ball, in units of the image.
      budget: most queries an image, the first of them for x itself; the default suits random search
        (`square`, `simba`), gradient estimates take more: 10,000 by default in their own functions.
      targeted: whether y is the class to reach instead of the class to leave.
      output: "logits" or "probabilities": what `tell` is given.

    Returns:
      An `AskTell`. Only images that are not solved and have budget left are asked about.

    Raises:
      ValueError, TypeError: as the attacks.

    >>> import numpy as np
    >>> from zojax import attacks
    >>> session = attacks.ask_tell(attacks.simba_attack(norm="linf"), eps=0.2, budget=50)
    >>> state = session.init(0, np.full((3, 4, 4), 0.5, np.float32), np.zeros(3, int))
    >>> while len(points := session.ask(state)):
    ...     total = points.sum(axis=(1, 2))  # a model that is in doubt at a total of 7.5
    ...     state = session.tell(state, np.stack([total, 15 - total], axis=1))
    >>> session.result(state).success
    Array([ True,  True,  True], dtype=bool)
    """
    if not isinstance(attack, Attack):
        raise TypeError(f"attack must be an Attack, got {attack!r}; try attacks.square_attack().")
    setting = _check_setting(attack, eps, budget, targeted, output)
    eps = jnp.minimum(jnp.float32(eps), _FARTHEST)
    compiled = _compiled(attack, setting)

    def init(key: int | jax.Array, x: ArrayLike, y: ArrayLike) -> Progress:
        x, y = _check_images(x, y)
        return compiled.start(as_key(key), jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32))

    def ask(state: Progress) -> np.ndarray:
        active = np.asarray(_active(state, setting.budget, attack.points))
        points = state.x[:, None] if _fresh(state) else compiled.propose(eps, state)
        return np.asarray(points)[active].reshape((-1,) + state.x.shape[1:])

    def tell(state: Progress, outputs: ArrayLike) -> Progress:
        outputs = np.asarray(outputs)
        active = np.asarray(_active(state, setting.budget, attack.points))
        points = 1 if _fresh(state) else attack.points
        _check_outputs(outputs.shape, int(active.sum()) * points, state.y)
        table = np.zeros((len(active), points, outputs.shape[1]), np.float32)
        table[active] = outputs.reshape(-1, points, outputs.shape[1])
        if _fresh(state):
            return compiled.tell_first(state, table[:, 0])
        return compiled.tell(eps, state, table)

    return AskTell(init, ask, tell, compiled.result)


def _fresh(state: Progress) -> bool:
    """Whether no image was shown to the model yet."""
    return not np.any(np.asarray(state.queries))


class _Compiled(NamedTuple):
    """The functions below, for an attack and a setting."""

    start: Callable
    propose: Callable
    tell_first: Callable
    tell: Callable
    result: Callable


@lru_cache(PROGRAMS)
def _compiled(attack: Attack, setting: Setting) -> _Compiled:
    return _Compiled(
        start=jax.jit(partial(_start, attack)),
        propose=jax.jit(partial(_propose, attack)),
        tell_first=jax.jit(partial(_tell_first, attack, setting)),
        tell=jax.jit(partial(_tell, attack, setting)),
        result=jax.jit(partial(_result, attack.norm)),
    )


# --- one round ------------------------------------------------------------------------------------


@promoting
def _start(attack, key, x, y) -> Progress:
    """Every image before its first query."""

    def one(x, y):
        inf = jnp.float32(jnp.inf)
        own = noise.fold_in(key, checksum(x))
        zero = jnp.int32(0)
        return Progress(own, x, y, zero, zero, jnp.bool_(False), x, inf, attack.init(own, x, inf))

    return jax.vmap(one)(x, y)


def _active(state: Progress, budget: int, points: int) -> jax.Array:
    """Images that are not solved and can pay for another round."""
    cost = jnp.where(state.queries == 0, 1, points)
    return ~state.solved & (state.queries + cost <= budget)


@promoting
def _propose(attack, eps, state: Progress) -> jax.Array:
    def one(s):
        points = attack.propose(noise.fold_in(s.key, s.t), s.inner, s.x, eps, s.t)
        return jax.vmap(lambda p: _ball.project(p, s.x, eps, attack.norm))(points)

    return jax.vmap(one)(state)


@promoting
def _tell_first(attack, setting, state: Progress, outputs) -> Progress:
    """After the query of the images themselves."""

    def one(s, out):
        logits = _losses.as_logits(out, setting.output)
        loss, hit = _losses.judge(logits, s.y, setting.targeted, attack.loss)
        return s._replace(
            queries=jnp.int32(1), solved=hit, best_loss=loss, inner=attack.init(s.key, s.x, loss)
        )

    return jax.vmap(one)(state, outputs)


def _tell(attack, setting, eps, state: Progress, outputs) -> Progress:
    return _advance(attack, setting, eps, state, _propose(attack, eps, state), outputs)


@promoting
def _advance(attack, setting, eps, state: Progress, points, outputs) -> Progress:
    """Every active image after a round; the others as they were."""

    def one(s, active, points, outputs):
        logits = _losses.as_logits(outputs, setting.output)
        losses, hits = jax.vmap(lambda z: _losses.judge(z, s.y, setting.targeted, attack.loss))(
            logits
        )
        key = noise.fold_in(s.key, s.t)
        ranks = jnp.where(hits, -jnp.inf, losses)
        first = jnp.argmin(ranks)
        better = ranks[first] < s.best_loss
        after = Progress(
            key=s.key,
            x=s.x,
            y=s.y,
            t=s.t + 1,
            queries=s.queries + attack.points,
            solved=jnp.any(hits),
            best=jnp.where(better, points[first], s.best),
            best_loss=jnp.where(better, ranks[first], s.best_loss),
            inner=attack.update(key, s.inner, s.x, eps, s.t, points, losses),
        )
        keep = partial(jnp.where, active)
        return jax.tree.map(keep, after._replace(key=0), s._replace(key=0))._replace(key=s.key)

    active = _active(state, setting.budget, attack.points)
    return jax.vmap(one)(state, active, points, outputs)


@promoting
def _result(norm, state: Progress) -> Result:
    norms = jax.vmap(lambda a, b: _ball.length(a - b, norm))(state.best, state.x)
    return Result(state.best, state.solved, state.queries, norms)


def checksum(x: jax.Array) -> jax.Array:
    """A 32-bit hash of an image's bits. Integer sums are exact, whatever their order."""
    bits = lax.bitcast_convert_type(x, jnp.uint32).ravel()
    place = jnp.arange(bits.shape[0], dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    mixed = (bits ^ place) * jnp.uint32(0x85EBCA6B)
    return jnp.sum((mixed ^ (mixed >> 15)) * jnp.uint32(0xC2B2AE35), dtype=jnp.uint32)


# --- all rounds, compiled ---------------------------------------------------------------------------


@compiled_call
def _run_compiled(model, key, attack, x, y, eps, setting, batch_size) -> Result:
    """A few images are under attack at a time; when some are done, others take their places.

    The model comes first: the program lives as long as it does.
    """
    count, eps = x.shape[0], jnp.minimum(eps, _FARTHEST)
    slots = max(1, min(count, batch_size // attack.points))
    evaluate = partial(_in_batches, model, batch_size)
    state = _tell_first(attack, setting, _start(attack, key, x, y), evaluate(x))
    waiting = _active(state, setting.budget, attack.points)
    queue, total = jnp.argsort(~waiting), jnp.sum(waiting)

    def advance(part):
        points = _propose(attack, eps, part)
        outputs = evaluate(points.reshape((-1,) + x.shape[1:]))
        outputs = outputs.reshape((*points.shape[:2], -1))
        return _advance(attack, setting, eps, part, points, outputs)

    def running(part):
        return jnp.sum(_active(part, setting.budget, attack.points))

    def rounds(carry):
        """Until an eighth of the places is free, or all are when nobody waits; then refill."""
        state, rows, taken = carry
        part = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip"), state)
        part = part._replace(solved=part.solved | (rows == count))  # a place without an image
        enough = jnp.where(taken < total, slots - max(1, slots // 8), 0)
        part = lax.while_loop(lambda part: running(part) > enough, advance, part)
        state = _written(state, rows, part)
        free = ~_active(part, setting.budget, attack.points)
        place = taken + jnp.cumsum(free) - 1
        following = jnp.where(place < total, queue[jnp.clip(place, 0, count - 1)], count)
        return state, jnp.where(free, following, rows), jnp.minimum(place[-1] + 1, total)

    def more(carry):
        return jnp.any(carry[1] < count)

    first = jnp.where(jnp.arange(slots) < total, queue[:slots], count)
    state = lax.while_loop(more, rounds, (state, first, jnp.minimum(slots, total)))[0]
    return _result(attack.norm, state)


def _written(state: Progress, rows: jax.Array, part: Progress) -> Progress:
    """The state with a part of it in these rows. An image's key never changes."""
    leaves = jax.tree.map(
        lambda a, b: a.at[rows].set(b, mode="drop"),
        state._replace(key=None),
        part._replace(key=None),
    )
    return leaves._replace(key=state.key)


def _in_batches(model, batch_size: int, points: jax.Array) -> jax.Array:
    """The model's outputs, at most `batch_size` images at a time."""
    n = points.shape[0]
    if n <= batch_size:
        return model(points)
    batches = -(-n // batch_size)
    size = -(-n // batches)
    padded = jnp.pad(points, [(0, batches * size - n)] + [(0, 0)] * (points.ndim - 1))
    outputs = lax.map(model, padded.reshape((batches, size) + points.shape[1:]))
    return outputs.reshape((-1,) + outputs.shape[2:])[:n]


# --- what can be wrong --------------------------------------------------------------------------------


def float_of(value):
    """A float that is traced, so that another value needs no other program."""
    return jnp.asarray(value, jnp.float32)


def check_norm(norm: str) -> str:
    if norm not in _ball.NORMS:
        raise ValueError(f"norm must be one of {list(_ball.NORMS)}, got {norm!r}.")
    return norm


def _check_setting(attack, eps, budget, targeted, output) -> Setting:
    require_positive("eps", eps)
    if not isinstance(targeted, (bool, np.bool_)):
        raise TypeError(f"targeted must be True or False, got {targeted!r}; targets go into y.")
    if output == "labels":
        raise ValueError(
            "output='labels' is not enough for an attack that compares scores; give it logits or "
            "probabilities, or attacks.smoothed(label_fn, num_classes) with output='probabilities'."
        )
    if output not in _losses.OUTPUTS:
        raise ValueError(f"output must be one of {list(_losses.OUTPUTS)}, got {output!r}.")
    budget = require_count("budget", budget)
    if 1 < budget <= attack.points:
        raise ValueError(
            f"budget must allow the image itself and a round of {attack.points} queries, "
            f"{attack.points + 1} in all, got {budget}; ask for fewer queries a round."
        )
    return Setting(budget, bool(targeted), output)


def _check_images(x, y) -> tuple[jax.Array | np.ndarray, jax.Array | np.ndarray]:
    """Images and classes as arrays."""
    x, y = (a if hasattr(a, "dtype") else np.asarray(a) for a in (x, y))
    shape = jnp.shape(x)
    if len(shape) < 2 or shape[0] == 0:
        raise ValueError(
            f"x must be a batch of at least one image, got shape {shape}; add a leading axis."
        )
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise TypeError(
            f"x must be floating point in [0, 1], got {jnp.result_type(x)}; divide by 255."
        )
    if jnp.ndim(y) == 0:
        raise ValueError(
            f"x and y must be batches, got one class for x of shape {shape}; pass x[None], y[None]."
        )
    if jnp.shape(y) != shape[:1] or not jnp.issubdtype(jnp.result_type(y), jnp.integer):
        raise ValueError(
            f"y must hold one integer class per image, shape {shape[:1]}, "
            f"got {jnp.result_type(y)} of shape {jnp.shape(y)}."
        )
    if not isinstance(x, jax.core.Tracer):
        low, high = float(jnp.min(x)), float(jnp.max(x))
        if not (low >= 0 and high <= 1):
            raise ValueError(f"x must lie in [0, 1], got values from {low} to {high}; rescale it.")
    return x, y


def _output_shape(model, shape: tuple[int, ...]) -> tuple[int, ...]:
    with untraceable("zojax traces the model. For one that JAX cannot trace pass jit=False."):
        found = jax.eval_shape(model, jax.ShapeDtypeStruct(shape, jnp.float32))
    if not hasattr(found, "shape"):
        raise TypeError(f"the model must return an array of scores, got a {type(found).__name__}.")
    return found.shape


def _check_outputs(shape: tuple[int, ...], count: int, y) -> None:
    if shape == (count,):
        raise ValueError(
            f"the model must return one row of scores for each of its {count} images, got shape {shape}: "
            "for a function that gives labels pass attacks.smoothed(label_fn, num_classes) with "
            "output='probabilities'."
        )
    if len(shape) != 2 or shape[0] != count or shape[1] < 2:
        raise ValueError(
            f"the model must return one row of scores for each of its {count} images and at least "
            f"2 classes, got shape {shape}."
        )
    if not isinstance(y, jax.core.Tracer):
        low, high = int(np.min(y)), int(np.max(y))
        if low < 0 or high >= shape[1]:
            raise ValueError(
                f"y must hold classes from 0 to {shape[1] - 1}, as many as the model's scores, "
                f"got {low} to {high}."
            )
