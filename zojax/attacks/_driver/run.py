"""One call for a whole attack: the door that every attack's own function goes through."""

from concurrent.futures import Executor

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from zojax._checks import require_count, require_flag
from zojax._evaluation import Evaluator, require_executor, require_limits
from zojax._keys import as_key
from zojax.attacks import _ball
from zojax.attacks._attack import Attack, Model
from zojax.attacks._driver.checks import (
    check_images,
    check_options,
    check_outputs,
    check_probabilities,
    check_starts,
    output_of,
)
from zojax.attacks._driver.compiled import run_compiled
from zojax.attacks._driver.host import partial_result, run_on_host
from zojax.attacks._driver.rounds import Rounds
from zojax.attacks._layout import inward
from zojax.attacks._result import Result, warned
from zojax.attacks._shared import documented

_CPU_BATCH = 16  # convolutions on a CPU are no faster in larger batches, which leave the cache
_ACCELERATOR_BATCH = 1024


@documented
def run(
    key: int | jax.Array,
    attack: Attack,
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    eps: float | jax.Array,
    budget: int = 1000,
    targeted: bool = False,
    output: str = "logits",
    layout: str | None = None,
    batch_size: int | None = None,
    jit: bool = True,
    executor: Executor | None = None,
    timeout: float | None = None,
    retries: int = 0,
    starts: ArrayLike | None = None,
) -> Result:
    """Runs an `Attack` on a batch of images: all rounds in one program, or on the host.

    Args:
      attack: its rounds, for example `attacks.square_attack()`, or your own `attacks.Attack`.
      x: images (batch, ...) in [0, 1], of any shape that the attack takes.

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> model = lambda images: images.reshape(-1, 36) @ w
    >>> found = attacks.run(0, attacks.square_attack(), model, x, jnp.argmax(model(x), 1), eps=0.3)
    >>> bool(found.success.all())
    True
    """
    key = as_key(key)
    require_flag("jit", jit)
    rounds = Rounds(attack, check_options(attack, eps, budget, targeted, output, layout))
    x, y = check_images(x, y, layout)
    starts = check_starts(starts, attack, x)
    if batch_size is None:
        batch_size = _CPU_BATCH if jax.default_backend() == "cpu" else _ACCELERATOR_BATCH
    batch_size = require_count("batch_size", batch_size)
    if not callable(model):
        raise TypeError(f"model must be a function of a batch of images, got {model!r}.")
    eps = _ball.radius(eps)
    limit = require_limits(timeout, retries, executor)
    for name, given in {"executor": executor, "timeout": timeout, "retries": retries}.items():
        if given and jit:
            raise ValueError(f"{name} is for models on the host: pass jit=False with it.")
    require_executor(executor)
    if not jit:
        with Evaluator(executor, timeout=limit, retries=retries) as evaluator:
            found = run_on_host(evaluator, model, key, rounds, x, y, starts, eps, batch_size)
            return warned(found)
    check_outputs(output_of(model, jnp.shape(x)), len(x), y, rounds.options.output)
    x, y = inward(jnp.asarray(x, jnp.float32), layout), jnp.asarray(y, jnp.int32)
    if starts is not None:
        starts = inward(jnp.asarray(starts, jnp.float32), layout)
    result, sums = run_compiled(model, key, rounds, x, y, starts, eps, batch_size)
    if output == "probabilities":
        with partial_result(lambda: result):
            check_probabilities(sums)
    return warned(result)
