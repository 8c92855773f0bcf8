"""The benchmark harness: ratios, refusals, fits, tables, and that every section can be imported."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import jax
import numpy as np
import pytest

import zojax
from benchmarks import (
    accelerators,
    batches,
    compile,
    contests,
    environments,
    measure,
    memory,
    page,
    problems,
    quality,
    scaling,
    step,
    table22,
    turns,
    workers,
    works,
)
from benchmarks.__main__ import SECTIONS
from benchmarks.__main__ import main as command
from benchmarks.peers import PEERS, play
from benchmarks.rivals import RIVALS, evosax, naive, perturbed, search, shardes
from zojax import directions
from zojax.examples.finetune import TASKS


def test_contestants_take_turns_and_each_has_every_round():
    order = []
    timers = {name: (lambda n=name: order.append(n) or 1.0) for name in "abc"}
    seconds = measure.in_turn(timers, {"a": 4, "b": 2, "c": 4})
    assert seconds == {"a": [1.0] * 4, "b": [1.0] * 2, "c": [1.0] * 4}
    assert all(sorted(order[i : i + 3]) == list("abc") for i in (0, 3))
    assert all(sorted(order[i : i + 2]) == list("ac") for i in (6, 8))


def test_a_ratio_is_of_pairs_and_is_refused_where_it_means_nothing():
    drift = [1.0, 2.0, 4.0, 8.0]
    assert measure.cautious([3 * t for t in drift], drift) == pytest.approx(3)
    assert measure.cautious([1.0, 9.0, 1.0, 9.0], [1.0] * 4) == "n/a (spread)"
    assert measure.cautious([2.0, 2.0], [1.0, 1.0]) == "n/a (rounds)"
    assert measure.cautious([2.0], [1.0, 1.0, 1.0]) == "n/a (rounds)"
    assert measure.cautious([3.0, 6.0, 3.0], [1.0, 2.0, 1.0, 9.0]) == pytest.approx(3)


def test_of_few_rounds_all_must_agree_and_of_more_the_quartiles():
    ones, far = [1.0] * 5, [1.0, 1.0, 1.0, 1.0, 9.0]
    assert measure.cautious(far[1:], ones) == "n/a (spread)"
    assert measure.spread(far[1:], ones) == "1 to 9"
    assert measure.spread(far[:2], ones) == ""
    assert measure.cautious(far, ones) == 1 and measure.spread(far, ones) == "1 to 1"


def test_curves_of_some_optimizers_join_those_that_were_there(monkeypatch):
    kept = {}
    before = [{"optimizer": "mezo", "seconds": [1.0]}, {"optimizer": "adam", "seconds": [2.0]}]
    monkeypatch.setattr(quality, "curves", lambda *args: [{"optimizer": "mezo", "seconds": [3.0]}])
    monkeypatch.setattr(quality, "saved", lambda name: before)
    monkeypatch.setattr(quality, "save", lambda name, rows, show: kept.update({name: rows}))
    quality.main(["--part", "loss", "--optimizers", "mezo"])
    assert kept == {"quality": [before[1], {"optimizer": "mezo", "seconds": [3.0]}]}


def test_an_exponent_is_found_again():
    sizes = [1, 10, 100, 1000]
    assert measure.exponent(sizes, [3 * s**1.5 for s in sizes]) == pytest.approx(1.5)


def test_a_step_has_no_exponent():
    for values in ([1.72, 1.72, 1.74, 15.4], [44.5, 85.4, 85.4, 85.4], [0, 1, 4, 16]):
        assert measure.exponent([1, 4, 16, 64], values) == "n/a (no power)"


def test_short_steps_are_repeated_in_a_turn_and_long_ones_are_not(monkeypatch):
    seconds = iter([0.05, 3.0, 1.0, 0.5, 0.0, *[2.0] * 20])
    took = lambda: next(seconds)  # noqa: E731
    assert [turns.often(took) for _ in range(3)] == [2.0, 0.5, 2.0]
    calls = []
    monkeypatch.setattr(measure, "timed", lambda run: run() or 0.09)
    assert measure.interleaved({"a": lambda: calls.append(1)}, 3) == {"a": [0.09] * 3}
    assert len(calls) == 1 + 3 * 2


def _row(name, seconds, peak, **more):
    row = {"work": "sphere, d = 1e+06", "contestant": name, "evaluations": 256, "peak": peak}
    return row | {"ours": "zojax, signs", "floor": "inference", "seconds": seconds} | more


ROWS = [
    _row("inference", [1.0, 1.1, 1.0], 4),
    _row("zojax, signs", [2.0, 2.2, 2.0], 20),
    _row("evosax Open_ES", [40.0, 44.0, 40.0], 3000),
    _row("jax.grad", [0.5, 0.5, 0.5], 4),
    _row("jvp", [0.9, 0.9, 0.9], 4),
    {k: v for k, v in _row("zoopt", [], 0, failed="lists").items() if k != "seconds"},
]


def test_tables_name_the_fastest_peer_and_say_why_a_row_is_empty():
    rows = [r | {"seconds": [*r["seconds"], 99.0]} if r["peak"] == 20 else r for r in ROWS]
    line = page.versus(rows)[0]
    assert line["zojax, ms"] == 2000 and line["quartiles"] == "20 to 20"  # of common rounds
    assert line["fastest peer"] == "evosax Open_ES"  # neither a derivative nor the floor
    assert line["peer / zojax, time"] == pytest.approx(20)
    assert line["peer / zojax, peak"] == pytest.approx(150)
    assert [r["met"] for r in page.targets(ROWS)] == ["yes", *4 * ["no"]]
    lines = {line["contestant"]: line for line in contests.table(ROWS)}
    assert lines["zoopt"]["ms"] == "lists"
    assert [lines[name]["quartiles"] for name in ("inference", "zoopt")] == ["0.5 to 0.5", ""]
    told = [lines[name]["evaluations"] for name in ("evosax Open_ES", "jax.grad", "jvp")]
    assert told == [256, "gradient", "128 jvps"]


def test_a_slower_contest_is_printed_as_lost():
    slower = [
        r | {"seconds": [90.0, 90.0, 90.0]} if r["contestant"][:2] == "zo" else r for r in ROWS
    ]
    assert page.versus(slower[:3])[0]["lost"] == "lost"
    assert "lost" not in page.versus(ROWS)[0]


def test_a_peer_without_a_compilers_peak_has_its_process_compared():
    rows = [
        _row("zojax, signs", [2.0, 2.0, 2.0], 20, rss=400),
        _row("PyTorch MeZO", [4.0, 4.0, 4.0], None, rss=100),
    ]
    line = page.versus(rows)[0]
    assert line["peer / zojax, peak"] == "" and line["peer / zojax, RSS"] == pytest.approx(0.25)


def test_a_target_is_measured_with_normals_too_where_there_is_a_row():
    assert page.targets(ROWS)[0]["measured with normals"] == "not measured"
    rows = [*ROWS, _row("zojax, normal", [5.0, 5.5, 5.0], 20)]
    line = page.targets(rows)[0]
    assert line["measured"] == pytest.approx(20)
    assert line["measured with normals"] == pytest.approx(8)


def test_a_gpu_has_goals_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    works = {"fast": 1.0, "slow": 1.1, "wild": "n/a (spread)"}
    rows = [
        {"work": w, "contestant": "zojax, generation", "/ inference": x} for w, x in works.items()
    ]
    measure.write("population", [*rows, rows[0] | {"contestant": "inference"}], "a gpu")
    steps = {"zojax.mezo, signs": 1.04, "zojax.mezo, normal": 1.06, "naive mezo": 2.0}
    rows = [{"model": "M", "step": s, "/ two forwards": x} for s, x in steps.items()]
    measure.write("step", rows, "a gpu")
    measure.write("sphere", ROWS, "a gpu")
    text = page.device_page(tmp_path / "a-gpu")
    lines = [line.strip("| ").split(" | ") for line in text.split("## goals")[1].splitlines()]
    assert [line[-1] for line in lines[4:9]] == ["yes", "no", "no", "yes", "no"]
    assert lines[5][:4] == ["slow", "throughput / inference", "0.97", "0.909"]
    assert "less memory, aim" not in text


def test_every_contestant_has_a_row_and_what_is_quoted_is_of_a_cpu(monkeypatch):
    entry = contests.CONTESTS["mlp"][0]
    rows = contests.merged(entry, [contests._row(entry, "zojax, low rank")], [])
    assert [row["contestant"] for row in rows] == [*entry.contestants, "HyperscaleES"]
    told = {row["contestant"]: row.get("failed") for row in rows}
    assert told["naive vmap"] == "not measured" and told["zojax, low rank"] is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "HyperscaleES" not in [
        row["contestant"] for row in contests.merged(entry, [], rows[:-1])
    ]


def test_places_of_a_page_are_written_anew_and_twice_is_once():
    text = "a\n<!-- begin x -->\nold\n<!-- end -->\nb"
    once = page.fill(text, {"x": "new"})
    assert "old" not in once and "new" in once and once.endswith("\nb")
    assert page.fill(once, {"x": "new"}) == once
    with pytest.raises(KeyError):
        page.fill(text, {})


def test_another_device_has_a_page_of_its_own_and_leaves_the_pages_alone(monkeypatch, tmp_path):
    pages = [path.read_text() for path in page.PAGES]
    monkeypatch.setattr(page, "PAGES", ())
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    measure.save("sphere", ROWS, "a gpu")
    measure.save("noise", [{"kernel": "signs", "rounds": [1.0, 2.0]}], "a gpu")
    (tmp_path / "empty").mkdir()
    page.write()
    text = (tmp_path / "a-gpu" / "README.md").read_text()
    assert "# Results: a-gpu" in text and "evosax Open_ES" in text and "(peers.png)" in text
    assert "| kernel |\n" in text and page.EMPTY not in text
    assert not (tmp_path / "empty" / "README.md").exists()
    monkeypatch.undo()
    assert [path.read_text() for path in page.PAGES] == pages


def _contest(monkeypatch, tmp_path, *argv):
    """The rows of a small contest's file after a run that starts nothing."""
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # as `main` sets it
    work = ("sphere, d = 1e+06", "sphere", {"d": 4}, 4)
    entry = contests._entry(*work, ["inference", "zojax, signs", "jvp"])
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setitem(contests.CONTESTS, "sphere", [entry])
    ran = lambda entry, names, _: [contests._row(entry, n) | {"seconds": [7.0] * 3} for n in names]  # noqa: E731
    monkeypatch.setattr(contests, "run", ran)
    contests.main(["sphere", *argv])
    return measure.saved("sphere")


