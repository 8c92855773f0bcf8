"""The benchmark harness: turns, ratios, failures, files, tables, and that every section exists."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import (
    environments,
    harness,
    page,
    problems,
    races,
    store,
    summary,
    tables,
    targets,
    worker,
    works,
)
from benchmarks.contestants import (
    CONTESTANTS,
    code,
    compiling,
    cosine,
    decoding,
    evosax,
    naive,
    perturbed,
    search,
    searches,
    self_check,
    shardes,
    training,
)
from benchmarks.harness import Entry, Failed, Options, Worker
from benchmarks.sections import SECTIONS, device, growth, precision, steps
from zojax.examples import _race
from zojax.examples._methods import METHODS

SPHERE = {"name": "sphere", "settings": {"d": 1000}, "evaluations": 4}
TRIO = ["inference", "zojax, signs", "jvp"]
BASES = ("inference", "zojax, signs", "zojax, normal")


def interrupt(*_):
    raise KeyboardInterrupt


def test_contestants_take_turns_and_each_has_every_round():
    order = []
    timers = {name: (lambda n=name: order.append(n) or 1.0) for name in "abc"}
    seconds = harness.in_turn(timers, {"a": 4, "b": 2, "c": 4})
    assert seconds == {"a": [1.0] * 4, "b": [1.0] * 2, "c": [1.0] * 4}
    assert all(sorted(order[i : i + 3]) == list("abc") for i in (0, 3))
    assert all(sorted(order[i : i + 2]) == list("ac") for i in (6, 8))


def test_a_ratio_is_of_pairs_and_is_omitted_where_it_means_nothing():
    drift, ones, far = [1.0, 2.0, 4.0, 8.0], [1.0] * 5, [1.0, 1.0, 1.0, 1.0, 9.0]
    clear = {
        3: [([3 * t for t in drift], drift), ([3.0, 6.0, 3.0], [1.0, 2.0, 1.0, 9.0])],
        "": [([], ones)],
        "few rounds": [([2.0, 2.0], [1.0, 1.0]), ([2.0], [1.0, 1.0, 1.0])],
        # Of few rounds all must agree, of more the quartiles.
        "noisy": [([1.0, 9.0, 1.0, 9.0], ones), (far[1:], ones)],
        1: [(far, ones)],
    }
    for told, pairs in clear.items():
        for pair in pairs:
            found = summary.clear(summary.ratio(*pair))
            assert found == (told if isinstance(told, str) else pytest.approx(told))
    told = [tables.quartiles(summary.ratio(some, ones)) for some in (far[1:], far[:2])]
    assert told == ["1.00 to 9.00", ""]


def test_an_exponent_is_found_again_and_a_step_has_none():
    sizes = [1, 10, 100, 1000]
    assert summary.exponent(sizes, [3 * s**1.5 for s in sizes]) == pytest.approx(1.5)
    for values in ([1.72, 1.72, 1.74, 15.4], [44.5, 85.4, 85.4, 85.4], [0, 1, 4, 16]):
        assert summary.exponent([1, 4, 16, 64], values) == "no power"
    assert summary.exponent([1], [3.0]) == "no power"


def test_short_steps_are_repeated_in_a_turn_and_long_ones_are_not():
    seconds = iter([0.05, 3.0, 1.0, 0.5, 0.0, *[2.0] * 20])
    assert [harness.often(lambda: next(seconds)) for _ in range(3)] == [2.0, 0.5, 2.0]


class Fake:
    """A contestant of one second a step, which fails at one thing, if at any."""

    FAILS = {"zojax, signs": "step", "jvp": "close", "naive vmap": "start"}

    def __init__(self, name, entry=None, options=None, first=0.1, values=(), log=None):
        self.name, self.values, self.log = name, values, [] if log is None else log
        self.facts = {"first": first, "peak": 4, "amount": 1}
        self._tell("start", None)

    def _tell(self, what, answer):
        self.log.append((what, self.name))
        if self.FAILS.get(self.name) == what:
            raise Failed(f"no {what}")
        if (self.name, what) == ("two forwards", "step"):
            raise KeyboardInterrupt
        return answer

    def step(self):
        return self._tell("step", 1.0)

    turn = step

    def close(self):
        return self._tell("close", {"values": self.values} if self.values else {"rss": 400})

    def end(self):
        self.log.append(("end", self.name))


def run(names, turns=None, together=True, of_fake=None, **options):
    entry = Entry(
        "a", *SPHERE.values(), names, BASES if turns is None else tuple(names[:1]), turns, together
    )
    start = lambda *args: Fake(*args, **(of_fake or {}))  # noqa: E731
    return harness.contest(entry, names, Options(**options), start)


def test_one_that_fails_is_a_row_and_the_others_go_on():
    floor, *failed = run([*TRIO, "naive vmap"], rounds=6)
    assert floor["run"]["commit"] == store.commit() and "failed" not in floor
    assert floor["seconds"] == {"median": 1.0, "low": 1.0, "high": 1.0, "n": 6}
    assert floor["over"]["inference"]["n"] == 6 and floor["rss"] == 400 and "rounds" not in floor
    assert [row["failed"] for row in failed] == ["no step", "no close", "no start"]
    assert not any("seconds" in row for row in failed)
    assert tables.contest([floor, *failed])[1]["ms"] == "no step"


@pytest.mark.parametrize("first, rounds", [(0.1, 5), (50.0, 1)])
def test_slow_contestants_take_five_rounds_whatever_the_budget(monkeypatch, first, rounds):
    monkeypatch.setattr(harness, "SHORT", 0.01)
    (row,) = run(["inference"], of_fake={"first": first}, rounds=6, budget=0)
    assert row["seconds"]["n"] == rounds


def test_seeds_are_counted_exactly_and_a_compiled_program_takes_no_step():
    log = []
    fake = {"values": [1.0, 3.0, 8.0], "log": log}
    _, pycma = run(["zoopt", "pycma"], turns=3, of_fake=fake)
    assert sum(what == "step" for what, _ in log) == 4  # the first was taken at the start
    assert pycma["values"]["mean"] == 4 and pycma["values"]["median"] == 3
    (row,) = run(["zoopt"], turns=0, of_fake=fake)
    assert "seconds" not in row and row["peak"] == 4 and sum(w == "step" for w, _ in log) == 4


def test_every_process_is_ended_also_by_an_interrupt_and_before_the_next_if_alone():
    log = []
    run(["inference", "jvp"], together=False, of_fake={"log": log}, rounds=1)
    turns = [(what, name) for name in ("inference", "jvp") for what in ("start", "end")]
    assert [entry for entry in log if entry[0] in ("start", "end")] == turns
    log.clear()
    with pytest.raises(KeyboardInterrupt):
        run(["inference", "two forwards"], of_fake={"log": log})
    assert {("end", "inference"), ("end", "two forwards")} <= set(log)


def test_amounts_of_work_divide_the_seconds():
    given = {"inference": ([2.0] * 3, {"amount": 1}), "forward": ([10.0] * 3, {"amount": 10})}
    made = rows(given, ("inference",))
    assert made[1]["over"]["inference"]["median"] == 0.5 and made[1]["seconds"]["median"] == 10
    assert tables.rates(made)[1] | {"speed over base": 2, "per second": 1} == tables.rates(made)[1]


def test_contestants_that_were_not_chosen_keep_their_rows_and_no_ratio_is_of_two_runs():
    entry, ratios = Entry("a", *SPHERE.values(), TRIO, BASES), dict.fromkeys(BASES, {"median": 2.0})
    old = [{"work": "a", "contestant": n, "seconds": 1, "over": ratios} for n in TRIO[:2]]
    new = {"work": "a", "contestant": "inference", "seconds": 7, "over": {}}
    rows = harness.merged(entry, [new], old)
    assert [row["contestant"] for row in rows] == TRIO
    assert [row.get("seconds") for row in rows] == [7, 1, None]
    assert list(rows[1]["over"]) == ["zojax, signs", "zojax, normal"]
    assert rows[2]["failed"] == "not measured" and harness.merged(entry, [], rows) == rows


ANSWER = """printf '{"first": 0.1, "told": [%s, "%s", "%s"]}\\n' "$3" "$JAX_ENABLE_COMPILATION_CACHE" \\
"$XLA_PYTHON_CLIENT_PREALLOCATE"
while read word; do [ $word = stop ] && echo '{"rss": 7}' && exit; echo '{"seconds": 2.5}'; done"""


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Starts a contestant with a shell script in the place of its Python."""

    def start(text, options=Options(), **entry):  # noqa: B008
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setattr(environments, "python_of", lambda *_: path)
        return Worker("PyTorch MeZO", Entry("a", *SPHERE.values(), [])._replace(**entry), options)

    return start


