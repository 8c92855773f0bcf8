"""The command line on the digits, and the parts that the reviews need."""

import csv
import itertools
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from zojax import lm, trajectory
from zojax.examples import _finetune_options, _finetune_report, finetune
from zojax.examples._digits import digits_task
from zojax.lm import assets
from zojax.lm.tasks import _reviews, _reviews_task

REFERENCE = pathlib.Path(__file__).parents[1] / "lm" / "reference_models"


def test_digits_learn_and_the_report_says_so(tmp_path, capsys):
    out = tmp_path / "curve.png"
    assert finetune.main(["--data", "digits", "--steps", "60", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for words in ("best bias", "forward passes", "peak memory", "evaluations of the loss: 1,920"):
        assert words in printed
    assert " 0.0 MiB" not in printed and re.search(r"forward pass \d+\.\d KiB, ratio", printed)
    assert str(out) in printed and out.read_bytes().startswith(b"\x89PNG")


def with_optimizer(optimizer):
    """Its arguments, the task and the optimizer."""
    rate = "0.01" if optimizer in ("adam", "open_es") else "0.03"
    given = ["--data", "digits", "--steps", "60", "--optimizer", optimizer, "--learning-rate", rate]
    args = finetune.settle(finetune.make_parser().parse_args(given))
    return args, digits_task("full", args.seed), finetune.make_optimizer(args)


@pytest.mark.parametrize("optimizer", _finetune_options.OPTIMIZERS)
def test_every_optimizer_steps(optimizer):
    args, task, tx = with_optimizer(optimizer)
    step, batch = lm.make_step(task.objectives["nll"], tx), next(task.batches(0, args.batch))
    carry = task.params, tx.init(task.params)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        jax.eval_shape(step, *carry, task.frozen, batch), carry
    )


@pytest.mark.parametrize("params", _finetune_options.OF_BLOCKS)
def test_blocks_step_by_their_own_optimizer(params):
    """A field of the blocks moves; the rest is frozen."""
    blocks, halves = (4, 2), jnp.ones((4, 2), jnp.float16)
    weights = {"w": lm.Quantized(jnp.zeros((*blocks, 16), jnp.uint8), halves, halves), "g": halves}
    trained, frozen, _ = _reviews_task._blocks(weights, params)
    assert [x.shape for x in jax.tree.leaves(trained)] == [getattr(weights["w"], params).shape]
    chex.assert_trees_all_equal(_reviews_task._joined(trained, frozen), weights)
    args = finetune.settle(finetune.make_parser().parse_args(["--params", params]))
    tx = finetune.make_optimizer(args)

    def loss(p, frozen, batch):
        return jnp.sum(jnp.asarray(_reviews_task._joined(p, frozen)["w"])) + batch

    carry = trained, tx.init(trained)
    found = jax.eval_shape(lm.make_step(loss, tx), *carry, frozen, jnp.float32(0))
    chex.assert_trees_all_equal_shapes_and_dtypes(found, carry)
    other = "mezo" if params == "scales" else "qzo"
    given = finetune.make_parser().parse_args(["--params", params, "--optimizer", other])
    with pytest.raises(ValueError, match="qzo with --params scales, qes with --params integers"):
        finetune.settle(given)


@pytest.fixture
def bars(monkeypatch):
    """The titles and totals of progress bars."""
    import tqdm

    found = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            found.append((self.desc.removesuffix(": "), self.total))

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    return found


# tests/optimizers has the laws of optimizers; here each compiles the same loss again.
DEAR = ("mezo", "zo_sgd", "spsa", "open_es")
SOME = [
    pytest.param(n, marks=[pytest.mark.slow] if n in DEAR else [])
    for n in _finetune_options.OPTIMIZERS
]


@pytest.mark.parametrize("optimizer", SOME)
def test_every_optimizer_lowers_the_loss_under_bars(optimizer, bars):
    args, task, tx = with_optimizer(optimizer)
    batches = task.batches(args.seed, args.batch)
    result = lm.train(task, tx, args.steps, batches, task.split("validation"))
    assert sorted(bars) == sorted([("", 60), *3 * [("evaluating", 1)]])
    assert result.outputs.keys() == {0, 30, 60} and len(result.losses) == 60
    before, after = (lm.score(result.outputs[k], result.labels).nll for k in (0, 60))
    assert after < before - 0.1


def test_a_run_is_kept_and_logged_and_can_be_extended(tmp_path, capsys):
    given = ["--data", "digits", "--num-directions", "2", "--out", str(tmp_path / "curve.png")]
    given += ["--checkpoint", str(tmp_path / "run"), "--csv", str(tmp_path / "run.csv")]
    given += ["--evaluate-every", "2", "--batch", "16"]
    assert finetune.main([*given, "--steps", "3"]) == 0
    rows = list(csv.DictReader(open(tmp_path / "run.csv")))
    assert [row["step"] for row in rows] == list("0123")
    assert [bool(row["NLL"]) for row in rows] == [True, False, True, True]
    note, steps = lm.checkpoint_note(tmp_path / "run")
    assert steps == 3 and note["horizon"] == 3
    args = finetune.settle(finetune.make_parser().parse_args([*given, "--steps", "5"]))
    assert finetune.note_of(args) == note  # an extended run keeps its cosine
    capsys.readouterr()
    for options, message in [
        (["--steps", "2"], "run has 3 steps already, got --steps 2; give more to extend the run"),
        (["--steps", "6", "--batch", "8"], "run is of another run: its --batch is 16, not 8"),
        (["--steps", "6", "--horizon", "6"], "its --horizon is 3, not 6"),
        (["--log", "x"], "--log and --checkpoint both continue a run; give one of them"),
    ]:
        with pytest.raises(SystemExit):
            finetune.main([*given, *options])
        assert message in capsys.readouterr().err


def test_a_cosine_begins_again_after_its_horizon_and_a_constant_stays():
    cosine, constant = (schedule(0.5, 4) for schedule in _finetune_options.SCHEDULES.values())
    decay = optax.cosine_decay_schedule(0.5, 4)
    assert [cosine(i) for i in range(8)] == 2 * [decay(i) for i in range(4)]
    assert {constant(i) for i in range(8)} == {0.5}


def test_a_run_that_diverged_says_so_and_what_to_do(tmp_path, capsys):
    given = ["--data", "digits", "--steps", "6", "--learning-rate", "30"]
    assert finetune.main([*given, "--out", str(tmp_path / "curve.png")]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"diverged: negative log-likelihood 2\.\d before, \S*e\+\d+ after", printed)
    assert "Lower --learning-rate, now 30; try 3." in printed
    widest = max(map(len, printed.split("held-out:")[1].splitlines()[1:8]))
    assert widest < 80  # numbers of 24 digits would break the table


@pytest.mark.parametrize(
    "objective, curve, losses, words, diverged",
    [
        ("nll", {0: 2.0, 9: 1.0}, [2.0, 1.0], [], False),
        (
            "nll",
            {0: 2.0, 9: 2.1},
            [2.0, 1.9],
            ["not improved", "2 before, 2.1 after", "--steps"],
            False,
        ),
        ("nll", {0: 2.0, 9: 49944}, [2.0, 1.0], ["diverged", "5e+04", "--learning-rate"], True),
        ("nll", {0: 2.0, 9: float("nan")}, [2.0, 1.0], ["diverged", "nan after"], True),
        ("nll", {0: float("inf"), 9: 1.0}, [2.0, 1.0], ["was inf", "do not fit"], True),
        ("nll", {0: 2.0, 9: 1.0}, [np.nan, np.nan], ["every evaluation was NaN", "lower mu"], True),
        ("nll", {0: 2.0, 9: 1.0}, [2.0, 2.0], ["100 % of differences are zero"], False),
        ("accuracy", {0: 0.1, 9: 0.3}, [2.0, 1.0], ["not improved", "1 - accuracy"], False),
        ("f1", {0: 0.9, 9: 0.3}, [2.0, 1.0], [], False),
    ],
)
def test_verdicts_have_the_number_and_the_remedy(objective, curve, losses, words, diverged):
    args = finetune.settle(finetune.make_parser().parse_args(["--data", "digits"]))
    args.objective = objective
    tx, params = zojax.mezo(0.1), {"w": jnp.ones(3)}
    state, (first, last) = tx.init(params), losses
    apart = 0.1 * (last - first)  # of a direction's two values
    for loss in losses:
        values = jnp.array([loss + apart, loss - apart])
        _, state = tx.update(None, state, params, values=values)
    text, found = _finetune_report.verdict(args, curve, state)
    assert found is diverged and bool(text) == bool(words)
    for word in words:
        assert word in text


KILLED = """
import os, signal, sys
from zojax.examples import finetune
from zojax.examples._digits import digits_task

task = digits_task("full", 0)
def batches(seed, size):
    for count, batch in enumerate(task.batches(seed, size)):
        if count == 45:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
finetune.TASKS["digits"] = lambda *args: task._replace(batches=batches)
options = ["--data", "digits", "--steps", "60", "--num-directions", "2"]
finetune.main([*options, "--log", sys.argv[1]])
"""


@pytest.mark.optimized
def test_a_killed_run_continues_to_the_bit(tmp_path, capsys):
    given = ["--data", "digits", "--steps", "60", "--num-directions", "2"]
    log = str(tmp_path / "log")
    done = subprocess.run([sys.executable, "-c", KILLED, log], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert 32 <= trajectory.load(log).steps < 60
    args = finetune.settle(finetune.make_parser().parse_args(given))
    task, tx = digits_task("full", 0), finetune.make_optimizer(args)
    evaluated = task.split("held_out")
    continued = lm.train(task, tx, 60, task.batches(0, args.batch), evaluated, log)
    assert "60/60" in capsys.readouterr().err  # the bar counts all steps of the run
    assert trajectory.load(log).steps == 60 and np.isnan(continued.losses[0])
    assert [step for step, _ in trajectory.load(log).seals] == [1, 2, 4, 8, 16, 32, 60]
    whole = lm.train(task, tx, 60, task.batches(0, args.batch), evaluated)
    assert whole.outputs.keys() == continued.outputs.keys()
    for k, expected in whole.outputs.items():
        np.testing.assert_array_equal(continued.outputs[k], expected)
    for a, b in zip(*map(jax.tree.leaves, (whole.params, continued.params)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    with pytest.raises(SystemExit):
        finetune.main([*given, "--log", log, "--seed", "1"])
    assert "its --seed is 0, not 1" in capsys.readouterr().err


@pytest.fixture
def own(tmp_path):
    """A folder with random weights and a tokenizer of words, and texts whose first word tells."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = shutil.copytree(REFERENCE / "llama", tmp_path / "model")
    words = ["[UNK]", "good", "bad", "yes", "no", ":", *(f"w{i}" for i in range(30))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    rng, lines = np.random.default_rng(0), []
    for i in range(200):
        rest = " ".join(f"w{j}" for j in rng.integers(0, 30, rng.integers(1, 6)))
        row = {"text": f"{('bad', 'good')[i % 2]} {rest}", "label": ("no", "yes")[i % 2]}
        lines.append(json.dumps(row))
    (tmp_path / "task.jsonl").write_text("\n".join(lines))
    return ["--weights", str(folder), "--task", str(tmp_path / "task.jsonl"), "--prompt", "{} :"]


@pytest.mark.parametrize(
    "options, gain",
    [
        pytest.param(["--params", "full"], 0.1, marks=pytest.mark.slow),  # as the digits
        # test_export.py trains in bfloat16, tests/lm/test_completions.py trains a prefix.
        pytest.param(["--dtype", "bf16"], 0.0, marks=pytest.mark.slow),
        pytest.param(["--params", "prefix", "--mu", "0.1"], 0.0, marks=pytest.mark.slow),
        (["--params", "lora", "--learning-rate", "0.03"], 0.0),
    ],
)
def test_a_model_and_a_task_of_ones_own(own, options, gain):
    more = ["--steps", "60", "--learning-rate", "0.003", "--mu", "0.03", "--num-directions", "8"]
    args = finetune.settle(finetune.make_parser().parse_args([*own, *more, *options]))
    task = finetune.make_task(args)
    found = lm.train(
        task, finetune.make_optimizer(args), 60, task.batches(0, 32), task.split("validation")
    )
    before, after = (lm.score(found.outputs[k], found.labels).nll for k in (0, 60))
    assert after < before - gain
    dtypes = {p.dtype for p in jax.tree.leaves(found.params)}
    assert dtypes == {jnp.dtype(finetune.DTYPES[args.dtype])}
    trained = set(found.params["layers"])
    assert trained == ({"attention_norm", "mlp_norm"} if args.params == "norms" else trained)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_adapters_change_nothing_at_first_and_are_a_product_of_low_rank(kind):
    model = lm.load(REFERENCE / kind)
    layers = jax.tree.map(jnp.asarray, model.params["layers"])
    tokens = jnp.arange(12).reshape(2, 6)
    made, forward = lm.lora(layers, jax.random.key(0), rank=2), jax.jit(model.forward)

    def logits(extra):
        return forward({**model.params, "layers": {**layers, **extra}}, tokens)

    np.testing.assert_array_equal(logits(made), logits({}))
    drawn = {n: w if n.endswith("_a") else w + 0.1 for n, w in made.items()}
    merged = {n: layers[n] + drawn[f"{n}_a"] @ drawn[f"{n}_b"] for n in ("query", "value")}
    np.testing.assert_allclose(logits(drawn), logits(merged), rtol=1e-4, atol=1e-4)
    assert np.abs(logits(drawn) - logits({})).max() > 1e-2


def test_a_task_says_what_is_wrong_with_it(own, tmp_path):
    weights, path = own[1], tmp_path / "wrong.jsonl"
    for text, message in [
        ('{"text": "a"}', "line 1 of .* text and label or prompt and completion"),
        (
            '{"text": "a", "label": 1}\n{"prompt": "a", "completion": "b"}',
            "line 2 of .* text and label",
        ),
        ('{"prompt": "a", "completion": "b"}\n' * 9, "10 examples at least, got 9"),
        ("\n" + '{"text": "a", "label": 1}\n' * 12, "2 labels at least"),
        ('{"text": "a", "label": "yes"}\n{"text": "b", "label": "yes sir"}\n' * 6, "different"),
        ('{"text": "a", "label": "yes"}\n{"text": "b", "label": " "}\n' * 6, "names of a token"),
        ('{"text": "a", "label": null}', "line 1 of"),
        ('{"prompt": "", "completion": "yes"}\n' * 12, "have no token"),
        ('{"text": "caf\u00e9", "label": 1}', "not in UTF-8"),
    ]:
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError, match=message):
            lm.jsonl_task(weights, path, "full", 0)
    with pytest.raises(ValueError, match="is no file"):
        lm.read_jsonl(tmp_path)
    for prompt in ("hello", "{} {}", "{text}"):
        with pytest.raises(ValueError, match="one {} for the text"):
            lm.jsonl_task(weights, own[3], "full", 0, prompt=prompt)
    with pytest.raises(ValueError, match="go together"):
        finetune.settle(finetune.make_parser().parse_args(["--weights", weights]))
    with pytest.raises(ValueError, match="--dtype bfloat16 is for --weights"):
        finetune.settle(finetune.make_parser().parse_args(["--dtype", "bfloat16"]))


def test_lines_end_where_json_lines_end(tmp_path):
    path, text = tmp_path / "task.jsonl", "one\u2028two\x85three"
    row = json.dumps({"text": text, "label": 1}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join([row] * 10).encode())
    assert lm.read_jsonl(path).inputs == [text] * 10


def test_a_tokenizer_that_fills_up_or_cuts_is_used_without(own):
    from tokenizers import Tokenizer

    path = pathlib.Path(own[1]) / "tokenizer.json"
    plain = lm.jsonl_task(own[1], own[3], "norms", 0, prompt=own[5]).split("held_out")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_padding(length=30)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(path))
    found = lm.jsonl_task(own[1], own[3], "norms", 0, prompt=own[5]).split("held_out")
    for a, b in zip(plain, found, strict=True):
        np.testing.assert_array_equal(a["tokens"], b["tokens"])
    tokenizer.add_tokens([f"more{i}" for i in range(200)])
    tokenizer.save(str(path))
    with pytest.raises(ValueError, match="do not belong together"):
        lm.jsonl_task(own[1], own[3], "norms", 0, prompt="{} more199")


def test_texts_have_the_room_that_the_model_has(own):
    folder = pathlib.Path(own[1]).parent / "gpt"
    shutil.copytree(REFERENCE / "gpt2", folder)
    shutil.copy(pathlib.Path(own[1]) / "tokenizer.json", folder)
    room = lm.load(folder).config.positions
    path = folder / "task.jsonl"
    for words, fits in ((room, True), (room + 1, False)):
        rows = [
            {"text": " ".join(["w1"] * words), "label": ("yes", "no")[i % 2]} for i in range(20)
        ]
        path.write_text("\n".join(map(json.dumps, rows)))
        if fits:
            task = lm.jsonl_task(folder, path, "norms", 0, prompt="{}")
            batch = next(task.batches(0, 4))
            assert batch["tokens"].shape == (4, room)
            assert np.isfinite(jax.jit(task.objectives["nll"])(task.params, task.frozen, batch))
        else:
            with pytest.raises(ValueError, match=f"has {words} tokens"):
                lm.jsonl_task(folder, path, "norms", 0, prompt="{}")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("config.json", "{", "is not JSON"),
        ("config.json", "[]", "must hold an object"),
        (
            "config.json",
            '{"model_type": "llama", "num_attention_heads": 2}',
            "has no 'hidden_size'",
        ),
        (
            "config.json",
            '{"model_type": "llama", "num_attention_heads": 0, "hidden_size": 8}',
            "num_attention_heads=0; it must be at least 1",
        ),
        ("model.safetensors", "garbage", "not a safetensors file"),
        ("tokenizer.json", "{}", "is not a tokenizer"),
    ],
)
def test_a_broken_folder_says_which_file(own, name, content, message):
    (pathlib.Path(own[1]) / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        lm.load(own[1])


def test_a_log_is_of_one_run(own, tmp_path, capsys):
    given = [*own, "--steps", "2", "--batch", "4", "--out", str(tmp_path / "x.png")]
    given += ["--log", str(tmp_path / "log")]
    assert finetune.main(given) == 0
    for option, then, now in [
        ("--seed", "0", "1"),
        ("--batch", "4", "8"),
        ("--horizon", "2", "3"),
        ("--schedule", "'cosine'", "constant"),
        ("--rank", "8", "4"),
        ("--mu", "0.01", "0.1"),
        ("--learning-rate", "0.001", "0.1"),
        ("--num-directions", "1", "2"),
        ("--direction", "'rademacher'", "normal"),
        ("--optimizer", "'mezo'", "adam"),
    ]:
        with pytest.raises(SystemExit):
            finetune.main([*given, option, now])
        error = capsys.readouterr().err
        assert f"its {option} is {then}, not " in error and now in error.split(", not ")[1]


@pytest.mark.parametrize("file, option", [(1, "--weights"), (3, "--task")])
def test_a_log_is_of_files_that_have_not_changed(own, tmp_path, capsys, file, option):
    """Also of weights that are not trained: adapters alone are the same on any base."""
    given = [*own, "--params", "lora", "--batch", "4", "--out", str(tmp_path / "x.png")]
    given += ["--steps", "2", "--log", str(tmp_path / "log")]
    assert finetune.main(given) == 0
    path = pathlib.Path(own[file])
    path = path / "model.safetensors" if path.is_dir() else path
    changed = bytearray(path.read_bytes())
    changed[-3] ^= 1
    path.write_bytes(changed)
    with pytest.raises(SystemExit):
        finetune.main(given)
    assert f"its digest of {option} is" in capsys.readouterr().err


def test_a_log_with_a_shorter_note_is_continued_or_says_why_not(tmp_path):
    given = ["--data", "digits", "--steps", "4", "--num-directions", "2"]
    args = finetune.settle(finetune.make_parser().parse_args(given))
    task, tx, note = digits_task("full", 0), finetune.make_optimizer(args), finetune.note_of(args)
    step = lm.make_step(task.objectives["nll"], tx)
    batch = next(task.batches(0, args.batch))
    state = step(*jax.tree.map(jnp.copy, (task.params, tx.init(task.params))), task.frozen, batch)[
        1
    ]
    old = {name: note[name] for name in ("data", "objective", "batch", "seed")}
    for name, kept in [("old", old), ("none", None), ("number", 5)]:
        with trajectory.Recorder(tmp_path / name, tx, task.params, note=kept) as recorder:
            recorder.append(state)
    finetune.check_log(tmp_path / "old", tx, task.params, note)
    args.horizon = 5
    other = finetune.make_optimizer(args)
    with pytest.raises(ValueError, match="another optimizer: its direction, its inner"):
        finetune.check_log(tmp_path / "old", other, task.params, finetune.note_of(args))
    for name in ("none", "number"):
        with pytest.raises(ValueError, match="not recorded by this command"):
            finetune.check_log(tmp_path / name, tx, task.params, note)


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        finetune.main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--data", "--params", "--optimizer", "--direction", "--seed", "--out"):
        assert option in printed


@pytest.mark.parametrize(
    "given, message",
    [
        (["--params", "norms"], "--params norms does not fit --data digits; it takes full."),
        (["--steps", "0"], "--steps must be positive, got 0; try 1000."),
        (["--mu", "-1"], "--mu must be positive, got -1.0; try 0.01."),
        (["--learning-rate", "nan"], "--learning-rate must be finite, got nan; try 0.1."),
        (["--seed", "-1"], "--seed must be from 0 to"),
        (["--prompt", "{}"], "--prompt '{}' is for --weights"),
        (["--weights", "a", "--task", "b"], "--data digits does not go with --weights"),
        (["--out", "curve.xyz"], "--out curve.xyz must end in one of"),
        (["--out", "/proc/no/curve.png"], "cannot be written"),
        (["--log", "/no/such/folder/log"], "No such file"),
    ],
)
def test_wrong_arguments_end_the_program_with_advice(given, message, capsys):
    with pytest.raises(SystemExit) as caught:
        finetune.main(["--data", "digits", *given])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_failed_download_ends_the_program_with_advice(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOJAX_CACHE", str(tmp_path))
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: no index")
    monkeypatch.setattr(assets.subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(SystemExit) as caught:
        finetune.main([])
    assert caught.value.code == 2
    assert "--data digits" in capsys.readouterr().err


def test_reviews_are_labelled_by_the_sign_of_a_clear_score():
    table = "1\t2.5\tgreat\n2\t-0.5\tmeh\r\n3\t-1\tbad\twith a tab\n4\t-3\tgreat\n"
    found = _reviews.parse(table)
    assert found.texts == ["great", "bad\twith a tab"]
    assert found.labels.tolist() == [1, 0]


def test_short_reviews_pass_the_frozen_layers_once(monkeypatch):
    tokenizers = pytest.importorskip("tokenizers")
    texts = ["good", "bad", "good " * 9, "bad bad"]
    words = "Review : Sent iment good bad negative positive".split()
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "good")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    sizes = dict(vocabulary=8, width=4, layers=18, heads=1, kv_heads=1, hidden=4)
    config = lm.llama.Config(**sizes)
    model = lm.Model(lm.llama, config, lm.llama.init(jax.random.key(0), config), tokenizer)
    monkeypatch.setattr(_reviews_task._smollm2, "smollm2", lambda quantized: model)
    part = _reviews.Reviews(texts, np.array([1, 0, 1, 0], np.int32))
    monkeypatch.setattr(_reviews, "reviews", lambda: _reviews.Splits(part, part, part))
    task = lm.reviews_task("shifts", longest=4)
    (held_out,) = task.split("held_out")
    assert held_out["label"].tolist() == [1, 0, 0]
    first, again = (next(task.batches(0, 2)) for _ in range(2))
    assert first["hidden"] is again["hidden"] and sorted(first["label"]) == [0, 1]


def test_batches_are_balanced_padded_and_of_like_length():
    rng = np.random.default_rng(0)
    tokens = [list(range(1, n + 1)) for n in rng.integers(5, 40, 400)]
    labels = np.arange(400, dtype=np.int32) % 2
    spreads = []
    found = lm.balanced((tokens, labels), seed=0, size=8, total=100)
    assert len(found) == 12
    for batch in found:
        assert batch["tokens"].shape[0] == 8 and batch["tokens"].shape[1] % 8 == 0
        assert batch["label"].sum() == 4
        last = batch["tokens"][np.arange(8), batch["position"]]
        np.testing.assert_array_equal(last, batch["position"] + 1)
        assert (batch["tokens"] > 0).sum() == (batch["position"] + 1).sum()
        spreads.append(np.ptp(batch["position"]))
    assert np.mean(spreads) < 8  # of 35
    passes = list(itertools.islice(lm.shuffled(list(range(12)), seed=0), 24))
    assert sorted(passes[:12]) == sorted(passes[12:]) == list(range(12)) != passes[:12]


def test_calibration_undoes_a_bias():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    logits = 2 * np.eye(3)[labels] + rng.normal(size=(500, 3))
    shifted = logits + np.array([0.0, 3.0, -2.0])
    best = lm.calibrated(logits, labels)
    assert best.nll <= lm.score(logits, labels).nll < lm.score(shifted, labels).nll
    assert abs(lm.calibrated(shifted, labels).nll - best.nll) < 1e-5