def test_contestants_that_were_not_chosen_keep_their_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    measure.save("sphere", ROWS[::-1])
    rows = {
        row["contestant"]: row for row in _contest(monkeypatch, tmp_path, "--contestants", "j*")
    }
    assert rows["jvp"]["seconds"] == [7.0] * 3
    assert {(row["floor"], row["ours"]) for row in rows.values()} == {("inference", "zojax, signs")}
    assert [row for name, row in rows.items() if name != "jvp"] == [
        *ROWS[:2],
        *[row for row in ROWS[:1:-1] if row["contestant"] != "jvp"],
    ]


class _Played:
    """A worker that fails at one thing, if at any."""

    def __init__(self, contestant, *_):
        self.fails = {"zojax, signs": "step", "jvp": "close"}.get(contestant)
        self.facts = {"first": 0.1, "peak": 4}

    def _tell(self, what, answer):
        if self.fails == what:
            raise workers.Failed(f"no {what}")
        return answer

    def step(self):
        return self._tell("step", 1.0)

    def close(self):
        return self._tell("close", {"rss": 400})


OPTIONS = SimpleNamespace(limit=1, quick=False, rounds=6, budget=30, slow=40)


def test_slow_contestants_take_five_rounds_whatever_the_budget(monkeypatch):
    monkeypatch.setattr(contests, "Worker", _Played)
    monkeypatch.setattr(contests, "SHORT", 0.01)
    entry = contests._entry("sphere", "sphere", {"d": 4}, 4, ["inference"])
    options = SimpleNamespace(**vars(OPTIONS) | {"budget": 0})
    assert len(contests.run(entry, ["inference"], options)[0]["seconds"]) == 5