def test_a_worker_compiles_anew_is_told_where_zojax_runs_and_steps(started):
    one = started(ANSWER, Options(platform="gpu", target="h100"))
    assert one.facts["told"] == [["PyTorch MeZO", SPHERE, "gpu", True, "h100"], "false", "false"]
    assert one.turn() == 2.5 and one.close() == {"rss": 7}
    alone = started(ANSWER, together=False, turns=0)
    assert alone.facts["told"][2] == "true" and alone.facts["told"][0][3] is False
    alone.end()


DEATHS = {
    'echo \'{"failed": "lists"}\'': "lists",
    "echo one >&2; echo two >&2; exit 3": "two",
    "exit 3": "exit status 3",
    "kill -9 $$": "killed, probably out of memory",
    "sleep 60": "over 0.1 s",
}


@pytest.mark.parametrize("text", DEATHS)
def test_a_worker_that_dies_tells_its_reason(started, text):
    with pytest.raises(Failed, match=re.escape(DEATHS[text])):
        started(text, Options(limit=0.1 if "sleep" in text else 60))


def test_an_interrupt_leaves_no_process_that_is_starting(monkeypatch, started):
    made, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: made.append(popen(*a, **k)) or made[0])
    monkeypatch.setattr(harness.select, "select", interrupt)
    with pytest.raises(KeyboardInterrupt):
        started("sleep 60")
    assert made[0].poll() == -9


