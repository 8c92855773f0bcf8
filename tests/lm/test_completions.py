"""Prompts and completions, their losses, and training on what the model writes."""

import collections
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import lm, trajectory
from zojax.examples import finetune
from zojax.lm import llama

FOLDERS = pathlib.Path(__file__).with_name("reference_models")


def slow_f1(written, label):
    """By counting, as SQuAD's script does."""
    shared = sum((collections.Counter(written) & collections.Counter(label)).values())
    if not written and not label:
        return 1.0
    return 2 * shared / (len(written) + len(label))


def test_f1_counts_tokens_as_often_as_they_occur():
    rng, stop, size = np.random.default_rng(0), 3, 6
    rows = [rng.integers(0, 5, (200, size)) for _ in range(2)]
    rows[0][:20], rows[1][:10, 0] = rows[1][:20], stop  # some equal, some empty
    cut = [[list(row[: [*row, stop].index(stop)]) for row in part] for part in rows]
    padded = [np.full((200, size), -1) for _ in rows]
    for part, kept in zip(padded, cut, strict=True):
        for row, tokens in zip(part, kept, strict=True):
            row[: len(tokens)] = tokens
    found = jax.jit(lm.f1, static_argnums=2)(padded[0], rows[1], stop)
    expected = [slow_f1(a, b) for a, b in zip(*cut, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    equal = lm.exact(padded[0], rows[1], stop)
    np.testing.assert_array_equal(equal, [a == b for a, b in zip(*cut, strict=True)])
    assert 0 < np.mean(equal) < np.mean(expected) < 1


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_loss_is_that_of_the_completion_alone(kind):
    model = lm.load(FOLDERS / kind)
    prompts, completions = [[5, 9, 30, 2], [7]], [[11], [40, 41, 8]]
    batch = {
        "tokens": np.array([prompts[0], [7, 0, 0, 0]]),
        "position": np.array([3, 0]),
        "label": np.array([[11, -1, -1], completions[1]]),
    }
    found = jax.jit(lambda p: lm.completion_nll(model, p, batch))(model.params)
    forward = jax.jit(lambda p, text: jax.nn.log_softmax(model.forward(p, text)))
    for row, prompt, completion in zip(found, prompts, completions, strict=True):
        text = np.array([(prompt + completion + [0])[:5]])  # padding at the end changes nothing
        scores = forward(model.params, text)[0]
        expected = [-scores[len(prompt) - 1 + j, t] for j, t in enumerate(completion)]
        np.testing.assert_allclose(row[: len(completion)], expected, rtol=1e-4)
        assert not row[len(completion) :].any()


def make_task(folder, kind, rows=200):
    """Prompts whose first word tells the completion, for a model of random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    model = shutil.copytree(FOLDERS / kind, folder / "model")
    words = ["[UNK]", "good", "</s>", "bad", "yes", "no", "sir", ":", *(f"w{i}" for i in range(30))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(model / "tokenizer.json"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"eos_token_id": 2}))
    rng, lines = np.random.default_rng(0), []
    for i in range(rows):
        rest = " ".join(f"w{j}" for j in rng.integers(0, 30, rng.integers(1, 6)))
        prompt = f"{('bad', 'good')[i % 2]} {rest} :"
        lines.append(json.dumps({"prompt": prompt, "completion": ("no", "yes sir")[i % 2]}))
    (folder / "task.jsonl").write_text("\n".join(lines))
    return ["--weights", str(model), "--task", str(folder / "task.jsonl")]


def settled(given, steps):
    args = finetune.settle(finetune.make_parser().parse_args([*given, "--steps", str(steps)]))
    return args, finetune.make_task(args), finetune.make_optimizer(args)


def train(args, task, tx, **options):
    batches, evaluated = task.batches(0, args.batch), task.split("validation")
    options = {"objective": args.objective, **options}
    return lm.train(task, tx, args.steps, batches, evaluated, **options)


def trained(given, steps):
    args, task, tx = settled(given, steps)
    found = train(args, task, tx)
    scores = [task.scores(found.outputs[k], found.labels)[""] for k in (0, steps)]
    return task, found, scores


STRONG = ["--batch", "32", "--num-directions", "16"]


# The prefixes of the other kinds have a test of their own in test_greedy.py.
KINDS = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("qwen2", "gpt2", "opt")]


@pytest.mark.parametrize("kind", ["llama", *KINDS])
def test_a_prefix_lowers_the_loss(kind, tmp_path):
    given = [*make_task(tmp_path, kind), "--params", "prefix", *STRONG, "--learning-rate", "1"]
    task, found, (before, after) = trained(given, 60)
    assert after["NLL"] < before["NLL"] - 0.3
    assert {n: p.shape[1] for n, p in found.params["layers"].items()} == {
        "prefix_key": 5,
        "prefix_value": 5,
    }


@pytest.mark.slow  # the largest programs of the suite; test_accuracy_rises_by_its_own_steps trains, too
def test_what_the_model_writes_comes_nearer_to_the_completions_and_the_report_says_so(
    tmp_path, capsys
):
    out = tmp_path / "curve.png"
    given = [*make_task(tmp_path, "llama"), *STRONG, "--params", "full", "--objective", "f1"]
    given += ["--mu", "0.1", "--learning-rate", "0.3", "--evaluate-on", "validation"]
    assert finetune.main([*given, "--steps", "60", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines() if line.startswith(("zero", "fine"))]
    before, after = (float(row[2].rstrip("%")) for row in rows[:2])
    assert after > before + 5
    for words in ("NLL        F1     exact", "1 - F1", "evaluations of the loss: 1,920"):
        assert words in printed
    assert out.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        finetune.main([*given, "--objective", "accuracy"])
    assert "--objective accuracy does not fit this task" in capsys.readouterr().err


def test_accuracy_rises_by_its_own_steps():
    given = ["--data", "digits", "--objective", "accuracy", "--mu", "0.1", "--learning-rate", "0.3"]
    task, found, (before, after) = trained(given, 100)
    assert after["accuracy"] > before["accuracy"] + 0.2
    sizes = np.array(found.losses) * 64 * 32  # of a batch, over evaluations
    np.testing.assert_allclose(sizes, np.round(sizes), atol=0.02)


KILLED = """
import os, signal, sys
from zojax.examples import finetune

make = finetune.make_task
def dying(args):
    task = make(args)
    def batches(seed, size):
        for count, batch in enumerate(task.batches(seed, size)):
            if count == 40:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch
    return task._replace(batches=batches)
finetune.make_task = dying
finetune.main(sys.argv[1:])
"""


@pytest.mark.optimized
@pytest.mark.slow  # two processes each; tests/examples/test_finetune.py has this law for the digits
@pytest.mark.parametrize(
    "options",
    [
        ["--params", "lora", "--objective", "nll"],
        ["--params", "prefix", "--objective", "f1"],
        ["--params", "norms", "--learning-rate", "0.1", "--dtype", "bf16"],
    ],
    ids=lambda options: " ".join(options[1::2]),
)
def test_a_killed_run_continues_to_the_bit(options, tmp_path):
    log = str(tmp_path / "log")
    given = [*make_task(tmp_path, "llama", rows=50), *options, "--batch", "4", "--mu", "0.1"]
    command = [sys.executable, "-c", KILLED, *given, "--steps", "44", "--log", log]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert 32 <= trajectory.load(log).steps < 44
    args, task, tx = settled(given, 44)
    continued, whole = train(args, task, tx, log=log), train(args, task, tx)
    assert np.isnan(continued.losses[0]) and not np.isnan(continued.losses[-1])
    for a, b, c in zip(
        *map(jax.tree.leaves, (whole.params, continued.params, task.params)), strict=True
    ):
        assert a.dtype == (jnp.bfloat16 if "bf16" in options else jnp.float32)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
        assert (np.asarray(a) != np.asarray(c)).any()


def test_a_token_of_one_s_own_ends_completions(tmp_path):
    given = [*make_task(tmp_path, "llama", rows=50), "--stop"]
    make = lambda stop: finetune.make_task(  # noqa: E731
        finetune.settle(finetune.make_parser().parse_args([*given, stop]))
    )
    label = np.concatenate([batch["label"] for batch in make(":").split("validation")])
    assert {tuple(row) for row in label} == {(5, 7, -1), (4, 6, 7)}  # "no :" and "yes sir :"
    with pytest.raises(ValueError, match=r"one token .* got 'w1 w2', which is \[9, 10\]"):
        make("w1 w2")


def test_a_text_that_is_too_long_is_refused(tmp_path):
    given = make_task(tmp_path, "gpt2", rows=20)
    path = tmp_path / "task.jsonl"
    row = {"prompt": "good " * 40, "completion": "yes"}
    path.write_text("\n".join([json.dumps(row)] * 20))
    with pytest.raises(ValueError, match="has 40 tokens, but the model has room for 30"):
        trained(given, 1)


def test_an_exported_model_is_read_again_to_the_bit(tmp_path):
    make_task(tmp_path, "llama", rows=10)
    config = llama.Config(vocabulary=61, width=24, layers=3, heads=6, kv_heads=2, hidden=40)
    params = llama.init(jax.random.key(0), config)
    tokenizer = lm.load(tmp_path / "model").tokenizer
    lm.save(tmp_path / "exported", lm.Model(llama, config, params, tokenizer, 2))
    found = lm.load(tmp_path / "exported")
    assert (found.config, found.stop) == (config, 2)
    assert jax.tree.structure(found.params) == jax.tree.structure(params)
    for a, b in zip(*map(jax.tree.leaves, (found.params, params)), strict=True):
        np.testing.assert_array_equal(a, b)