def test_one_that_fails_in_a_turn_or_at_its_end_is_a_row_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(contests, "Worker", _Played)
    names = ["inference", "zojax, signs", "jvp"]
    entry = contests._entry("sphere", "sphere", {"d": 4}, 4, names)
    floor, *failed = contests.run(entry, names, OPTIONS)
    assert floor["run"]["commit"] == measure.commit()
    assert floor["seconds"] == [1.0] * 6 and floor["rss"] == 400 and "failed" not in floor
    assert [row["failed"] for row in failed] == ["no step", "no close"]
    assert not any("seconds" in row for row in failed)
    assert contests.table([floor, *failed])[1]["ms"] == "no step"


@pytest.mark.parametrize("option", ["--contestants", "--works"])
def test_a_pattern_that_matches_nothing_is_an_error_before_anything_runs(
    monkeypatch, tmp_path, option
):
    with pytest.raises(SystemExit, match=f"{option} 'nosuch' matches none of '"):
        _contest(monkeypatch, tmp_path, option, "*", "nosuch")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", [memory, step])
def test_a_model_that_is_not_there_is_an_error_that_lists_them(monkeypatch, module):
    monkeypatch.setattr(sys, "argv", ["", "--only", "nosuch"])
    with pytest.raises(SystemExit, match="'nosuch' is in none of .*'SmolLM2'"):
        module.main()


