"""The export's command line, on a small model of random weights, read back as users would."""

import contextlib
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from zojax import lm
from zojax.examples import export, finetune
from zojax.examples._finetune_options import OBJECTIVES
from zojax.lm import llama

CONFIG = llama.Config(vocabulary=64, width=32, layers=2, heads=4, kv_heads=2, hidden=48)
WORDS = [
    "[UNK]",
    "<|im_end|>",
    "positive",
    "negative",
    "good",
    "bad",
    *(f"w{i}" for i in range(58)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "out"
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60).astype(np.int32)
    rest = [" ".join(f"w{j}" for j in rng.integers(0, 58, n)) for n in rng.integers(1, 9, 60)]
    texts = [f"{('bad', 'good')[y]} {words}" for y, words in zip(labels, rest, strict=True)]
    splits = lm.Splits(None, None, lm.Reviews(texts, labels))
    params = llama.init(jax.random.key(0), CONFIG)
    model = lm.Model(llama, CONFIG, params, tokenizer, WORDS.index("<|im_end|>"))
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
        patch.setattr(lm, "smollm2", lambda: model)
        patch.setattr(lm, "reviews", lambda: splits)
        assert export.main([str(out), "--examples", "40"]) == 0
    assert "completions.jsonl" in printed.getvalue()
    return out, params, splits.train


def test_the_model_comes_back(folder):
    path, params, _ = folder
    model = lm.load(path / "smollm2")
    tokens = jnp.arange(10).reshape(2, 5)
    expected = jax.jit(lambda params: llama.forward(CONFIG, params, tokens))(params)
    found = jax.jit(model.forward)(model.params, tokens)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert model.stop == WORDS.index("<|im_end|>")
    assert model.tokenizer.encode("good <|im_end|>").ids == [4, 1]


def test_both_tasks_are_the_shortest_reviews(folder):
    path, _, reviews = folder
    rows = lm.read_jsonl(path / "labels.jsonl")
    assert rows.fields == ("text", "label") and len(rows.inputs) == 40
    longest = max(len(text) for text in rows.inputs)
    assert all(len(text) >= longest for text in set(reviews.texts) - set(rows.inputs))
    names = dict(zip(reviews.texts, reviews.labels, strict=True))
    for text, label in zip(rows.inputs, rows.outputs, strict=True):
        assert label == ("negative", "positive")[names[text]]
    prompts = lm.read_jsonl(path / "completions.jsonl")
    assert [f" {label}" for label in rows.outputs] == prompts.outputs
    for text, prompt in zip(rows.inputs, prompts.inputs, strict=True):
        assert text in prompt and prompt.count("Sentiment") == 3


# tests/lm/test_completions.py trains on F1, in float32, and is slow as well.
F1 = pytest.param("completions", "f1", marks=pytest.mark.slow)


@pytest.mark.parametrize("task, objective", [("labels", "accuracy"), F1])
def test_what_is_exported_is_fine_tuned_in_bfloat16(folder, task, objective, tmp_path, capsys):
    path = folder[0]
    given = ["--weights", str(path / "smollm2"), "--task", str(path / f"{task}.jsonl")]
    given += ["--dtype", "bf16", "--objective", objective, "--steps", "4", "--batch", "4"]
    assert finetune.main([*given, "--out", str(tmp_path / "curve.png")]) == 0
    printed = capsys.readouterr().out
    assert OBJECTIVES[objective] in printed and "fine-tuned against" in printed
