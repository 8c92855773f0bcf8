"""The benchmark harness: ratios, refusals, fits, tables, and that every section can be imported."""

import importlib.util
import json
import subprocess
import sys

import pytest

import zojax
from benchmarks import contests, environments, measure, page, quality, workers
from benchmarks.__main__ import SECTIONS
from benchmarks.__main__ import main as command
from benchmarks.rivals import RIVALS
from zojax.examples import _tasks


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


def _row(name, seconds, peak, **more):
    row = {"work": "sphere, d = 1e+06", "contestant": name, "evaluations": 256, "peak": peak}
    return row | {"ours": "zojax, signs", "floor": "inference", "seconds": seconds} | more


ROWS = [
    _row("inference", [1.0, 1.1, 1.0], 4),
    _row("zojax, signs", [2.0, 2.2, 2.0], 20),
    _row("evosax Open_ES", [40.0, 44.0, 40.0], 3000),
    _row("jax.grad", [0.5, 0.5, 0.5], 4),
    {k: v for k, v in _row("zoopt", [], 0, failed="lists").items() if k != "seconds"},
]


def test_tables_name_the_fastest_peer_and_say_why_a_row_is_empty():
    line = page.versus(ROWS)[0]
    assert line["fastest peer"] == "evosax Open_ES"  # neither a derivative nor the floor
    assert line["peer / zojax, time"] == pytest.approx(20)
    assert line["peer / zojax, peak"] == pytest.approx(150)
    assert [r["met"] for r in page.targets(ROWS)] == ["yes", "no", "no", "no"]
    assert contests.table(ROWS)[-1]["ms"] == "lists"


def test_a_slower_contest_is_printed_as_lost():
    slower = [
        r | {"seconds": [90.0, 90.0, 90.0]} if r["contestant"][:2] == "zo" else r for r in ROWS
    ]
    assert page.versus(slower[:3])[0]["lost"] == "lost"
    assert "lost" not in page.versus(ROWS)[0]


def test_places_of_a_page_are_written_anew_and_twice_is_once():
    text = "a\n<!-- begin x -->\nold\n<!-- end -->\nb"
    once = page.fill(text, {"x": "new"})
    assert "old" not in once and "new" in once and once.endswith("\nb")
    assert page.fill(once, {"x": "new"}) == once
    with pytest.raises(KeyError):
        page.fill(text, {})


def test_a_failing_contestant_is_a_row_with_the_reason():
    work = {"name": "sphere", "settings": {"d": 20_000}, "evaluations": 4}
    with pytest.raises(workers.Failed, match="Python lists"):
        workers.Worker("zoopt", work, limit=120)


def test_a_worker_steps_and_tells_its_memory():
    work = {"name": "sphere", "settings": {"d": 100}, "evaluations": 4}
    worker = workers.Worker("zojax, signs", work, limit=120)
    assert worker.facts["peak"] > 0 and worker.facts["compile_seconds"] > 0
    assert worker.step() > 0
    assert worker.close()["rss"] > 10**7


def test_a_missing_environment_is_not_made_unasked(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(environments.Unavailable, match="--make torch"):
        environments.python_of("torch", make=False)


@pytest.mark.parametrize("name", ["mezo", "jax.grad checkpointed, adam"])
def test_a_loss_curve_falls_and_counts_evaluations(name):
    task = _tasks.TASKS["digits"]("full", 0)
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
    assert content["rows"] == [{"a": 1.0}] and "jaxlib" in content["environment"]
    assert "| a |" in capsys.readouterr().out
    assert measure.saved("trial", "a device") == [{"a": 1.0}] and not measure.saved("other", "b")


def test_a_quick_run_of_everything_ends_well():
    """In an environment without the other libraries: their rows say so."""
    command = [sys.executable, "-m", "benchmarks", "--quick"]
    done = subprocess.run(command, cwd=workers.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    quick = [name for name, section in SECTIONS.items() if section.quick and section.default]
    ends = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[-len(quick) :])
    assert list(ends) == quick and all(end.endswith(" s") for end in ends.values())