def test_works_that_are_done_are_kept_where_the_next_one_ends_the_run(monkeypatch, tmp_path):
    entries = [contests._entry(n, "sphere", {"d": 4}, 4, ["inference"]) for n in ("a", "b")]
    before = [contests._row(e, "inference") | {"seconds": [1.0]} for e in entries]
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setitem(contests.CONTESTS, "sphere", entries)
    measure.write("sphere", before)

    def run(entry, names, _):
        if entry.label == "b":
            raise KeyboardInterrupt
        return [contests._row(entry, name) | {"seconds": [2.0]} for name in names]

    monkeypatch.setattr(contests, "run", run)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    with pytest.raises(KeyboardInterrupt):
        contests.main(["sphere"])
    assert [row["seconds"] for row in measure.saved("sphere")] == [[2.0], [1.0]]
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_a_file_is_written_whole_or_not_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    measure.write("trial", [{"a": 1}], "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(measure.os, "replace", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            measure.write("trial", [{"a": 2}], "cpu")
    assert measure.saved("trial", "cpu") == [{"a": 1}]


@pytest.mark.parametrize("argv", [["--tables"], ["--only", "sphere"]])
@pytest.mark.parametrize("text", ['{"rows": [', "[]", "{}", ""])
def test_a_broken_file_is_named_before_anything_is_measured(monkeypatch, tmp_path, argv, text):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "sphere.json").write_text(text)
    with pytest.raises(SystemExit, match=r"cpu.sphere\.json holds no results .*delete it"):
        command(argv)
    with pytest.raises(SystemExit, match=r"cpu.sphere\.json holds no results"):
        _contest(monkeypatch, tmp_path)


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_measured(
    monkeypatch, tmp_path
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "file")
    with pytest.raises(SystemExit, match="file cannot be written .*ZOJAX_RESULTS"):
        command(["--only", "sphere"])
    with pytest.raises(SystemExit, match="cpu cannot be written"):
        _contest(monkeypatch, tmp_path / "file")


def test_an_interrupt_ends_with_what_was_done(monkeypatch, capsys):
    def run(name, *_):
        if name == "mlp":
            raise KeyboardInterrupt
        return "1 s"

    main = sys.modules[command.__module__]
    monkeypatch.setattr(main, "run", run)
    monkeypatch.setattr(main, "platform", lambda *_: "cpu")
    monkeypatch.setattr(page, "write", lambda: pytest.fail("nobody waits for pictures"))
    assert command(["--only", "sphere", "mlp", "mezo"]) == 130
    lines = capsys.readouterr().out.splitlines()
    assert "Interrupted." in lines[1]
    assert [line.split() for line in lines[-2:]] == [["sphere", "1", "s"], ["mlp", "interrupted"]]


def test_an_interrupted_section_is_ended(monkeypatch):
    class Process:
        def __init__(self, *_, **__):
            self.stderr, self.ended = self, []
            started.append(self)

        def __iter__(self):
            raise KeyboardInterrupt

        def kill(self):
            self.ended.append("kill")

        def wait(self):
            self.ended.append("wait")

    started = []
    monkeypatch.setattr(subprocess, "Popen", Process)
    with pytest.raises(KeyboardInterrupt):
        sys.modules[command.__module__].run("noise", False, {})
    assert started[0].ended == ["kill", "wait"]


def test_a_missing_gpu_is_said_plainly(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "AssertionError")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(SystemExit, match="no gpu found by JAX"):
        command(["--device", "gpu"])


def test_what_a_step_is_worth_is_a_mean_of_squares():
    row = quality.worth([0.6, -0.6], 4, 0.5)
    assert row["cosine"] == 0 and row["cosine^2"] == pytest.approx(0.36)
    assert row["standard error"] == pytest.approx(0)
    assert quality.worth([1.0, 0.0, 1.0, 0.0], 4, 1)["standard error"] == pytest.approx(
        0.2887, 1e-3
    )
    assert row["cosine^2 / evaluation"] == pytest.approx(0.09)
    assert row["cosine^2 / second"] == pytest.approx(0.72)