def test_a_contestant_prepares_donates_steps_and_tells_its_memory():
    answers, request = [], ["jax.grad", SPHERE, jax.default_backend()]
    worker.serve(request, ["step\n", "stop\n", "step\n"], answers.append)
    ready, step, end = answers
    assert 4000 <= ready["peak"] < 6000 and ready["parameters"] == 4000  # the old ones are donated
    assert ready["versions"]["optax"] == environments.versions(["optax"], sys.path)["optax"]
    assert "jaxlib" in ready["versions"] and ready["compile_seconds"] > 0
    assert step["seconds"] > 0 and end["rss"] > 10**7
    answers.clear()
    worker.serve([*request, False], ["stop"], answers.append)
    assert "first" not in answers[0] and answers[0]["peak"] == ready["peak"]


def test_a_contestant_that_cannot_take_part_says_why(monkeypatch):
    with pytest.raises(ValueError, match="its JAX runs on a cpu, zojax on a gpu"):
        worker.prepare("inference", SPHERE, "gpu")
    with pytest.raises(
        ValueError, match="not above 10,000 parameters: its points are Python lists"
    ):
        worker.prepare("zoopt", SPHERE | {"settings": {"d": 20_000}}, "cpu")
    told = {"bytes_limit": 100, "bytes_in_use": 40}
    monkeypatch.setattr(worker.Path, "read_text", lambda _: "MemAvailable:  10 kB")
    monkeypatch.setattr(worker.Path, "exists", lambda _: True)
    assert worker.free_memory() == 6144  # a part of a machine, and all of a device
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(memory_stats=lambda: told)])
    assert worker.free_memory() == 100
    with pytest.raises(MemoryError, match="it needs .* GB, more than its 1e-07 GB"):
        worker.prepare("forward", SPHERE, "cpu")


def test_a_failure_is_a_line_with_its_reason():
    missing = ModuleNotFoundError("No module", name="nosuch")
    errors = [ImportError("no name", name="zojax"), missing, ValueError("first\nsecond"), OSError()]
    reasons = ["no name", "not installed: nosuch", "first", "OSError"]
    assert list(map(worker.reason_of, errors)) == reasons


def rows(given: dict, bases=BASES):
    entry = Entry("sphere", *SPHERE.values(), [], bases)
    made = [{"contestant": n, "amount": 1, "rounds": r} | more for n, (r, more) in given.items()]
    about = {"work": "sphere", "evaluations": 256, "bases": list(bases)}
    return [about | row for row in harness.summarised(entry, made)]


ROWS = rows(
    {
        "inference": ([1.0, 1.1, 1.0], {"peak": 4}),
        "zojax, signs": ([2.0, 2.2, 2.0, 99.0], {"peak": 20, "rss": 400}),
        "zojax, normal": ([5.0, 5.5, 5.0], {"peak": 20}),
        "evosax Open_ES": ([40.0, 44.0, 40.0], {"peak": 3000, "rss": 100}),
        "jax.grad": ([0.5, 0.5, 0.5], {"peak": 4}),
        "jvp": ([0.9, 0.9, 0.9], {"peak": 4}),
        "zoopt": ([], {"failed": "lists"}),
    }
)


