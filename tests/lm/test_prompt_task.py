"""Tasks of templates on tiny models: each kind against its definition, shots, demonstrations, encoders."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from zojax import lm
from zojax.lm import templates

FOLDERS = pathlib.Path(__file__).with_name("reference_models")
WORDS = "It was great terrible Yes No Maybe Ann ran she Who ? . , because so Answer : the".split()


def model_folder(folder, kind):
    """A reference model with a tokenizer of words; encoders with their special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    path = shutil.copytree(FOLDERS / kind, folder / kind)
    words = ["[CLS]", "<pad>", "[SEP]", "[MASK]", "[UNK]", *WORDS]  # 1 is the padding of RoBERTa
    words += [f"w{i}" for i in range(30)]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind in ("bert", "roberta"):
        tokenizer.add_special_tokens(["[MASK]", "[CLS]", "[SEP]"])
        marks = [("[CLS]", 0), ("[SEP]", 2)]
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, marks)
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def written(folder, rows, name="task.jsonl"):
    (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return folder / name


def reviews(count, start=0):
    rows = range(start, start + count)
    return [{"sentence": f"w{i % 30} " * (i % 4 + 1), "label": i % 2} for i in rows]


def of_rows(task, name="held_out"):
    """The outputs and labels of a split."""
    run, batches = jax.jit(task.outputs), task.split(name)
    outputs = [np.asarray(run(task.params, task.frozen, batch)) for batch in batches]
    return np.concatenate(outputs), np.concatenate([batch["label"] for batch in batches])


# tests/examples/test_finetune.py has labels of decoders.
@pytest.mark.parametrize("kind", [pytest.param("llama", marks=pytest.mark.slow), "roberta"])
def test_words_are_scored_where_the_prompt_ends_or_at_its_mask(kind, tmp_path):
    path = written(tmp_path, reviews(20))
    folder = model_folder(tmp_path, kind)
    task = lm.prompt_task(folder, path, "sst2", "norms")
    outputs, labels = of_rows(task)
    model, vocabulary = lm.load(folder), ["terrible", "great"]
    rows = [model.tokenizer.token_to_id(word) for word in vocabulary]
    forward = jax.jit(model.forward)
    batch = task.split("held_out")[0]
    for tokens, position, found in zip(batch["tokens"], batch["position"], outputs, strict=True):
        text = tokens[: position + 1] if kind == "llama" else tokens[tokens != 1]
        assert kind == "llama" or tokens[position] == 3
        logits = forward(model.params, text[None])[0, position, np.array(rows)]
        np.testing.assert_allclose(found, logits, rtol=2e-4, atol=2e-4)
    assert set(labels) == {0, 1}


def test_an_encoder_s_own_labels_are_chosen_from_the_prompt(tmp_path):
    folder = model_folder(tmp_path, "bert")
    rows = [{"sentence": f"w{i}", "label": i % 3} for i in range(20)]
    template = templates.words("{sentence}", {"a": "great", "b": "terrible", "c": "Yes"})
    task = lm.prompt_task(folder, written(tmp_path, rows), template, "norms")
    outputs, labels = of_rows(task)
    assert outputs.shape == (4, 3) and set(task.scores(outputs, labels)[""]) == {"NLL", "accuracy"}
    with pytest.raises(ValueError, match="the model has 3 labels, the task 2"):
        lm.prompt_task(folder, written(tmp_path, reviews(20)), "sst2", "norms")
    with pytest.raises(ValueError, match="an encoder takes no prefix"):
        lm.prompt_task(folder, written(tmp_path, rows), template, "prefix")


def causes(count):
    ends = ["Ann ran .", "She ran ran ran .", "Who ?"]
    return [
        {
            "premise": f"w{i}.",
            "question": ("cause", "effect")[i % 2],
            "choice1": ends[i % 3],
            "choice2": ends[(i + 1) % 3],
            "label": i % 2,
        }
        for i in range(count)
    ]


def test_a_candidate_is_chosen_by_its_mean_likelihood(tmp_path):
    folder = model_folder(tmp_path, "llama")
    task = lm.prompt_task(folder, written(tmp_path, causes(20)), "copa", "norms")
    (batch,) = task.split("held_out")
    model, sums, hits = lm.load(folder), [], []
    nll = jax.jit(lambda batch: lm.completion_nll(model, model.params, batch).sum(1))
    each = [nll(batch | {"label": batch["label"][:, c]}) for c in (0, 1)]
    tokens = (batch["label"] >= 0).sum(2)
    right = np.argmax(batch["right"], axis=1)
    sums = np.stack(each, 1)
    hits = np.argmin(sums / tokens, axis=1) == right
    outputs, labels = of_rows(task)
    rows = np.arange(len(right))
    np.testing.assert_allclose(outputs[:, 0], sums[rows, right], rtol=1e-5)
    np.testing.assert_array_equal(outputs[:, 1:], np.stack([tokens[rows, right], hits], 1))
    found = [
        jax.jit(task.objectives[name])(task.params, task.frozen, batch)
        for name in ("nll", "accuracy")
    ]
    expected = sums[rows, right].sum() / tokens[rows, right].sum()
    np.testing.assert_allclose(found, [expected, 1 - hits.mean()], rtol=1e-5)
    assert task.scores(outputs, labels)[""]["accuracy"] == pytest.approx(hits.mean())


def test_an_answer_is_compared_with_all_right_ones(tmp_path):
    folder = model_folder(tmp_path, "llama")
    rows = [
        {"title": "", "context": f"w{i}", "question": "Who ran?", "answers": ["Ann", f"w{i} ran"]}
        for i in range(20)
    ]
    task = lm.prompt_task(folder, written(tmp_path, rows), "squad", "norms", stop=".")
    (batch,) = task.split("held_out")
    written_by = jax.eval_shape(task.outputs, task.params, task.frozen, batch)
    assert written_by.shape == (4, 3 + batch["label"].shape[1])
    ids = {word: 5 + WORDS.index(word) for word in WORDS}
    texts = [[ids["Ann"], -1], [ids["the"], ids["ran"]], [ids["Who"], -1], [-1, -1]]
    outputs = np.array(
        [[2.0, 2, row, *text] for row, text in zip(batch["row"], texts, strict=True)]
    )
    found = task.scores(outputs, None)[""]
    assert found == pytest.approx({"NLL": 1.0, "F1": (1 + 2 / 3) / 4, "exact": 1 / 4})


def test_shots_demonstrations_and_held_out_rows(tmp_path):
    folder, path = model_folder(tmp_path, "llama"), written(tmp_path, reviews(40))
    options = dict(weights=folder, path=path, template="sst2", params="norms")
    seen = {}
    for seed in (0, 1):
        task = lm.prompt_task(**options, shots=3, seed=seed)
        batches, rows = task.batches(0, 64), set()
        for batch in (next(batches), next(batches)):
            texts = [tuple(row[row > 0]) for row in batch["tokens"]]
            rows |= set(zip(texts, batch["label"].tolist(), strict=True))
        seen[seed] = rows
    assert all(len(rows) <= 6 and {y for _, y in rows} == {0, 1} for rows in seen.values())
    assert seen[0] != seen[1]
    with pytest.raises(ValueError, match=r"shots must be at most \d+, .*label '\w+', got 30"):
        lm.prompt_task(**options, shots=30)
    task = lm.prompt_task(**options, held_out=written(tmp_path, reviews(12, 7), "test.jsonl"))
    assert sum(len(batch["label"]) for batch in task.split("held_out")) == 12
    assert sum(len(batch["label"]) for batch in task.split("validation")) == 10
    plain, solved = (lm.prompt_task(**options, in_context=n).split("held_out") for n in (0, 2))
    short, long = plain[0]["tokens"][0], solved[0]["tokens"][0]
    row = short[short > 0]
    assert list(long[long > 0][-len(row) :]) == list(row) and long[long > 0].size > 2 * 3 + len(row)
    with pytest.raises(ValueError, match="in_context must be from 0 to 24 training rows, got 25"):
        lm.prompt_task(**options, in_context=25)


def test_what_does_not_fit_is_refused_before_anything_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "jit", None)
    path, llama = written(tmp_path, reviews(20)), model_folder(tmp_path, "llama")
    roberta = model_folder(tmp_path, "roberta")
    with pytest.raises(ValueError, match="template must be one of sst2, .*, got 'sst'"):
        lm.prompt_task(llama, path, "sst", "norms")
    with pytest.raises(ValueError, match="an encoder writes no text; take a decoder"):
        lm.prompt_task(roberta, written(tmp_path, causes(20), "copa.jsonl"), "copa", "norms")
    with pytest.raises(ValueError, match="in_context is for decoders"):
        lm.prompt_task(roberta, path, "sst2", "norms", in_context=1)
    long = written(tmp_path, [row | {"sentence": "w1 " * 20} for row in reviews(20)], "long.jsonl")
    with pytest.raises(ValueError, match="has 26 tokens, but the model has room for 14"):
        lm.prompt_task(roberta, long, "sst2", "norms")
    with pytest.raises(ValueError, match="must have one mask, got 2"):
        lm.jsonl_task(
            roberta, written(tmp_path, pairs(), "t.jsonl"), "norms", prompt="{} {mask} {mask}"
        )
    for adapter, message in [
        (lm.Adapter(rank=0), "rank and alpha must be positive, got 0 and 16.0"),
        (lm.Adapter(targets=("head",)), "targets must be of .*'output'.* got 'head'"),
    ]:
        with pytest.raises(ValueError, match=message):
            lm.prompt_task(llama, path, "sst2", "lora", adapter=adapter)


def pairs():
    return [{"text": f"w{i}", "label": ("great", "terrible")[i % 2]} for i in range(20)]


def test_pairs_and_adapters_of_one_s_own_size(tmp_path):
    folder = model_folder(tmp_path, "roberta")
    path = written(tmp_path, pairs())
    adapter = lm.Adapter(rank=2, targets=("key", "up"))
    task = lm.jsonl_task(folder, path, "lora", prompt="{} It was {mask}.", adapter=adapter)
    shapes = {name: array.shape for name, array in task.params["layers"].items()}
    sides = {"key": (16, 16), "up": (16, 24)}
    assert shapes == {
        f"{name}_{part}": (3, side[0], 2) if part == "a" else (3, 2, side[1])
        for name, side in sides.items()
        for part in "ab"
    }
    batch = task.split("validation")[0]
    assert (batch["tokens"][np.arange(4), batch["position"]] == 3).all()
    plain = lm.jsonl_task(folder, path, "norms").split("validation")[0]
    assert (plain["tokens"][:, 0] == 0).all() and (plain["position"] > 1).all()
