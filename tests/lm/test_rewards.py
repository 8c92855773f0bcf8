"""Training on rewards for generated texts of a tiny random model."""

import concurrent.futures
import itertools
import json
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from tests.lm.test_completions import make_task
from zojax import lm, trajectory
from zojax.lm import llama, rewards
from zojax.lm.__main__ import main
from zojax.lm.rewards._members import make_write_one
from zojax.lm.rewards._training import _next_draft

CONFIG = llama.Config(vocabulary=8, width=16, layers=2, heads=2, kv_heads=1, hidden=16)
MODEL = lm.Model(llama, CONFIG, llama.init(jax.random.key(3), CONFIG))
NEW = 6
PROMPTS = rewards.Prompts(
    np.array([[1, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]]), np.array([4, 2, 1]), [0, 1, 2]
)
OTHER = np.arange(16).reshape(2, 8) % 8
TX = zojax.eggroll(0.02, mu=0.2, population=4, rank=2)
PARAMS, FROZEN = lm.partition(MODEL, "full", 0)


def evens(written, examples):
    return np.mean(written.tokens % 2 == 0, axis=1) + np.array(examples)


def problem(reward=evens, **options):
    options = {"prompts": lambda step: PROMPTS, "new": NEW, "held_out": PROMPTS} | options
    return rewards.Problem(MODEL, PARAMS, FROZEN, reward, **options)


def same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def untimed(rows):
    return [{k: v for k, v in row.items() if k not in ("write", "judge", "update")} for row in rows]


def test_values_ignore_the_difficulty_of_prompts_and_rewards_that_are_not_finite():
    rng = np.random.default_rng(0)
    given = rng.normal(size=(5, 4))
    expected = given.mean() + [np.mean(row - given.mean(axis=0)) for row in given]
    np.testing.assert_allclose(rewards.centred(given), expected, rtol=1e-12)
    damaged = np.where(rng.random(given.shape) < 0.3, np.nan, given)
    damaged[1], damaged[2, 0] = np.nan, np.inf
    found = rewards.centred(damaged)
    assert np.isnan(found).tolist() == [False, True, False, False, False]
    harder = rewards.centred(damaged + [100, 0, -7, 3])
    away = [x - np.nanmean(x) for x in (found, harder)]
    np.testing.assert_allclose(*away, atol=1e-12)


def written_by_members(count):
    """The state before a step, and the texts of its members' materialised parameters."""
    state = TX.init(PARAMS)._replace(count=jnp.int32(count))
    points, _ = TX.estimator.ask(jax.random.fold_in(state.rng_key, count), PARAMS)
    one = make_write_one(MODEL, NEW)
    texts = [
        one(jax.tree.map(lambda leaf, e=e: leaf[e], points), FROZEN, *PROMPTS[:2]) for e in range(4)
    ]
    return state, jax.tree.map(lambda *leaves: np.stack(leaves), *texts)


def test_members_write_what_their_materialised_parameters_write():
    state, expected = written_by_members(5)
    found = rewards.make_write(MODEL, TX, NEW)(PARAMS, state, FROZEN, *PROMPTS[:2])
    same_bits(found, expected)
    assert len({row.tobytes() for row in np.asarray(found.tokens)}) > 2  # members differ
    assert (found.forwards == NEW).all()


@pytest.mark.parametrize("part", ["norms", "lora", "full"])
def test_the_last_layers_and_the_rest_are_the_whole_model(part):
    trained, frozen = lm.partition(MODEL, part, 0, last=1)
    assert all(len(leaf) == 1 for leaf in jax.tree.leaves(trained["layers"]))
    whole = lm.combine(trained, frozen)
    same_bits(lm.merge(whole), MODEL.params)  # LoRA starts at zero
    logits = MODEL.forward(whole, PROMPTS.tokens)
    np.testing.assert_allclose(logits, MODEL.forward(MODEL.params, PROMPTS.tokens), rtol=1e-5)


def test_members_share_the_pass_of_prompts_through_layers_that_are_not_trained():
    tokens, lengths, costs = np.ones((3, 40), int), np.full(3, 40), {}
    for last in (None, 1):
        params, frozen = lm.partition(MODEL, "norms", 0, last=last)
        write = rewards.make_write(MODEL, TX, NEW, shared=4)
        lowered = write.lower(params, TX.init(params), frozen, tokens, lengths)
        costs[last] = lowered.cost_analysis()["flops"]
    assert costs[1] < 1.5 * costs[None]  # XLA counts a scan as one layer; the other one adds 1/4