def test_few_directions_have_cosines_of_many_keys(monkeypatch):
    signs = {"rademacher": directions.rademacher()}
    monkeypatch.setattr(quality, "DIRECTIONS", signs)
    (row,) = quality.cosines([1], 3)
    assert row["standard error"] < 0.05 * row["cosine^2"]
    assert row["cosine^2"] == pytest.approx(1 / 2410, rel=0.1)  # of any direction: 1 / d


def test_ratios_of_compilation_are_of_tries_and_all_are_kept(monkeypatch):
    told = {"forward": 1.0, "two_forwards": 1.5, "backward": 3.0, "mezo": 4.0}
    for name in told:
        monkeypatch.setattr(compile, name, lambda *_, n=name: n)
    monkeypatch.setattr(compile, "seconds", lambda lower: told[lower()])
    rows = {row["program"]: row for row in compile.measure("M", None, 5)}
    row = rows["zojax.mezo, signs"]
    assert row["rounds"] == [4.0] * 5 and row["/ two programs of a forward"] == 2
    assert row["/ one program of two forwards"] == pytest.approx(4 / 1.5)
    few = compile.measure("M", None, 2)
    assert {row["/ two programs of a forward"] for row in few} == {"n/a (rounds)"}


@pytest.mark.parametrize("build", scaling.BUILDS.values(), ids=scaling.BUILDS)
def test_steps_of_scaling_donate_their_parameters_and_go_on(build):
    run, _ = scaling.program(build, works.make("sphere", {"d": 100}, 2))
    first, second = (jax.tree.leaves(run())[0] for _ in range(2))
    assert first.is_deleted() and not second.is_deleted()


@pytest.mark.parametrize("direction", [directions.rademacher(), directions.low_rank()])
def test_the_default_batch_size_is_timed_beside_the_others(direction):
    work = works.make("mlp", {"batch": 2, "widths": (8, 4, 3)}, 8)
    row = batches.measure("mlp", work, direction, [1, 4], 3)
    assert row["default, ms"] > 0 and [len(taken) for taken in row["rounds"]] == [3] * 3
    assert row["1, ms"] > 0 and row["4, ms"] > 0 and row["2, ms"] == ""
    assert row["best"] in ("1", "4", "default") and row["directions"] == 4


def test_batches_of_few_or_wild_rounds_have_no_ratio(monkeypatch):
    work = works.make("mlp", {"batch": 2, "widths": (8, 4, 3)}, 8)
    rounds = {"4": [1.0] * 4, "default": [2.0] * 4}
    monkeypatch.setattr(batches, "interleaved", lambda runs, _: rounds)
    row = batches.measure("mlp", work, directions.low_rank(), [4], 4)
    assert row["default / best"] == 2 and row["quartiles"] == "2 to 2"
    rounds["default"] = [1.0, 9.0, 1.0, 9.0]
    row = batches.measure("mlp", work, directions.low_rank(), [4], 4)
    assert row["default / best"] == "n/a (spread)" and row["rounds"] == list(rounds.values())


def test_naive_estimates_agree_and_draw_each_direction_once():
    work = works.make("mlp", {"batch": 2, "widths": (8, 4, 3)}, 8)
    params, batch = works.fill(work.params, scale=1.0), works.fill(work.batch, 1, scale=1.0)
    found = []
    for how in ("vmap", "map"):
        program = naive.build(work, how)
        carry = program.start(params)
        found.append(jax.tree.map(lambda a, b: a - b, program.step(carry, batch)[0], params))
        text = str(jax.make_jaxpr(program.step)(carry, batch))
        assert text.count("erf_inv") == len(jax.tree.leaves(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.1, atol=1e-7), *found)


@pytest.mark.parametrize("name", ["Open_ES", "PGPE", "SNES"])
def test_evosax_perturbs_by_the_radius_of_the_work_and_holds_its_state_alone(name):
    work = works.make("sphere", {"d": 54_321}, 4)
    before = {id(x) for x in jax.live_arrays()}
    program = evosax.build(work, name)
    assert not [x for x in jax.live_arrays() if x.size == 54_321 and id(x) not in before]
    carry = program.start(works.fill(work.params))
    np.testing.assert_allclose(carry[0].std, work.mu, rtol=1e-6)
    mean = jax.jit(program.step)(carry, {})[0].mean
    assert np.isfinite(mean).all() and np.any(mean != carry[0].mean)


