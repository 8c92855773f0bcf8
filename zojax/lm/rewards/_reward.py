"""Rewards of generated texts, and a population's values from them."""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax._evaluation import Evaluation, Evaluator, require_executor
from zojax._warnings import warn
from zojax.lm._files import shown


class Written(NamedTuple):
    """Generated texts.

    Attributes:
      texts: N strings, without special tokens; empty strings if the model has no tokenizer.
      tokens: `(N, new)` int32; behind a text's stop, the stop again.
      lengths: `(N,)` int32, tokens of each text, with its stop.
    """

    texts: list[str]
    tokens: np.ndarray
    lengths: np.ndarray


Reward = Callable[[Written, Sequence[Any]], ArrayLike]
"""`(Written, examples) -> (N,)` numbers: larger is better, NaN for a text without a reward."""


def each(
    fun: Callable[[str, Any], float],
    executor: Executor | None = None,
    catch: type[Exception] | tuple[type[Exception], ...] = (),
) -> Reward:
    """A reward of one text: `fun(text, example) -> float`.

    Args:
      executor: of `concurrent.futures`, see `zojax.executors`; it takes several texts at once.
      catch: exceptions of `fun` that count as NaN, with a warning. Any other ends the run.

    >>> reward = each(lambda text, example: text == example, catch=ValueError)
    >>> reward(Written(["4", "5"], np.zeros((2, 1)), np.ones(2)), ["4", "4"]).tolist()
    [1.0, 0.0]
    """
    require_executor(executor)

    def reward(written: Written, examples: Sequence[Any]) -> np.ndarray:
        pairs = list(zip(written.texts, examples, strict=True))
        with Evaluator(executor) as evaluator:
            ended = evaluator.in_order(evaluator.call(_of_pair, (fun,)), pairs)
            judged = zip(ended, written.texts, strict=True)
            found = [_number(evaluation, text, catch) for evaluation, text in judged]
        return np.array(found, np.float64)

    return reward


def _of_pair(pair: tuple[str, Any], fun: Callable[[str, Any], float]) -> float:
    return fun(*pair)


def _number(evaluation: Evaluation, text: str, catch: Any) -> float:
    try:
        return float(evaluation.result().returned)
    except catch as error:
        warn(f"the reward of {shown(text)} failed: {error!r}")
        return np.nan


def together(fun: Callable[[list[str], Sequence[Any]], ArrayLike]) -> Reward:
    """A reward of all texts at once: `fun(texts, examples) -> (N,)`, such as a model that judges them."""
    return lambda written, examples: fun(written.texts, examples)


def traced(fun: Callable[[jax.Array, jax.Array, Any], jax.Array]) -> Reward:
    """A reward in JAX: `fun(tokens (new,), length (), example) -> ()`, vectorised and compiled.

    The examples are pytrees of arrays of equal shapes, or None.

    >>> reward = traced(lambda tokens, length, example: jnp.mean(tokens == example))
    >>> reward(Written(["", ""], np.array([[3, 3], [3, 4]]), np.full(2, 2)), [3, 4]).tolist()
    [1.0, 0.5]
    """
    run = jax.jit(jax.vmap(fun))

    def reward(written: Written, examples: Sequence[Any]) -> jax.Array:
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *examples)
        return run(jnp.asarray(written.tokens), jnp.asarray(written.lengths), stacked)

    return reward


def matches(pattern: str) -> Reward:
    r"""A format: 1 if the regular expression matches the whole text, else 0.

    >>> reward = matches(r"\s*-?\d+")
    >>> reward(Written([" 12", "It is 12."], np.zeros((2, 1)), np.ones(2)), [None, None]).tolist()
    [1.0, 0.0]
    """
    compiled = re.compile(pattern)
    return each(lambda text, example: compiled.fullmatch(text) is not None)


def weighted(*pairs: tuple[float, Reward]) -> Reward:
    """The weighted sum of rewards, such as `weighted((1.0, correct), (0.1, matches(pattern)))`.

    Raises ValueError without a reward.
    """
    if not pairs:
        raise ValueError("weighted needs a pair (weight, reward) at least.")

    def reward(written: Written, examples: Sequence[Any]) -> np.ndarray:
        found = [weight * _checked(reward, written, examples) for weight, reward in pairs]
        return np.sum(found, axis=0)

    return reward


def first_line(text: str) -> str:
    """The first line with a word, without blanks and a final full stop.

    >>> first_line(" 12.\\nLet me explain")
    '12'
    """
    return text.strip().split("\n")[0].strip().removesuffix(".")


def _checked(reward: Reward, written: Written, examples: Sequence[Any]) -> np.ndarray:
    """The rewards as `(N,)` float64; raises ValueError for another shape."""
    found = np.asarray(reward(written, examples), np.float64)
    if found.shape != (len(written.texts),):
        raise ValueError(
            f"the reward must return one number for each of {len(written.texts)} texts, got shape "
            f"{found.shape}; wrap a function of one text: rewards.each(fun)."
        )
    return found


def centred(rewards: ArrayLike) -> np.ndarray:
    r"""The reward of each member: its mean advantage over the prompts, plus the mean of all.

    .. math::
        s_m = \bar r + \mathrm{mean}_p (r_{mp} - \bar r_p), \qquad \bar r_p = \mathrm{mean}_m\, r_{mp}

    So the difficulty of a prompt has no effect on the differences between members. Numbers that are not
    finite are left out of all means.

    Args:
      rewards: `(M, P)`, of M members on P prompts.

    Returns:
      `(M,)` float64; NaN for a member without a finite reward.

    The second member has no reward on the easy prompt, and loses nothing:

    >>> centred([[1.0, 0.0], [np.nan, 0.0]]).tolist()
    [0.3333333333333333, 0.3333333333333333]
    """
    rewards = np.asarray(rewards, np.float64)
    known = np.isfinite(rewards)
    seen = np.where(known, rewards, 0)
    of_prompt = seen.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    advantage = np.where(known, seen - of_prompt, 0)
    counts = known.sum(axis=1)
    found = advantage.sum(axis=1) / np.maximum(counts, 1) + seen.sum() / max(known.sum(), 1)
    return np.where(counts > 0, found, np.nan)
