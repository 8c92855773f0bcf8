"""One driver for all attacks: rounds of propose, evaluate, update, until solved or out of budget.

An `Attack` is three pure functions of one image. The driver maps them over images, projects whatever
they propose onto the ball and the box before a model sees it, counts queries, and stops each image by
itself. The same functions serve a compiled loop (`run`) and a model that JAX cannot trace (`ask_tell`).

An exception that ends a run on the host carries the `Result` so far. An image is given up when its first
answers are all unusable.

An image's random numbers come from the key and from the image, not from its place in the batch, so its
result is the same alone and in any company, but for the order in which XLA sums.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from zojax import noise
from zojax._call import PROGRAMS, compiled_call
from zojax._checks import require_count, require_flag
from zojax._keys import as_key
from zojax._numerics import promoting
from zojax._trees import PyTree
from zojax.attacks import _ball, _losses
from zojax.attacks._checks import (
    PATIENCE,
    Setting,
    check_heard,
    check_images,
    check_outputs,
    check_setting,
    check_shares,
    output_of,
)
from zojax.attacks._layout import inward, outward
from zojax.attacks._result import Result, warned

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


class AskTell(NamedTuple):
    """Pure functions for models that live elsewhere; made by `ask_tell`.

    Attributes:
      init: `init(key, x, y) -> state`.
      ask: `ask(state) -> points`, NumPy images of shape (n, ...) to evaluate; n = 0 when all is done.
      tell: `tell(state, outputs) -> state`, for outputs of shape (n, classes). The state is a value: after
        an error the last one is still good.
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
    first_loss: jax.Array
    unusable: jax.Array
    flat: jax.Array
    inner: PyTree


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
    layout: str | None,
    batch_size: int | None,
    jit: bool,
) -> Result:
    """Attacks a batch of images: one compiled program, or rounds of ask and tell for `jit=False`."""
    key = as_key(key)
    require_flag("jit", jit)
    setting = check_setting(attack.points, eps, budget, targeted, output, layout)
    x, y = check_images(x, y, layout)
    if batch_size is None:
        batch_size = _CPU_BATCH if jax.default_backend() == "cpu" else _ACCELERATOR_BATCH
    batch_size = require_count("batch_size", batch_size)
    if not callable(model):
        raise TypeError(f"model must be a function of a batch of images, got {model!r}.")
    if not jit:
        result = _run_on_host(model, key, attack, x, y, eps, setting, batch_size)
        return warned(result)
    check_outputs(output_of(model, jnp.shape(x)), jnp.shape(x)[0], y)
    arrays = inward(jnp.asarray(x, jnp.float32), layout), jnp.asarray(y, jnp.int32)
    result, shares = _run_compiled(model, key, attack, *arrays, float_of(eps), setting, batch_size)
    if output == "probabilities":
        with _partial(lambda: result):
            check_shares(shares)
    return warned(result)


def _run_on_host(model, key, attack, x, y, eps, setting, batch_size) -> Result:
    session = _Session(attack, setting, eps)
    state, answers, calls, heard, classes = session.init(key, x, y), [], 0, False, None
    with _partial(lambda: session.result(session.tell(state, answers))):
        while len(points := session.ask(state)):
            for i in range(0, len(points), batch_size):
                part = points[i : i + batch_size]
                answer = np.array(model(part))  # a copy: the model may reuse its buffer
                check_outputs(answer, len(part), y, classes)
                answers.append(answer)
                classes = answer.shape[1]
                calls, heard = calls + 1, heard or bool(np.any(np.isfinite(answer)))
                check_heard(heard, calls)
            session.check(state, answers)
            # One assignment: an interrupt finds the answers in the list or in the state.
            state, answers = session.tell(state, answers), []
        return session.result(state)


@contextmanager
def _partial(result: Callable[[], Result]):
    """Adds the result so far to an exception, as its attribute `partial_result`."""
    try:
        yield
    except BaseException as error:  # Ctrl-C, too
        error.partial_result = result()
        raise