def test_tables_name_the_fastest_peer_and_say_why_a_row_is_empty():
    (line,) = tables.versus(ROWS)
    assert line["fastest peer"] == "evosax Open_ES"  # neither a derivative nor the floor
    assert line["time, peer / zojax"] == pytest.approx(20)  # of common rounds
    assert line["with normals"] == pytest.approx(8)
    assert line["peak, peer / zojax"] == 150 and line["RSS, peer / zojax"] == 0.25
    lines = {line["contestant"]: line for line in tables.contest(ROWS)}
    assert lines["zoopt"]["ms"] == "lists" and lines["zoopt"]["quartiles"] == ""
    assert lines["inference"]["quartiles"] == "0.500 to 0.500"
    told = [lines[name]["evaluations"] for name in ("evosax Open_ES", "jax.grad", "jvp")]
    assert told == [256, "gradient", "128 jvps"]


@pytest.mark.parametrize("default, ratio", [([2.0] * 4, 2), ([1.0, 9.0, 1.0, 9.0], "noisy")])
def test_the_default_batch_size_is_compared_with_the_best(default, ratio):
    names = "low rank, 4 at once", "low rank, default at once"
    (line,) = growth.batches(rows({names[0]: ([1.0] * 4, {}), names[1]: (default, {})}, names))
    assert line["default / best"] == ratio and (line["best"], line["directions"]) == (4, 128)


def test_places_of_a_page_are_written_anew_and_twice_is_once():
    text = "a\n<!-- begin x -->\nold\n<!-- end -->\nb"
    once = page.fill(text, {"x": "new"})
    assert "old" not in once and "new" in once and once.endswith("\nb")
    assert page.fill(once, {"x": "new"}) == once
    with pytest.raises(KeyError):
        page.fill(text, {})


def test_another_device_has_a_page_of_its_own_and_leaves_the_pages_alone(tmp_path):
    pages = [path.read_text() for path in page.PAGES]
    store.save(tmp_path / "a-gpu", "sphere", ROWS, {})
    (tmp_path / "empty").mkdir()
    page.write(tmp_path)
    text = (tmp_path / "a-gpu" / "README.md").read_text()
    assert "# Results: a-gpu" in text and "evosax Open_ES" in text and "(peers.png)" in text
    assert page.EMPTY not in text and not (tmp_path / "empty" / "README.md").exists()
    assert [path.read_text() for path in page.PAGES] == pages


def test_a_file_is_written_whole_or_not_at_all_with_versions(monkeypatch, tmp_path):
    store.save(tmp_path, "trial", [{"a": 1}], {"device": "cpu"})
    told = json.loads((tmp_path / "trial.json").read_text())["environment"]
    assert {"processor", "commit", "device"} <= set(told) and "optax" in told["packages"]
    monkeypatch.setattr(store.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.save(tmp_path, "trial", [{"a": 2}], {})
    assert store.load(tmp_path, "trial") == [{"a": 1}] and not store.load(tmp_path, "other")


@pytest.fixture
def trial(monkeypatch, tmp_path):
    """Runs the command with sections of two works, whose contest is an argument."""
    device = {"backend": "cpu", "device": "cpu"}
    monkeypatch.setattr(command, "found_device", lambda wanted: device)
    monkeypatch.setattr(page, "PAGES", ())
    entries = [Entry(label, *SPHERE.values(), ["inference"], ("inference",)) for label in "ab"]
    sphere = SECTIONS["sphere"]._replace(entries=entries, quick=entries)
    monkeypatch.setattr(command, "SECTIONS", {"sphere": sphere, "mlp": sphere})

    def start(*argv, contest=lambda *_: pytest.fail("it ran")):
        monkeypatch.setattr(harness, "contest", contest)
        return command.main(["--results", str(tmp_path), *argv])

    return start


def measured(entry, names, options):
    rows = [{"work": entry.label, "evaluations": 4, "contestant": name} for name in names]
    return harness.summarised(entry, [row | {"amount": 1, "rounds": [2.0] * 3} for row in rows])


def test_what_is_done_is_kept_where_an_interrupt_ends_the_run(monkeypatch, trial, tmp_path, capsys):
    def contest(entry, *rest):
        return interrupt() if entry.label == "b" else measured(entry, *rest)

    monkeypatch.setattr(page, "write", lambda *_: pytest.fail("nobody waits for pictures"))
    assert trial("sphere", "mlp", contest=contest) == 130
    kept = store.load(tmp_path / "cpu", "sphere")
    assert [row.get("failed") for row in kept] == [None, "not measured"]
    lines = capsys.readouterr().out.splitlines()
    assert "| a | inference | 4 | 2,000 | 1.00 |" in lines
    assert "Interrupted." in lines[-3] and lines[-1].split() == ["sphere", "interrupted"]


def test_a_section_that_fails_is_a_line_and_a_trial_keeps_nothing(trial, tmp_path, capsys):
    failures = [RuntimeError("no room")]

    def contest(*args):
        if failures:
            raise failures.pop()
        return measured(*args)

    for option in ("--quick", "--dry"):
        assert trial("mlp", option, contest=measured) == 0 and not list(tmp_path.iterdir())
    assert trial("sphere", "mlp", contest=contest) == 1
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[-2:]]
    assert lines == [["sphere", "failed: no room"], ["mlp", "0 s"]]
    assert len(store.load(tmp_path / "cpu", "mlp")) == 2


