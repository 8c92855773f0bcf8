"""The way of a user on the command line: evaluate, train, extend, save, generate; and what is refused."""

import csv
import json
import re

import numpy as np
import pytest

from tests.lm.test_prompt_task import model_folder, reviews, written
from zojax import lm
from zojax.examples import finetune
from zojax.lm.__main__ import COMMANDS, main


def printed(capsys, *options, run=main):
    assert run([*map(str, options)]) == 0
    return capsys.readouterr().out


@pytest.mark.slow  # test_saving.py trains, saves and generates; test_finetune.py extends and logs a run
def test_my_folder_my_file_evaluate_train_extend_save_generate(tmp_path, capsys):
    folder, path = model_folder(tmp_path, "llama"), written(tmp_path, reviews(40))
    task = ["--weights", folder, "--task", path, "--template", "sst2"]
    before = json.loads(printed(capsys, "evaluate", *task, "--json"))
    assert before["rows"] == 8 and 0 < before["NLL"] < 10
    options = [*task, "--params", "lora", "--rank", "2", "--targets", "query", "output"]
    options += ["--batch", "8", "--learning-rate", "0.3", "--mu", "0.1", "--shots", "6"]
    options += [
        "--evaluate-every",
        "2",
        "--checkpoint",
        tmp_path / "run",
        "--csv",
        tmp_path / "c.csv",
    ]
    options += ["--save", tmp_path / "tuned", "--out", tmp_path / "x.png", "--metrics"]
    printed(capsys, *options, "--steps", "2", run=finetune.main)
    report = printed(capsys, *options, "--steps", "4", run=finetune.main)
    assert "mezo on sst2, lora" in report and "zero-shot" in report
    rows = list(csv.DictReader(open(tmp_path / "c.csv")))
    assert [row["step"] for row in rows] == list("01234") and rows[4]["c_norm"]
    assert [bool(row["NLL"]) for row in rows] == [True, False, True, False, True]
    np.testing.assert_allclose(float(rows[0]["NLL"]), before["NLL"], rtol=1e-6)
    tuned = ["--weights", tmp_path / "tuned", *task[2:]]
    after = json.loads(printed(capsys, "evaluate", *tuned, "--json"))
    np.testing.assert_allclose(after["NLL"], float(rows[4]["NLL"]), rtol=1e-4)
    text = printed(capsys, "generate", *tuned[:2], "--new", "4", "--json", "w1 It was")
    assert json.loads(text)["prompt"] == "w1 It was"


@pytest.mark.parametrize(
    "options, message",
    [
        (["--template", "rte"], "line 1 of .* has no column 'premise'; rte needs premise, hypoth"),
        (["--template", "sst"], "--template must be one of sst2, sst5, .*, got sst"),
        (["--template", "sst2", "--prompt", "{}"], "--template sst2 has a prompt; leave out"),
        (["--shots", "3"], "--shots 3 is for --template, which was not given"),
        (["--template", "sst2", "--shots", "99"], "shots must be at most"),
        (["--template", "sst2", "--shots", "0"], "--shots must be positive, got 0"),
        (["--template", "sst2", "--evaluate-every", "0"], "--evaluate-every must be positive"),
        (["--template", "sst2", "--params", "lora", "--rank", "0"], "rank and alpha must be posi"),
        (["--template", "sst2", "--params", "prefix", "--positions", "0"], "at least 1, got 0"),
        (["--template", "sst2", "--log", "a", "--checkpoint", "b"], "give one of them"),
        (["--template", "sst2", "--csv", "no/such/file"], "No such file"),
        ([], "text and label or prompt and completion"),
    ],
)
def test_what_does_not_fit_ends_with_status_2_before_training(options, message, tmp_path, capsys):
    folder, path = model_folder(tmp_path, "llama"), written(tmp_path, reviews(20))
    given = ["--weights", folder, "--task", path, "--out", tmp_path / "x.png", *options]
    with pytest.raises(SystemExit) as caught:
        finetune.main([*map(str, given)])
    assert caught.value.code == 2 and re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--in-context", "2"], "--in-context is for --template, which is missing"),
        (["--template", "sst2", "--in-context", "99"], "in_context must be from 0 to 12 tra"),
        (["--template", "sst2", "--prompt", "{}"], "has a prompt; leave out --prompt"),
    ],
)
def test_bad_options_of_evaluate_end_with_status_2(options, message, tmp_path, capsys):
    folder, path = model_folder(tmp_path, "llama"), written(tmp_path, reviews(20))
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "--weights", str(folder), "--task", str(path), *options])
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_templates_are_listed_with_their_columns(capsys):
    text = printed(capsys, "templates")
    assert all(f"{name}  (" in text for name in lm.templates.TEMPLATES)
    assert "columns  premise/sentence1, hypothesis/sentence2, label/gold_label" in text
    assert printed(capsys, "templates", "squad").count("\n") == 3
    with pytest.raises(SystemExit):
        main(["templates", "sst"])
    assert "NAME must be one of sst2," in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_lists_commands_and_fits_a_screen_s_width(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"] if command else ["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0 and max(map(len, text.splitlines())) <= 110
    assert command or all(name in text for name in COMMANDS)