class Strategy:
    """As much of pycma as its peer needs, with two points a generation."""

    options: ClassVar = []

    def __init__(self, start, sigma, options):
        self.options.append(options)
        self.countevals, self.result = 0, SimpleNamespace(xfavorite=start)

    def ask(self):
        return [self.result.xfavorite] * 2

    def tell(self, points, values):
        self.countevals += len(values)


def test_pycma_has_bounds_in_the_searches_and_none_beside_estimators(monkeypatch):
    monkeypatch.setitem(sys.modules, "cma", SimpleNamespace(CMAEvolutionStrategy=Strategy))
    monkeypatch.delitem(sys.modules, "benchmarks.peers.pycma", raising=False)
    rival = RIVALS["pycma, diagonal"]
    for settings in ({}, {"bounded": rival.settings["bounded"]}):
        peer = PEERS["pycma"]._replace(settings=PEERS["pycma"].settings | settings)
        play(peer.run, np.sum, problems.box(-1, 1, 3), 4, 0)
    monkeypatch.delitem(sys.modules, "benchmarks.peers.pycma")
    assert [o["bounds"] for o in Strategy.options] == [[[-1] * 3, [1] * 3], [None, None]]


def test_a_search_takes_what_its_row_says(monkeypatch):
    told = {}
    module = SimpleNamespace(run=lambda *_, **settings: told.update(settings) or np.zeros(3))
    monkeypatch.setitem(sys.modules, "benchmarks.peers.pycma", module)
    work = works.make("sphere", {"d": 3}, 4)
    search.build(work, **RIVALS["pycma, diagonal"].settings).run()
    assert told == {"bounded": False}


def test_make_perturbed_fun_evaluates_as_often_as_the_others():
    seen = []
    work = works.make("sphere", {"d": 5}, 4)

    def loss(x, batch):
        jax.debug.callback(lambda x: seen.append(1), x)
        return work.loss(x, batch)

    program = perturbed.build(work._replace(loss=loss))
    jax.block_until_ready(program.step(program.start(works.fill(work.params)), {}))
    jax.effects_barrier()
    assert len(seen) == 4


@pytest.mark.parametrize(
    "name, settings",
    [("mlp", {"batch": 3, "widths": (8, 4, 3)}), ("transformer", contests.TINY)],
)
def test_losses_for_shardes_are_those_of_the_works(monkeypatch, name, settings):
    seams = {"dense": lambda x, w: x @ w.T, "embed": lambda table, ids: table[ids]}
    monkeypatch.setitem(sys.modules, "shardes", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "shardes.nn", SimpleNamespace(**seams))
    work = works.make(name, settings, 2)
    params, batch = works.fill(work.params, scale=0.3), works.fill(work.batch, 1)
    loss, rewritten = shardes.WRITTEN[name](settings)
    np.testing.assert_allclose(loss(rewritten(params), batch), work.loss(params, batch), rtol=1e-5)


def test_ratios_in_tables_are_cautious_and_files_keep_every_round(monkeypatch, tmp_path, capsys):
    far, near = measure.against("base", [1.0, 9.0] * 2, [1.0] * 4), [2.0] * 4
    assert far["/ base"] == "n/a (spread)" and far["rounds"] == [1.0, 9.0] * 2
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    measure.save("trial", [far, measure.against("base", near, near)], "cpu")
    assert "rounds" not in capsys.readouterr().out
    assert measure.saved("trial", "cpu")[0]["rounds"] == [1.0, 9.0] * 2


def test_a_failing_contestant_is_a_row_with_the_reason():
    work = {"name": "sphere", "settings": {"d": 20_000}, "evaluations": 4}
    with pytest.raises(workers.Failed, match="Python lists"):
        workers.Worker("zoopt", work, limit=120)


def test_a_worker_steps_and_tells_its_memory():
    work = {"name": "sphere", "settings": {"d": 100}, "evaluations": 4}
    worker = workers.Worker("zojax, signs", work, limit=120)
    assert worker.facts["platform"] == jax.default_backend()
    assert worker.facts["versions"]["optax"] == environments.versions(["optax"], sys.path)["optax"]
    assert "jaxlib" in worker.facts["versions"] and "cma" not in worker.facts["versions"]
    assert worker.facts["peak"] > 0 and worker.facts["compile_seconds"] > 0
    assert worker.step() > 0
    assert worker.close()["rss"] > 10**7