@pytest.mark.parametrize("part, last", [("norms", 0), ("norms", 2), ("prefix", 1)])
def test_last_layers_that_do_not_fit_are_refused(part, last):
    with pytest.raises(ValueError, match="last "):
        lm.partition(MODEL, part, 0, last=last)


@pytest.mark.slow  # another large program
def test_drafts_of_the_unperturbed_text_change_only_the_number_of_passes():
    state, expected = written_by_members(5)
    text = make_write_one(MODEL, NEW)(PARAMS, FROZEN, *PROMPTS[:2]).tokens
    found = rewards.make_write(MODEL, TX, NEW)(PARAMS, state, FROZEN, *PROMPTS[:2], text)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    assert found.forwards.mean() < 0.8 * NEW
    # A round reads its last token, 4 drafted ones that may all be right, and 2 of another candidate.
    np.testing.assert_array_equal(found.positions, 7 * (found.forwards - 1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, rewards.train(problem(other=OTHER), TX, 6, folder, every=4, draft="none")


def test_the_log_of_scalars_replays_the_run(whole):
    folder, trained = whole
    log = trajectory.load(folder / "run.log")
    same_bits(trajectory.replay(PARAMS, TX, log), trained.params)
    assert [row["step"] for row in trained.held_out] == [0, 4, 6]
    drift = [row["drift"] for row in trained.held_out]
    assert abs(drift[0]) < 1e-6 < drift[1] and drift[2] != drift[1]
    assert trained.steps[-1]["tokens"] == 6 * 4 * 3 * NEW
    assert float(trained.state.value) == pytest.approx(-trained.steps[-1]["reward"], rel=1e-5)


def test_a_run_that_was_cut_off_continues_to_the_bit(whole, tmp_path):
    calls = itertools.count()

    def dying(written, examples):
        if next(calls) == 4:  # an evaluation and three steps are done
            raise KeyboardInterrupt
        return evens(written, examples)

    given = problem(dying, other=OTHER)
    with pytest.raises(KeyboardInterrupt):
        rewards.train(given, TX, 6, tmp_path, every=4, draft="none")
    with open(tmp_path / "steps.jsonl", "a") as file:
        file.write('{"step": 3, "rew')  # a kill cut this line
    trained = rewards.train(given, TX, 6, tmp_path, every=4, draft="none")
    same_bits(trained.params, whole[1].params)
    assert untimed(trained.steps) == untimed(whole[1].steps)
    assert untimed(trained.held_out) == untimed(whole[1].held_out)
    for name in ("steps", "held_out"):
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == getattr(trained, name)


def test_evaluations_of_a_run_are_those_of_its_parameters(whole):
    before, *_, after = whole[1].held_out
    for row, params in ((before, None), (after, whole[1].params)):
        assert rewards.evaluate(problem(other=OTHER), params).items() <= row.items()
    assert before["drift"] == 0 < after["drift"]
    with pytest.raises(ValueError, match="nothing is held out"):
        rewards.evaluate(problem(held_out=None))


def test_rewards_that_fail_are_counted_and_do_not_reach_the_parameters():
    def reward(text, example):
        return {0: lambda: np.inf, 1: lambda: 1 / 0, 2: lambda: 5.0}[example]()

    caught = rewards.each(reward, catch=ZeroDivisionError)
    with pytest.warns(UserWarning, match="the reward of '' failed: ZeroDivisionError"):
        trained = rewards.train(problem(caught, held_out=None), TX, 1, draft="none")
    assert trained.steps[0]["failed"] == 8 and trained.steps[0]["reward"] == 5
    same_bits(trained.params, PARAMS)  # all members are equal on the prompt that counts
    with pytest.raises(ZeroDivisionError):
        rewards.train(problem(rewards.each(reward), held_out=None), TX, 1, draft="none")


def test_a_member_without_a_reward_is_left_out_of_the_step():
    def reward(written, examples):
        found = evens(written, examples)
        found[3:6] = np.nan  # of the second member, in the first pair
        return found

    trained = rewards.train(problem(reward, held_out=None), TX, 1, draft="none")
    assert np.isnan(trained.state.coefficients).tolist() == [True, False]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.params))
    with pytest.raises(ValueError, match="no reward of the step is finite; the first text is ''"):
        rewards.train(problem(lambda w, e: np.full(len(e), np.nan)), TX, 1, draft="none")
    with pytest.raises(ValueError, match=r"one number for each of 3 texts, got shape \(\)"):
        rewards.train(problem(lambda w, e: 1.0), TX, 1, draft="none")