@pytest.mark.parametrize("text", ['{"rows": [', "[]", "{}", ""])
def test_a_broken_file_or_folder_is_named_before_anything_is_measured(trial, tmp_path, text):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "sphere.json").write_text(text)
    for argv in (["--tables"], ["sphere"]):
        with pytest.raises(SystemExit, match=r"cpu.sphere\.json holds no results .*delete it"):
            trial(*argv)
    with pytest.raises(SystemExit, match="sphere.json cannot be written .*--results"):
        trial("sphere", "--results", str(tmp_path / "cpu" / "sphere.json"))


def test_on_a_gpu_no_contestant_starts_after_eight_minutes(monkeypatch, trial, tmp_path):
    """Each contestant that does not fit beside another is kept as it ends."""
    alone = [Entry("a", **SPHERE, contestants=["inference", "zojax, signs"], together=False)]
    section = SECTIONS["sphere"]._replace(entries=alone, devices=("gpu",))
    monkeypatch.setattr(command, "SECTIONS", {"sphere": section})
    found = {"backend": "gpu", "device": "a gpu"}
    monkeypatch.setattr(command, "found_device", lambda wanted: found)
    kept = []

    def contest(entry, names, options):
        kept.append((len(store.load(tmp_path / "a-gpu", "sphere")), names, options.left()))
        return measured(entry, names, options)

    assert trial("--device", "gpu", contest=contest) == 0
    assert trial("sphere", "--device", "gpu", contest=contest) == 0
    assert [names for _, names, _ in kept] == 2 * [["inference"], ["zojax, signs"]]
    assert [rows for rows, *_ in kept] == [0, 2, 2, 2]
    assert all(470 < left <= 480 for *_, left in kept[:2]) and kept[2][2] == np.inf


def test_a_contestant_without_time_left_is_a_row():
    entry = Entry("a", *SPHERE.values(), ["inference"])
    (row,) = harness.contest(entry, ["inference"], Options(until=0.0))
    assert row["failed"] == "no time left" and "seconds" not in row


def test_options_that_name_nothing_count_nothing_or_contradict_are_refused(trial, capsys):
    for option in ("--contestants", "--only"):
        with pytest.raises(SystemExit, match=f"{option} 'nosuch' matches none of '"):
            trial("sphere", option, "*", "nosuch")
    cases = {("--rounds", n): f"'{n}' is no number of times" for n in ("0", "-1", "x")}
    cases |= {("nosuch",): "section 'nosuch' is none of sphere"}
    for also in (("sphere",), ("--quick",), ("--device", "cpu")):
        cases["--tables", *also] = "--tables measures nothing"
    for argv, message in cases.items():
        with pytest.raises(SystemExit):
            trial(*argv)
        assert message in capsys.readouterr().err


def test_a_missing_gpu_is_said_plainly(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "AssertionError")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(SystemExit, match="no gpu found by JAX"):
        command.main(["--device", "gpu", "--dry"])