def test_a_worker_compiles_anew_and_is_told_where_zojax_runs(monkeypatch):
    started = {}

    def start(command, env, **_):
        started.update(env=env, told=json.loads(command[-1]))
        raise workers.Failed("not today")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(workers.Failed):
        workers.Worker("zojax, signs", {"name": "sphere"})
    assert started["told"] == ["zojax, signs", {"name": "sphere"}, "gpu"]
    assert started["env"]["JAX_ENABLE_COMPILATION_CACHE"] == "false"
    assert started["env"]["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_one_that_runs_elsewhere_than_zojax_does_not_take_part():
    work = {"name": "sphere", "settings": {"d": 4}, "evaluations": 2}
    with pytest.raises(ValueError, match="its JAX runs on a cpu, zojax on a gpu"):
        workers.prepare("inference", work, "gpu")


@pytest.mark.parametrize("platform, device", [("cpu", "cpu"), ("gpu", "cuda"), ("tpu", None)])
def test_pytorch_runs_where_zojax_does(monkeypatch, platform, device):
    torch = ModuleType("torch")
    torch.nn = ModuleType("torch.nn")
    torch.nn.functional = None
    torch.cuda = SimpleNamespace(is_available=lambda: True)
    torch.set_grad_enabled = lambda _: None
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch.nn", torch.nn)
    rival = importlib.import_module("benchmarks.rivals.torch_mezo")
    del sys.modules[rival.__name__]
    seen = []
    monkeypatch.setitem(rival.WORKS, "sphere", lambda device: (seen.append(device), None))
    if device is None:
        with pytest.raises(ValueError, match="PyTorch finds no tpu here"):
            rival.build("sphere", {}, 2, platform)
    else:
        rival.build("sphere", {}, 2, platform)
    assert seen == ([device] if device else [])


def test_a_program_may_need_all_of_a_device_and_a_part_of_a_machine(monkeypatch):
    told = {"bytes_limit": 100, "bytes_in_use": 40}
    monkeypatch.setattr(workers.Path, "read_text", lambda _: "MemAvailable:  10 kB")
    monkeypatch.setattr(workers.Path, "exists", lambda _: True)
    assert workers.free_memory() == 6144
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(memory_stats=lambda: told)])
    assert workers.free_memory() == 100


def test_a_gpu_has_jax_for_it_in_every_environment_with_jax():
    assert environments.JAX in environments.ENVIRONMENTS["shardes"].requirements
    told = (
        "import shutil; shutil.which = str; from benchmarks import environments as e; print(e.JAX)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("jax[cuda12]==") and not environments.JAX == done.stdout.strip()


def test_the_opt_shapes_run_unasked_on_a_gpu_and_by_name_on_a_cpu():
    asked = SimpleNamespace(only=None, quick=False)
    main = sys.modules[command.__module__]
    assert "opt" in main.chosen(asked, "gpu") and "opt" not in main.chosen(asked, "cpu")
    assert "sphere" in main.chosen(asked, "cpu") and "sphere" not in main.chosen(asked, "gpu")


def test_a_missing_environment_is_not_made_unasked(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(environments.Unavailable, match="--make torch"):
        environments.python_of("torch", make=False)


def test_an_environment_that_cannot_be_made_is_tried_once(monkeypatch, tmp_path):
    tried = []

    def offline(command):
        tried.append(command)
        raise environments.Unavailable("no network")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(environments, "_run", offline)
    environments._refused.cache_clear()
    for _ in range(3):
        with pytest.raises(environments.Unavailable, match="no network"):
            environments.python_of("torch")
    environments._refused.cache_clear()
    assert len(tried) == 1


@pytest.mark.parametrize(
    "error, reason",
    [(ImportError("a library is broken"), "a library is broken"), (None, "not installed: nosuch")],
)
def test_an_import_that_fails_says_what_is_missing_or_why(monkeypatch, error, reason):
    def prepare(*_):
        raise error or ModuleNotFoundError("No module", name="nosuch")

    told = io.StringIO()
    monkeypatch.setattr(workers, "prepare", prepare)
    monkeypatch.setattr(sys, "argv", ["", '["zoopt", {}, "cpu"]'])
    monkeypatch.setattr(os, "dup", lambda _: 1)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(os, "fdopen", lambda *_, **__: told)
    workers.main()
    assert json.loads(told.getvalue()) == {"failed": reason}


@pytest.mark.parametrize("rounds", ["0", "-1", "x"])
def test_no_rounds_are_no_run(monkeypatch, tmp_path, capsys, rounds):
    for main in (batches.main, lambda argv: _contest(monkeypatch, tmp_path, *argv)):
        with pytest.raises(SystemExit):
            main(["--rounds", rounds])
        assert f"'{rounds}' is no number of times" in capsys.readouterr().err


@pytest.mark.parametrize("also", [["--only", "sphere"], ["--quick"], ["--device", "cpu"]])
def test_tables_alone_go_with_no_option_of_a_run(monkeypatch, capsys, also):
    monkeypatch.setattr(page, "write", lambda: pytest.fail("it wrote the pages"))
    with pytest.raises(SystemExit):
        command(["--tables", *also])
    assert "--tables measures nothing" in capsys.readouterr().err


def test_a_compiler_that_is_not_installed_is_named(monkeypatch):
    def nothing(name):
        raise table22.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(table22.metadata, "version", nothing)
    with pytest.raises(SystemExit, match="jax-cuda12-plugin is not installed"):
        table22.h100()
    with pytest.raises(SystemExit, match="libtpu is not installed"):
        accelerators.v5e()


def test_table_22_is_run_where_there_is_a_gpu_and_compiled_elsewhere(monkeypatch):
    kept = []
    tiny = {"tiny": ((2, 64, 4), 1, None), "66B": ((3, 64, 4), 2, None)}
    monkeypatch.setattr(table22, "OPT", tiny)
    monkeypatch.setattr(table22, "measure", lambda size, sharding: {"OPT": size})
    monkeypatch.setattr(table22, "save", lambda name, rows, device: kept.append(rows))
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # as `main` sets it
    table22.main("here")
    assert [row["OPT"] for row in kept[0]] == ["tiny", "66B"]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    table22.main("here")
    (row,) = kept[1]  # the largest fits no chip
    assert row.keys() > {"mezo / forward", "parameters, 10^9"}
    for name in ("forward", "zojax.mezo", "jax.grad + adam"):
        assert row[f"{name}, s"] > 0 and row[f"{name}, GB"] == "not told"  # by a CPU


def test_a_shape_that_fits_no_device_is_not_tried(monkeypatch):
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 10**7})
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert table22.run(2, 64, 4, "jax.grad + adam") == {"failed": "does not fit"}
    failed = table22.in_process((2, 64, 4), "another program")["failed"]
    assert failed == "KeyError: 'another program'"


