"""Journals: a search that was killed goes on at the same points, and evaluates nothing twice."""

import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from tests.search.engine import _killed
from tests.search.engine._helpers import counted, host_bowl, run
from zojax import search

IN_FLIGHT = {"alone": 1, "batch": 1, "pool": 4}


def fails_somewhere(x):
    if x[0] > 0.5:
        raise RuntimeError("diverged")
    return host_bowl(x), {"first": x[0], "all": x}


def learns(x, report):
    for step in range(5):
        report(step, np.nan if step == 0 else -host_bowl(x) - 1 / step)
    return -host_bowl(x)


def gives_up(x):
    if x[0] > 0.5:
        raise search.Pruned(1, x[0])
    return host_bowl(x)


# Its state depends on the order of reports.
BELOW_THE_LAST = search.Pruner(
    init=tuple,
    report=lambda last, number, step, value: (
        len(last) > 4 and np.isfinite(value) and value > np.median(last),
        (*last, value)[-9:],
    ),
)
SEARCHES = {
    "alone": {"algorithm": search.sracos(), "budget": 40},
    "batches": {"algorithm": search.random_search(7), "budget": 40},
    "runs": {"algorithm": search.random_search(3), "budget": 20, "repeats": 2},
    "starts": {"budget": 30, "init_points": list(np.linspace(-1, 1, 9).reshape(3, 3))},
    "noise": {"algorithm": search.ssracos(), "budget": 110},
    "failures": {"fun": fails_somewhere, "budget": 40, "has_aux": True, "maximize": True},
    "pruned": {"fun": learns, "budget": 40, "maximize": True, "pruner": BELOW_THE_LAST},
    "pruned by fun": {"fun": gives_up, "budget": 40},
}


@pytest.mark.filterwarnings("ignore:an evaluation failed")
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_goes_on_from_any_line(name, tmp_path):
    options = {"fun": host_bowl, "jit": False} | SEARCHES[name]
    fun, path = options.pop("fun"), tmp_path / "log.jsonl"
    whole = run(counted(fun)[0], log=path, **options)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + whole.evaluations
    for kept in (1, 2, len(lines) // 2, len(lines)):
        path.write_bytes(b"".join(lines[:kept]))
        (again_fun, calls), seen = counted(fun), []
        callback = partial(lambda seen, p: seen.append(p.trial), seen)
        again = run(again_fun, callback=callback, log=path, **options)
        assert len(calls) == len(lines) - kept
        assert sum(trial.replayed for trial in seen) == kept - 1
        assert again.best_value == whole.best_value and again.message == whole.message
        np.testing.assert_array_equal(again.history.values, whole.history.values)
        np.testing.assert_array_equal(again.history.points, whole.history.points)
        np.testing.assert_array_equal(again.history.pruned, whole.history.pruned)
        assert again.history.errors == whole.history.errors
        written = [json.loads(line) for line in path.read_bytes().splitlines()]
        before = [json.loads(line) for line in lines]
        for line in (*written, *before):
            line.pop("seconds", None)
        assert written == before


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    whole = run(host_bowl, jit=False, budget=10, log=path)
    data = path.read_bytes()
    last = len(data.splitlines(keepends=True)[-1])
    for cut in (1, last // 2, last - 1):
        path.write_bytes(data[:-cut])
        fun, calls = counted()
        with pytest.warns(UserWarning, match="the last line was cut off"):
            again = run(fun, jit=False, budget=10, log=path)
        assert len(calls) == 1
        np.testing.assert_array_equal(again.history.values, whole.history.values)
    path.write_bytes(data[:-last] + bytes(last - 1) + b"\n")  # as after a power failure
    with pytest.warns(UserWarning, match="the last line was cut off"):
        run(host_bowl, jit=False, budget=10, log=path)
    path.write_bytes(data[:30])  # in the header
    fun, calls = counted()
    run(fun, jit=False, budget=10, log=path)
    assert len(calls) == 10


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    run(host_bowl, jit=False, budget=10, log=path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b"}{\n", *lines[5:]]))
    with pytest.raises(ValueError, match="damaged in line 5: remove it"):
        run(host_bowl, jit=False, budget=10, log=path)


def test_a_file_that_is_no_journal_is_kept(tmp_path):
    path = tmp_path / "notes.txt"
    for text in ("a note", "a note\n", '{"journal": 3}\n'):
        path.write_text(text)
        with pytest.raises(ValueError, match="is no journal of a search: choose another path"):
            run(host_bowl, jit=False, log=path)
        assert path.read_text() == text


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"budget": 11}, r"another budget \(10, now 11\): .* pass state=result.search_state"),
        ({"key": 1}, "another key"),
        ({"maximize": True}, "another maximize"),
        ({"algorithm": search.sracos(), "key": 1}, "another algorithm .* another key"),
        (
            {"space": search.uniform(-1, 2, (3,))},
            r"another space \(Uniform\(.*high=1.* now .*high=2",
        ),
        ({"init_points": [np.zeros(3)]}, "another init_points"),
    ],
)
def test_another_search_is_refused_with_what_differs(changed, message, tmp_path):
    options = {"jit": False, "budget": 10, "log": tmp_path / "log.jsonl"}
    run(host_bowl, **options)
    with pytest.raises(ValueError, match=message):
        run(host_bowl, **(options | changed))