def test_every_name_of_zojax_that_a_benchmark_imports_exists():
    """Most contestants are imported in a process of their own, beside a peer that is rarely installed."""
    for path in Path(command.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("zojax"):
                exec(ast.unparse(node), {})


def test_every_section_contestant_and_place_exists(capsys):
    for section in SECTIONS.values():
        assert len({entry.label for entry in section.entries}) == len(section.entries) > 0
        for entry in [*section.entries, *section.quick]:
            assert {*entry.contestants, *entry.bases} <= set(CONTESTANTS)
            modules = {CONTESTANTS[name].module for name in entry.contestants}
            assert not modules & {"inference", "ours", "noise"} or entry.name in works.GRADIENTS
            assert not modules & {"search_ours"} or entry.name in works.OTHERS
    for contestant in CONTESTANTS.values():
        assert importlib.util.find_spec(f"benchmarks.contestants.{contestant.module}")
        assert contestant.environment in (None, *environments.ENVIRONMENTS)
    parts = page.all_parts(store.RESULTS)
    for path in page.PAGES:
        page.fill(path.read_text(), parts)
    assert command.fitting("gpu") == list(device.SECTIONS)
    assert "opt" not in command.fitting("cpu") and "sphere" in command.fitting("cpu")
    assert {"opt", "sphere"} < set(command.fitting("cpu", quick=True))
    assert command.main(["--list"]) == 0 and "sphere" in capsys.readouterr().out


def test_a_gpu_has_jax_for_it_in_every_environment_with_jax(monkeypatch):
    assert environments.JAX in environments.ENVIRONMENTS["shardes"].requirements
    monkeypatch.setattr(shutil, "which", str)
    spec = importlib.util.spec_from_file_location("_again", environments.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert again.JAX.startswith("jax[cuda12]==") and environments.JAX != again.JAX


def test_a_missing_environment_is_not_made_unasked_and_tried_once(monkeypatch, tmp_path):
    tried = []

    def offline(command):
        tried.append(command)
        raise environments.Unavailable("no network")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(environments, "_run", offline)
    environments._refused.cache_clear()
    for make, message in ((False, "--make torch"), *[(True, "no network")] * 3):
        with pytest.raises(environments.Unavailable, match=message):
            environments.python_of("torch", make=make)
    environments._refused.cache_clear()
    assert len(tried) == 1


@pytest.mark.parametrize(
    "make, name", [(targets.h100, "jax-cuda12-plugin"), (targets.v5e, "libtpu")]
)
def test_a_compiler_that_is_not_installed_is_named(monkeypatch, make, name):
    def nothing(name):
        raise targets.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(targets.metadata, "version", nothing)
    with pytest.raises(ModuleNotFoundError, match=f"{name} is not installed"):
        make()


def test_pytorch_runs_where_zojax_does(monkeypatch):
    torch, seen = ModuleType("torch"), []
    torch.nn = ModuleType("torch.nn")
    torch.nn.functional, torch.set_grad_enabled = None, lambda _: None
    torch.cuda = SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch.nn", torch.nn)
    mezo = importlib.import_module("benchmarks.contestants.torch_mezo")
    del sys.modules[mezo.__name__]
    monkeypatch.setitem(mezo.WORKS, "sphere", lambda device: (seen.append(device), None))
    for platform in ("cpu", "gpu"):
        mezo.build("sphere", {}, 2, platform)
    with pytest.raises(ValueError, match="PyTorch finds no tpu here"):
        mezo.build("sphere", {}, 2, "tpu")
    assert seen == ["cpu", "cuda"]


def test_naive_estimates_agree_and_draw_each_direction_once():
    work, found = works.make("mlp", {"batch": 2, "widths": (8, 3)}, 8), []
    params, batch = works.fill(work.params, scale=1.0), works.fill(work.batch, 1, scale=1.0)
    for how in ("vmap", "map"):
        program = naive.build(work, how)
        carry = program.start(params)
        moved = jax.jit(program.step)(carry, batch)[0]
        found.append(jax.tree.map(lambda a, b: a - b, moved, params))
        text = str(jax.make_jaxpr(program.step)(carry, batch))
        assert text.count("erf_inv") == len(jax.tree.leaves(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.1, atol=1e-7), *found)


@pytest.mark.parametrize("name", ["Open_ES", "PGPE", "SNES"])
def test_evosax_perturbs_by_the_radius_of_the_work_and_holds_its_state_alone(name):
    work = works.make("sphere", {"d": 543}, 4)
    before = {id(x) for x in jax.live_arrays()}
    program = evosax.build(work, name)
    assert not [x for x in jax.live_arrays() if x.size == 543 and id(x) not in before]
    carry = program.start(works.fill(work.params))
    np.testing.assert_allclose(carry[0].std, work.mu, rtol=1e-6)
    mean = jax.jit(program.step)(carry, {})[0].mean
    assert np.isfinite(mean).all() and np.any(mean != carry[0].mean)


def test_make_perturbed_fun_evaluates_as_often_as_the_others():
    seen, work = [], works.make("sphere", {"d": 5}, 4)

    def loss(x, batch):
        jax.debug.callback(lambda x: seen.append(1), x)
        return work.loss(x, batch)

    program = perturbed.build(work._replace(loss=loss))
    jax.block_until_ready(program.step(program.start(works.fill(work.params)), {}))
    jax.effects_barrier()
    assert len(seen) == 4


OF_SHARDES = {"mlp": {"batch": 3, "widths": (8, 4, 3)}, "transformer": steps.TINY}


@pytest.mark.parametrize("name", OF_SHARDES)
def test_losses_for_shardes_are_those_of_the_works(monkeypatch, name):
    seams = {"dense": lambda x, w: x @ w.T, "embed": lambda table, ids: table[ids]}
    monkeypatch.setitem(sys.modules, "shardes", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "shardes.nn", SimpleNamespace(**seams))
    work = works.make(name, OF_SHARDES[name], 2)
    params, batch = works.fill(work.params, scale=0.3), works.fill(work.batch, 1)
    loss, rewritten = shardes.WRITTEN[name](OF_SHARDES[name])
    ours, theirs = jax.jit(work.loss), jax.jit(lambda p, batch: loss(rewritten(p), batch))
    np.testing.assert_allclose(theirs(params, batch), ours(params, batch), rtol=1e-5)


def test_a_search_has_bounds_and_seeds_and_beside_estimators_neither(monkeypatch):
    told = []

    def run(fun, box, budget, seed, bounded=True):
        told.append((bounded, budget, seed))
        return min((box.sample(np.random.default_rng(i)) for i in range(budget)), key=fun)

    module = "benchmarks.contestants.searches.pycma"
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(run=run))
    host = search.build(problems.continuous("sphere", 20, budget=4), "pycma")
    host.run()
    host.run()
    search.build(works.make("sphere", {"d": 3}, 5), "pycma").run()
    assert told == [(True, 4, 0), (True, 4, 1), (False, 5, 0)] and host.amount == 4
    facts = host.facts()
    assert len(facts["values"]) == 2 and facts["at"] == [1, 2, 3, 4]
    assert facts["curve"][-1] == pytest.approx(np.mean(facts["values"]), rel=1e-3)


def test_no_search_exceeds_its_budget_and_an_early_end_keeps_its_best_value():
    greedy = searches.play(lambda f, *_: [f([i]) for i in range(99)], lambda x: -x[0], None, 5, 0)
    assert greedy.best.tolist() == [0, -1, -2, -3, -4] and greedy.x.tolist() == [4]
    early = searches.play(lambda f, *_: f([1.0]) and [7.0], lambda x: x[0], None, 3, 0)
    assert early.best.tolist() == [1] * 3 and early.x.tolist() == [7]


def test_compilation_is_timed_in_processor_time_without_a_cache(monkeypatch):
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(1))
    host = compiling.build(works.make(**SPHERE), "forward")
    host.run()
    assert cleared == [1] and host.clock.__name__ == "process_time"