@pytest.mark.parametrize("name", ["mezo", "jax.grad checkpointed, adam"])
def test_a_loss_curve_falls_and_counts_evaluations(name):
    task = TASKS["digits"]("full", 0)
    tx, per_step = quality.optimizers(64)[name]
    tx = zojax.mezo(0.01, 1e-2, 16) if name == "mezo" else tx
    row = quality.curve(task, name, tx, per_step, 64, 2, 64, task.split("validation"))
    assert row["evaluations"] == [0, 32, 64]
    assert row["validation loss"][-1] < row["validation loss"][0]
    assert row["seconds"] == sorted(row["seconds"])


def test_every_section_contestant_and_place_exists(capsys):
    for section in SECTIONS.values():
        assert importlib.util.find_spec(f"benchmarks.{section.command[0]}")
    for rival in RIVALS.values():
        assert importlib.util.find_spec(f"benchmarks.rivals.{rival.module}")
        assert rival.environment is None or rival.environment in environments.ENVIRONMENTS
    for entry in [e for c in (contests.CONTESTS, contests.QUICK) for es in c.values() for e in es]:
        assert {*entry.contestants, entry.ours} <= set(RIVALS)
    parts = page.tables()
    for path in page.PAGES:
        page.fill(path.read_text(), parts)
    assert command(["--list"]) == 0 and "sphere" in capsys.readouterr().out


def test_results_are_saved_with_versions(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    measure.save("trial", [{"a": 1.0}], "a device")
    content = json.loads((tmp_path / "a-device" / "trial.json").read_text())
    assert content["rows"] == [{"a": 1.0}]
    told = content["environment"]
    assert {"jaxlib", "processor", "commit"} <= set(told) and "optax" in told["packages"]
    assert "| a |" in capsys.readouterr().out
    assert measure.saved("trial", "a device") == [{"a": 1.0}] and not measure.saved("other", "b")


@pytest.mark.slow
def test_a_quick_run_of_everything_ends_well():
    """In an environment without the other libraries: their rows say so."""
    command = [sys.executable, "-m", "benchmarks", "--quick"]
    done = subprocess.run(command, cwd=workers.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    quick = [name for name, section in SECTIONS.items() if section.quick and section.cpu]
    ends = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[-len(quick) :])
    assert list(ends) == quick and all(end.endswith(" s") for end in ends.values())