def ask_tell(
    attack: Attack,
    eps: float | jax.Array,
    budget: int = 1000,
    targeted: bool = False,
    output: str = "logits",
    *,
    layout: str | None = None,
) -> AskTell:
    """An attack on a model that is reached by other means than a function call.

    Args:
      attack: for example `attacks.square_attack()`.
      eps: radius of the ball, in units of the image.
      budget: most queries an image, the first of them for x itself; the default suits random search
        (`square`, `simba`), gradient estimates take more: 10,000 by default in their own functions.
      targeted: whether y is the class to reach instead of the class to leave.
      output: "logits" or "probabilities": what `tell` is given.
      layout: "nhwc" or "nchw", the axes of x and of all images that you get; None is "nhwc", with a
        warning where x looks like "nchw".

    Returns:
      An `AskTell`. Only images that are not solved and have budget left are asked about.

    Raises:
      ValueError, TypeError: as the attacks.

    Warns:
      UserWarning: in `result`, for images that were not really attacked (`Result.unusable`, `.flat`).

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
    setting = check_setting(attack.points, eps, budget, targeted, output, layout)
    session = _Session(attack, setting, eps)

    def init(key: int | jax.Array, x: ArrayLike, y: ArrayLike) -> Progress:
        return session.init(as_key(key), *check_images(x, y, layout))

    def tell(state: Progress, outputs: ArrayLike) -> Progress:
        outputs = np.asarray(outputs)
        check_outputs(outputs, session.asked(state).sum(), state.y)
        session.check(state, [outputs])
        return session.tell(state, [outputs])

    def result(state: Progress) -> Result:
        return warned(session.result(state))

    return AskTell(init, session.ask, tell, result)


class _Session:
    """The rounds of an attack on the host, between NumPy images and lists of NumPy scores."""

    def __init__(self, attack: Attack, setting: Setting, eps):
        self.attack, self.setting = attack, setting
        self.eps = jnp.minimum(jnp.float32(eps), _FARTHEST)
        self.compiled = _compiled(attack, setting)

    def init(self, key, x, y) -> Progress:
        x = inward(jnp.asarray(x, jnp.float32), self.setting.layout)
        return self.compiled.start(key, x, jnp.asarray(y, jnp.int32))

    def asked(self, state: Progress) -> np.ndarray:
        """Which points of a round are shown to the model, as bools of shape (images, points)."""
        points = 1 if _fresh(state) else self.attack.points
        active = np.asarray(_active(state, self.setting.budget, self.attack.points))
        return np.repeat(active[:, None], points, axis=1)

    def ask(self, state: Progress) -> np.ndarray:
        points = state.x[:, None] if _fresh(state) else self.compiled.propose(self.eps, state)
        images = np.asarray(points)[self.asked(state)]
        return np.ascontiguousarray(outward(images, self.setting.layout))

    def check(self, state: Progress, answers: list[np.ndarray]) -> None:
        """Raises if the scores of the images themselves cannot be probabilities."""
        if self.setting.output == "probabilities" and _fresh(state):
            check_shares(_losses.Shares.of(np.concatenate(answers)))

    def tell(self, state: Progress, answers: list[np.ndarray]) -> Progress:
        """The state after the scores of a round, or of its first images when it was interrupted."""
        if not answers:
            return state
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and counted
            outputs = np.concatenate(answers).astype(np.float32)
        answered = self.asked(state)
        answered[answered] = np.arange(answered.sum()) < len(outputs)
        table = np.full((*answered.shape, outputs.shape[1]), np.nan, np.float32)
        table[answered] = outputs
        if _fresh(state):
            return self.compiled.tell_first(state, table[:, 0], answered[:, 0])
        return self.compiled.tell(self.eps, state, table, answered)

    def result(self, state: Progress) -> Result:
        return self.compiled.result(state)


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
        result=jax.jit(partial(_result, attack.norm, setting.layout)),
    )


# --- one round ------------------------------------------------------------------------------------


@promoting
def _start(attack, key, x, y) -> Progress:
    """Every image before its first query."""

    def one(x, y):
        inf, zero = jnp.float32(jnp.inf), jnp.int32(0)
        own = noise.fold_in(key, checksum(x))
        # Traced arguments cannot be refused: no scores are usable for -1, which is no class.
        y = jnp.where(jnp.all((x >= 0) & (x <= 1)), y, -1)
        return Progress(
            key=own,
            x=x,
            y=y,
            t=zero,
            queries=zero,
            solved=jnp.bool_(False),
            best=x,
            best_loss=inf,
            first_loss=inf,
            unusable=zero,
            flat=zero,
            inner=attack.init(own, x, inf),
        )

    return jax.vmap(one)(x, y)


def _active(state: Progress, budget: int, points: int) -> jax.Array:
    """Images that are not solved, were not given up, and can pay for another round."""
    cost = jnp.where(state.queries == 0, 1, points)
    hopeless = (state.unusable == state.queries) & (state.queries >= PATIENCE)
    return ~state.solved & ~hopeless & (state.queries + cost <= budget)


@promoting
def _propose(attack, eps, state: Progress) -> jax.Array:
    def one(s):
        points = attack.propose(noise.fold_in(s.key, s.t), s.inner, s.x, eps, s.t)
        return jax.vmap(lambda p: _ball.project(p, s.x, eps, attack.norm))(points)

    return jax.vmap(one)(state)


@promoting
def _tell_first(attack, setting, state: Progress, outputs, answered) -> Progress:
    """After the first query, x itself, of every answered image."""

    def one(s, out, answered):
        logits = _losses.as_logits(out, setting.output)
        loss, hit = _losses.judge(logits, s.y, setting.targeted, attack.loss)
        after = s._replace(
            queries=jnp.int32(1),
            solved=hit,
            best_loss=loss,
            first_loss=loss,
            unusable=jnp.isinf(loss).astype(jnp.int32),
            inner=attack.init(s.key, s.x, loss),
        )
        return _where(answered, after, s)

    return jax.vmap(one)(state, outputs, answered)


def _tell(attack, setting, eps, state: Progress, outputs, answered) -> Progress:
    return _advance(attack, setting, eps, state, _propose(attack, eps, state), outputs, answered)


@promoting
def _advance(attack, setting, eps, state: Progress, points, outputs, answered) -> Progress:
    """Every image after the answered points of a round; images without answers stay as they were."""

    def one(s, points, outputs, answered):
        logits = _losses.as_logits(outputs, setting.output)
        losses, hits = jax.vmap(lambda z: _losses.judge(z, s.y, setting.targeted, attack.loss))(
            logits
        )
        losses, hits = jnp.where(answered, losses, jnp.inf), hits & answered
        key = noise.fold_in(s.key, s.t)
        ranks = jnp.where(hits, -jnp.inf, losses)
        first = jnp.argmin(ranks)
        better = ranks[first] < s.best_loss
        usable = jnp.isfinite(losses)
        after = Progress(
            key=s.key,
            x=s.x,
            y=s.y,
            t=s.t + 1,
            queries=s.queries + _count(answered),
            solved=jnp.any(hits),
            best=jnp.where(better, points[first], s.best),
            best_loss=jnp.where(better, ranks[first], s.best_loss),
            first_loss=s.first_loss,
            unusable=s.unusable + _count(answered & ~usable),
            flat=s.flat + _count(usable & (losses == s.first_loss)),
            inner=attack.update(key, s.inner, s.x, eps, s.t, points, losses),
        )
        return _where(jnp.any(answered), after, s)

    return jax.vmap(one)(state, points, outputs, answered)


def _where(condition, after: Progress, before: Progress) -> Progress:
    """One state or the other; the key, which both have, cannot be selected."""
    kept = jax.tree.map(
        partial(jnp.where, condition), after._replace(key=0), before._replace(key=0)
    )
    return kept._replace(key=before.key)


def _count(bools: jax.Array) -> jax.Array:
    return jnp.sum(bools, dtype=jnp.int32)


@promoting
def _result(norm, layout, state: Progress) -> Result:
    norms = jax.vmap(lambda a, b: _ball.length(a - b, norm))(state.best, state.x)
    return Result(
        adversarial=outward(state.best, layout),
        success=state.solved,
        queries=state.queries,
        norms=norms,
        unusable=state.unusable,
        flat=state.flat,
    )


def checksum(x: jax.Array) -> jax.Array:
    """A 32-bit hash of an image's bits. Integer sums are exact, whatever their order."""
    bits = lax.bitcast_convert_type(x, jnp.uint32).ravel()
    place = jnp.arange(bits.shape[0], dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    mixed = (bits ^ place) * jnp.uint32(0x85EBCA6B)
    return jnp.sum((mixed ^ (mixed >> 15)) * jnp.uint32(0xC2B2AE35), dtype=jnp.uint32)


# --- all rounds, compiled ---------------------------------------------------------------------------


@compiled_call
def _run_compiled(
    model, key, attack, x, y, eps, setting, batch_size
) -> tuple[Result, _losses.Shares]:
    """A few images are under attack at a time; when some are done, others take their places.

    The model comes first: the program lives as long as it does. The second result belongs to the scores of
    x. Images whose scores are no probabilities, where these were promised, are not attacked.
    """
    count, eps = x.shape[0], jnp.minimum(eps, _FARTHEST)
    slots = max(1, min(count, batch_size // attack.points))

    def evaluate(points):
        return _in_batches(model, batch_size, outward(points, setting.layout))

    outputs = jnp.asarray(evaluate(x), jnp.float32)
    shares, everyone = _losses.Shares.of(outputs), jnp.ones(count, bool)
    state = _tell_first(attack, setting, _start(attack, key, x, y), outputs, everyone)
    waiting = _active(state, setting.budget, attack.points)
    if setting.output == "probabilities":
        waiting &= ~shares.improper
    queue, total = jnp.argsort(~waiting), jnp.sum(waiting)

    def advance(part):
        points = _propose(attack, eps, part)
        outputs = evaluate(points.reshape((-1,) + x.shape[1:]))
        outputs = outputs.reshape((*points.shape[:2], -1))
        active = _active(part, setting.budget, attack.points)
        answered = jnp.broadcast_to(active[:, None], points.shape[:2])
        return _advance(attack, setting, eps, part, points, outputs, answered)

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
    return _result(attack.norm, setting.layout, state), shares


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


def float_of(value):
    """A float that is traced, so that another value needs no other program."""
    return jnp.asarray(value, jnp.float32)
