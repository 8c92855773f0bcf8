"""Questions of reasoning-gym (https://github.com/open-thought/reasoning-gym) with answers it can check."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from zojax.lm._extras import require
from zojax.lm._model import Model
from zojax.lm.rewards._problem import Prompts, encode
from zojax.lm.rewards._reward import Reward, each, first_line

GYM_TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\nAnswer:"

# Tasks and difficulties of which SmolLM2-135M-Instruct solves 5 to 60 % with GYM_TEMPLATE
# (`python -m benchmarks starts`), with short questions and answers.
GYM: dict[str, dict[str, Any]] = {
    "basic_arithmetic": dict(min_terms=2, max_terms=2, min_digits=1, max_digits=1),
    "chain_sum": dict(min_terms=2, max_terms=2, min_digits=1, max_digits=1),
    "gcd": dict(min_numbers=2, max_numbers=2, min_value=1, max_value=20),
    "letter_counting": dict(min_words=1, max_words=3),
    "products": dict(min_terms=2, max_terms=2, min_digits=1, max_digits=1),
}


class Gym(NamedTuple):
    """Questions of a task.

    Attributes:
      train: `Prompts` to draw from, see `batches`.
      held_out: other `Prompts`; no question is in both.
      reward: of the first line, 1 for the right answer.
    """

    train: Prompts
    held_out: Prompts
    reward: Reward


def gym(
    model: Model,
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    template: str = GYM_TEMPLATE,
    train: int = 2048,
    held_out: int = 128,
    seed: int = 0,
    partial: bool = False,
) -> Gym:
    """Questions of a task of reasoning-gym, the extra `rl`.

    Of few questions the frequent ones are held out, and rare ones with other answers are left to train on.
    Choose a difficulty of many more questions than `held_out`.

    Args:
      name: of the task.
      options: its difficulty, as `reasoning_gym.create_dataset` takes it; None: those of `GYM`, or the
        task's own.
      template: of a prompt, with `{}` for the question.
      train: questions to draw from, before those of `held_out` are removed.
      held_out: their number. They do not depend on `seed`.
      seed: of the training questions.
      partial: keeps the task's own scores below 1. Many tasks give a part to a line that contains the right
        answer; a model learns to write such lines.

    Raises:
      ValueError: for an unknown task or options that do not fit, and a template without `{}`.
      ModuleNotFoundError: without the extra `rl`.
    """
    if "{}" not in template:
        raise ValueError(f"template must contain {{}} for the question, got {template!r}.")
    create, options = require("reasoning_gym", "rl").create_dataset, options or GYM.get(name, {})
    try:
        tested = create(name, size=held_out, seed=10**6, **options)
        drawn = create(name, size=train, seed=10**6 * (2 + seed), **options)
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"reasoning-gym has no task {name!r} with {options}: {error}.") from error
    apart = list(tested)
    questions = {entry["question"] for entry in apart}
    rest = [entry for entry in drawn if entry["question"] not in questions]
    if not rest:
        raise ValueError(f"all questions of {name!r} are held out; lower held_out, {held_out}.")

    def encoded(entries: list[dict]) -> Prompts:
        texts = [template.replace("{}", entry["question"].strip()) for entry in entries]
        return encode(model, texts, entries)

    def score(text: str, entry: dict) -> float:
        found = drawn.score_answer(first_line(text), entry)
        return found if partial else float(found >= 1)

    return Gym(encoded(rest), encoded(apart), each(score))