def test_the_share_of_even_tokens_rises():
    before, after = rewards.train(problem(), TX, 40, every=40, draft="none").held_out
    assert after["reward"] > before["reward"] + 0.3


@pytest.mark.slow
def test_a_reward_on_sums_of_two_numbers_rises():
    pairs = [(a, b) for a in range(3) for b in range(3)]
    tokens = np.array([[a, 5, b, 6] for a, b in pairs])
    prompts = rewards.Prompts(tokens, np.full(9, 4), [a + b for a, b in pairs])
    near = rewards.traced(lambda tokens, length, total: 1 - jnp.abs(tokens[0] - total) / 8)
    tx = zojax.eggroll(0.1, mu=0.1, population=64, rank=2)
    given = problem(near, prompts=lambda step: prompts, new=1, held_out=prompts)
    before, after = rewards.train(given, tx, 60, every=60, draft="none").held_out
    assert after["reward"] > before["reward"] + 0.2 and after["reward"] > 0.85


def test_an_executor_scores_texts_in_their_order():
    written = rewards.Written(list("abcdef"), np.zeros((6, 1)), np.ones(6))
    started, threads = threading.Barrier(3), set()

    def slow(text, example):
        started.wait(10)  # three texts at once
        threads.add(threading.get_ident())
        return ord(text) + example

    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        found = rewards.each(slow, executor)(written, range(6))
    assert found.tolist() == [ord("a") + 2 * i for i in range(6)] and len(threads) == 3
    together = rewards.together(lambda texts, examples: np.arange(6.0))
    both = rewards.weighted((2.0, together), (0.5, rewards.matches("[a-c]")))
    assert both(written, [None] * 6).tolist() == [0.5, 2.5, 4.5, 6, 8, 10]


def test_the_faster_way_to_generate_is_chosen_from_the_rows_of_a_run():
    rows = []
    for is_drafted, seconds in [(False, 9), (False, 3), (True, 8), (True, 2), (True, 4)]:
        assert _next_draft("auto", rows) == is_drafted
        rows.append({"draft": is_drafted, "write": seconds})
    slower = rows[:3] + [{"draft": True, "write": 3.5}]
    assert not _next_draft("auto", slower)
    assert _next_draft("text", []) and not _next_draft("none", rows)


@pytest.mark.slow
def test_the_command_trains_continues_and_draws(tmp_path, capsys, monkeypatch):
    weights = make_task(tmp_path, "llama", rows=20)[1]
    (tmp_path / "judge_of_test.py").write_text("def score(text, good): return float('w' in text)")
    monkeypatch.chdir(tmp_path)
    given = ["rl", "--weights", weights, "--data", "task.jsonl", "--reward", "judge_of_test:score"]
    given += ["--folder", "run", "--held-out", "4", "--population", "4", "--new", "3"]
    given += ["--draft", "none", "--format", "w.*"]
    assert main([*given, "--steps", "1"]) == 0
    assert main([*given, "--steps", "2", "--save", "tuned"]) == 0
    printed = capsys.readouterr().out
    assert "step 1: reward" in printed and "step 2: reward" in printed
    assert "one token a pass: " in printed and "model: tuned" in printed
    assert (tmp_path / "run/curve.png").read_bytes()[:4] == b"\x89PNG"
    assert trajectory.load(tmp_path / "run/run.log").steps == 2
    with pytest.raises(SystemExit) as caught:
        main([*given, "--steps", "3", "--mu", "0.5"])
    assert caught.value.code == 2 and "its --mu is 0.04, not 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "give either --task or --data"),
        (["--task", "gcd", "--reward", "a:b"], "--reward belongs to --data"),
        (["--data", "x", "--options", "{}"], "--options belongs to --task"),
        (["--task", "gcd", "--mu", "0"], "--mu must be positive, got 0.0"),
        (["--task", "gcd", "--save", "x"], "--save x needs --weights"),
        (["--task", "gcd", "--options", "[1]"], "must be an object"),
        (
            ["--data", "x", "--reward", "no_judge:f"],
            "start in the folder of no_judge.py, or install",
        ),
        (["--data", "nowhere.jsonl", "--weights", "nowhere"], "nowhere is no folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["rl", "--folder", str(tmp_path / "run"), *options])
    assert caught.value.code == 2 and message in capsys.readouterr().err