def test_a_step_is_worth_a_mean_of_squares_over_many_keys_if_directions_are_few():
    row = cosine.worth([0.6, -0.6], 4)
    assert row["cosine"] == 0 and row["cosine^2"] == pytest.approx(0.36)
    assert row["standard error"] == pytest.approx(0)
    assert cosine.worth([1.0, 0.0, 1.0, 0.0], 4)["standard error"] == pytest.approx(0.2887, 1e-3)
    found = cosine.build(works.make("sphere", {"d": 50}, 2), "rademacher").facts()
    assert found["standard error"] < 0.05 * found["cosine^2"]
    assert found["cosine^2"] == pytest.approx(1 / 50, rel=0.1)  # of any direction: 1 / d


@pytest.mark.parametrize(
    "name", [pytest.param("mezo", marks=pytest.mark.slow), "jax.grad checkpointed, adam"]
)
def test_a_loss_curve_falls_and_counts_evaluations(monkeypatch, name):
    fast = {"mezo": lambda *_: training.zojax.mezo(0.01, 1e-2, 16)}
    monkeypatch.setattr(training, "optimizer", fast.get(name, training.optimizer))
    work = works.make("training", {"data": "digits", "evaluations": 64, "points": 2})
    host = training.build(work, name)
    host.run()
    row = host.facts()
    assert row["evaluations"] == [0, 32, 64] and row["clock"] == sorted(row["clock"])
    assert row["validation loss"][-1] < row["validation loss"][0]