def test_points_of_another_version_are_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    run(host_bowl, jit=False, budget=10, log=path)
    lines = path.read_text().splitlines(keepends=True)
    line = json.loads(lines[3])
    line["x"][0] += 1e-6
    path.write_text("".join([*lines[:3], json.dumps(line) + "\n", *lines[4:]]))
    message = "another point for evaluation 2 of run 0: it was written by"
    with pytest.raises(ValueError, match=message):
        run(host_bowl, jit=False, budget=10, log=path)


def test_two_searches_do_not_share_a_journal(tmp_path):
    path = tmp_path / "log.jsonl"

    def nested(x):
        with pytest.raises(ValueError, match="is being written by another search"):
            run(host_bowl, jit=False, log=path)
        return host_bowl(x)

    assert run(nested, jit=False, budget=3, log=path).failures == 0
    assert run(nested, jit=False, budget=3, log=path).evaluations == 3  # the lock has ended


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_worker_that_outlives_its_parent_does_not_keep_the_lock(tmp_path):
    from zojax.search.engine.journal import Journal

    journal = Journal(tmp_path / "log.jsonl")
    (begun, begins), (ends, end) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.write(begins, b" ")
        os.read(ends, 1)  # outlives the parent's journal
        os._exit(0)
    os.read(begun, 1)
    journal.file.close()
    with Journal(tmp_path / "log.jsonl"):
        pass
    os.write(end, b" ")
    os.waitpid(child, 0)
    for pipe in (begun, begins, ends, end):
        os.close(pipe)


def test_a_journal_keeps_the_key_that_was_drawn(tmp_path):
    path, (fun, calls) = tmp_path / "log.jsonl", counted()
    first = run(host_bowl, jit=False, budget=10, key=None, log=path)
    again = run(fun, jit=False, budget=10, key=None, log=path)
    assert not calls and again.key == first.key
    np.testing.assert_array_equal(again.history.values, first.history.values)


def test_evaluations_in_flight_are_made_again(tmp_path):
    path = tmp_path / "log.jsonl"
    options = {"algorithm": search.asracos(in_flight=3), "budget": 30, "log": path}
    with ThreadPoolExecutor(3) as pool:
        whole = run(host_bowl, executor=pool, **options)
        lines = path.read_bytes().splitlines(keepends=True)
        for kept in (1, 7, 29, 31):
            path.write_bytes(b"".join(lines[:kept]))
            fun, calls = counted()
            again = run(fun, executor=pool, **options)
            assert len(calls) == 31 - kept and again.evaluations == 30
            known = slice(kept - 1)
            np.testing.assert_array_equal(again.history.values[known], whole.history.values[known])
            told = [json.loads(line)["value"] for line in path.read_bytes().splitlines()[1:]]
            np.testing.assert_array_equal(told, again.history.values)


def test_a_batch_is_written_in_the_order_of_its_ends(tmp_path):
    path = tmp_path / "log.jsonl"

    def first_is_slow(x):
        if x[0] == first:
            time.sleep(0.2)
        return host_bowl(x)

    options = {"algorithm": search.random_search(4), "budget": 8}
    first = run(host_bowl, jit=False, **options).history.points[0, 0]
    with ThreadPoolExecutor(4) as pool:
        whole = run(first_is_slow, executor=pool, log=path, **options)
    numbers = [json.loads(line)["number"] for line in path.read_bytes().splitlines()[1:]]
    assert sorted(numbers) == list(range(8)) and numbers.index(0) == 3
    fun, calls = counted()
    again = run(fun, jit=False, log=path, **options)
    assert not calls
    np.testing.assert_array_equal(again.history.values, whole.history.values)


def test_attributes_that_are_no_json_are_refused(tmp_path):
    with pytest.raises(TypeError, match="attributes must be JSON for log=.*use numbers, strings"):
        run(lambda x: (0.0, {"model": object()}), has_aux=True, log=tmp_path / "log.jsonl")


def killed_searches(folder, mode, kills):
    """Runs the search in processes that are killed at random moments, and then to its end."""
    moments = random.Random(0)
    calls = folder / "calls"
    command = [sys.executable, "-m", "tests.search.engine._killed", folder, mode]
    for number in range(kills + 1):
        before = calls.stat().st_size if calls.exists() else 0
        process = subprocess.Popen(command)
        if number == kills:
            assert process.wait() == 0
            return
        while process.poll() is None and (calls.stat().st_size if calls.exists() else 0) == before:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.6 / kills))
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "mode, kills", [("alone", 2), *(pytest.param(m, 20, marks=pytest.mark.slow) for m in IN_FLIGHT)]
)
def test_kills_lose_no_evaluation_and_repeat_only_those_in_flight(mode, kills, tmp_path):
    killed_searches(tmp_path, mode, kills)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()[1:]]
    assert sorted(line["number"] for line in lines) == list(range(_killed.BUDGET))
    calls = (tmp_path / "calls").read_text().splitlines()
    asked = [
        f"{[line['point'][f'x[{i}]'] for i in range(3)]} {line['point']['kind']}" for line in lines
    ]
    assert set(calls) >= set(asked)
    assert _killed.BUDGET <= len(calls) <= _killed.BUDGET + kills * IN_FLIGHT[mode]
    (tmp_path / "whole").mkdir()
    if mode != "pool":  # whose order depends on time
        whole = _killed.run(tmp_path / "whole", mode)
        by_number = sorted(lines, key=lambda line: line["number"])
        assert [line["value"] for line in by_number] == whole.history.values.tolist()
