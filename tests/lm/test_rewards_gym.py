"""Questions of reasoning-gym; needs the extra `rl`."""

import types

import numpy as np
import pytest

from zojax import lm
from zojax.lm import rewards

pytest.importorskip("reasoning_gym")


class Bytes:
    """A tokenizer of bytes."""

    def encode_batch(self, texts):
        return [types.SimpleNamespace(ids=list(text.encode())) for text in texts]


MODEL = lm.Model(lm.llama, None, {}, Bytes())


@pytest.mark.parametrize("name", rewards.GYM)
def test_right_answers_are_rewarded_and_held_out_questions_are_not_trained_on(name):
    found = rewards.gym(MODEL, name, train=64, held_out=16)
    again = rewards.gym(MODEL, name, train=64, held_out=16, seed=1)
    questions = [{e["question"] for e in part.examples} for part in (found.train, found.held_out)]
    assert not questions[0] & questions[1] and len(found.held_out.examples) == 16
    assert again.held_out.examples == found.held_out.examples
    assert again.train.examples != found.train.examples
    answers = [f" {e['answer']}.\nBecause" for e in found.held_out.examples]
    wrong = ["I do not know"] * 16
    for texts, expected in ((answers, 1.0), (wrong, 0.0)):
        written = rewards.Written(texts, np.zeros((16, 1)), np.ones(16))
        assert found.reward(written, found.held_out.examples).tolist() == [expected] * 16
    first = bytes(found.train.tokens[0, : found.train.lengths[0]].tolist()).decode()
    assert first.startswith("<|im_start|>user\n") and first.endswith("Answer:")
    for part in (found.train, found.held_out):
        columns = [len(set(column)) for column in part.tokens.T.tolist()]
        shared = part.shared
        assert len("<|im_start|>user\n") <= shared < part.lengths.min()
        assert set(columns[:shared]) == {1} and columns[shared] > 1


def test_parts_of_an_answer_count_if_asked_for():
    for partial in (False, True):
        found = rewards.gym(MODEL, "gcd", train=8, held_out=8, partial=partial)
        texts = [f" {entry['answer']}7" for entry in found.held_out.examples]
        written = rewards.Written(texts, np.zeros((8, 1)), np.ones(8))
        assert (found.reward(written, found.held_out.examples) > 0).all() == partial


def test_tasks_and_templates_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no task 'chess_to_ten'"):
        rewards.gym(MODEL, "chess_to_ten")
    with pytest.raises(ValueError, match="no task 'gcd' with .*'min_digits'"):
        rewards.gym(MODEL, "gcd", {"min_digits": 1})
    with pytest.raises(ValueError, match="template must contain {}"):
        rewards.gym(MODEL, "gcd", template="What?")