@pytest.mark.parametrize("loss", races.WORKS)
def test_a_work_of_the_race_trains_by_an_estimate(loss):
    """The estimate hands the batch to the loss by its name."""
    work = races.WORKS[loss]()
    training = _race._training(work, METHODS["mezo"], steps=2, points=3)
    validation, test = jax.eval_shape(training, 0.1, 0)
    assert validation.shape == (4,) and test.shape == ()


def test_seeds_with_a_row_each_are_one_line():
    ends = {"float32": (1.0, 3.0), "bfloat16": (4.0, 6.0)}
    rows = [
        {"work": f"net, seed {i}", "contestant": f"train {dtype}", "before": [5.0]}
        | {"validation loss": [[9.0 - i, ends[dtype][i]]]}
        for i in range(2)
        for dtype in ends
    ]
    failed = {"work": "net, seed 2", "contestant": "train float32", "failed": "slow"}
    wide, narrow = precision.curves([*rows, failed])
    assert (narrow["trained"], narrow["weights"], narrow["seeds"]) == ("net", "bfloat16", 2)
    assert (wide["loss after"], wide["falls by"]) == (2.0, 3.0)
    assert (
        narrow["last from float32, in its std"] == narrow["farthest"] == pytest.approx(3 / 2**0.5)
    )


def test_a_device_is_checked_against_the_cpu_until_its_time_is_over(monkeypatch):
    checks = [("right", lambda: 0.0, 0.0), ("wrong", lambda: 0.1, 0.01)]
    monkeypatch.setattr(self_check, "CHECKS", checks)
    rows = []
    for seconds in (60, 0):
        host = self_check.build(works.make("self-check", {"seconds": seconds}))
        host.run()
        rows.append(host.facts())
    assert [line["agrees"] for line in device.self_check(rows)] == ["yes", "NO"]
    assert device.self_check([{"failed": "no gpu"}]) == [{"check": "no gpu"}]
    apart = self_check.difference(
        {"a": np.ones(2), "b": np.array([4.0, 0])}, {"a": np.ones(2), "b": [2.0, 0]}
    )
    assert apart == 1


def test_source_code_is_counted(monkeypatch, tmp_path):
    (tmp_path / "toy").mkdir()
    text = '"""Toy."""\n\n# why\n\ndef f(a: int, b):\n    """Adds."""\n    return a + b  # sum\n'
    (tmp_path / "toy" / "__init__.py").write_text(text)
    (tmp_path / "toy" / "test_toy.py").write_text("def _g(x): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = code.measure("toy")
    assert (found["files"], found["code lines"]) == (1, 2)
    assert found["annotated public arguments, %"] == 50
    assert found["comment lines / code line"] == found["docstring lines / code line"] == 1


def test_drafts_are_timed_beside_plain_decoding_of_the_same_run(monkeypatch, tmp_path):
    """A plain text that is stored for a replay lends its time to no draft."""
    decoded = []
    programs = SimpleNamespace(run=lambda mu, name, *_: decoded.append(name) or {"tokens": []})
    monkeypatch.setattr(decoding._Texts, "programs", lambda self: programs)
    monkeypatch.setattr(decoding.assets, "cache_dir", lambda: tmp_path)
    about = {"tiny": True, "replayed": False, "sorted": 0, "new": 4, "batch": 1, "mu": 0.1}
    texts = decoding._Texts(SimpleNamespace(names=["plain", "draft"], members=2, **about))
    texts.line(1, 2, 0, 0.1, "plain")
    for _ in range(2):
        assert list(texts.batch(0, np.zeros((1, 4)))) == ["plain", "draft"]
    assert decoded == ["plain", "plain", "draft"]


@pytest.mark.slow
@pytest.mark.parametrize("named", [(), ("decoding", "rewards", "reward-drafts")])
def test_a_quick_run_ends_well(named):
    """All sections of a device, or the named ones. Rows of libraries that are not installed say so."""
    command = [sys.executable, "-m", "benchmarks", "--quick", *named]
    done = subprocess.run(command, cwd=store.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    quick = list(named) or [name for name, section in SECTIONS.items() if section.devices]
    ends = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[-len(quick) :])
    assert list(ends) == quick and all(end.endswith(" s") for end in ends.values())
    if named:  # two evaluated steps of three methods; four texts of two members, and replayed
        assert done.stdout.count("| 2 | 1024 |") == 3
        assert done.stdout.count("| text 12, 3 | 4 |") == 3
        assert done.stdout.count("| the unperturbed text | 2 |") == 1
