"""What a recorder survives: interrupts, full disks, and what others do to its file; seals on the way."""

import os
import shutil
import signal
import sys
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from zojax import trajectory
from zojax.trajectory import _codec, _identity, _recorder, _recording

TX = zojax.zeroth_order(optax.inject_hyperparams(optax.sgd)(0.1), key=4)
P0 = {"x": jnp.arange(1.0, 4.0)}
STEPS, CHANGED = 5, 1  # the learning rate changes after the first step


def bowl(params):
    return jnp.sum(params["x"] ** 2)


@pytest.fixture(scope="module")
def run():
    """The parameters and the state before and after every step."""
    carry = [(P0, TX.init(P0))]
    for i in range(STEPS):
        params, state = carry[-1]
        if i == CHANGED:
            changed = {**state.inner_state.hyperparams, "learning_rate": jnp.float32(0.05)}
            state = state._replace(inner_state=state.inner_state._replace(hyperparams=changed))
        updates, state = TX.update(None, state, params, value_fn=bowl)
        carry.append((zojax.apply_updates(params, updates), state))
    return jax.device_get(carry[1:])


@pytest.fixture(scope="module")
def header():
    return _identity.identify(TX, P0)


@pytest.fixture
def recorder_of(monkeypatch, header):
    """Recorders of runs of `TX`, without tracing it each time and without waiting for the disk."""
    monkeypatch.setattr(_identity, "identify", lambda tx, params: dict(header))
    monkeypatch.setattr(_identity, "evaluation", lambda tx, params: "evaluation")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return lambda path, **options: trajectory.Recorder(path, TX, P0, **{"every": 2} | options)


def record(recorder, run):
    """What is left of a run."""
    for params, state in run[recorder.steps :]:
        recorder.append(state, params)


@pytest.fixture
def whole(recorder_of, run, tmp_path):
    """The log of the run, without a seal at its end."""
    with recorder_of(tmp_path / "whole", seal_every=3) as recorder:
        record(recorder, run)
    return trajectory.load(tmp_path / "whole")


def same(a, b):
    np.testing.assert_array_equal(a.scalars, b.scalars)
    return a._replace(scalars=0) == b._replace(scalars=0)


def is_prefix(log, whole):
    """Of the same records."""
    changes, seals = len(log.hyperparameters), len(log.seals)
    return same(
        log,
        whole._replace(
            scalars=whole.scalars[: log.steps],
            hyperparameters=whole.hyperparameters[:changes],
            seals=whole.seals[:seals],
            end=None,
        ),
    )


# --- interrupts -----------------------------------------------------------------------------------

EFFECTS = {"_write_record", "seal", "flush", "close", "__exit__"}  # other functions are pure


@contextmanager
def interrupt_at(moment):
    """Ctrl-C at one line of the recorder, or opcode where it writes; gives the moments that were seen."""
    seen, traced = [], sys.gettrace()

    def trace(frame, event, arg):
        if frame.f_code.co_filename not in (_recorder.__file__, _recording.__file__):
            return None
        frame.f_trace_opcodes = frame.f_code.co_name in EFFECTS
        if event in ("line", "opcode"):
            seen.append((frame.f_code.co_name, frame.f_lineno))
            if len(seen) == moment + 1:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(traced)


def interrupted(recorder, run, moment):
    """The appends that returned, and whether the interrupt came before the end."""
    appended, seen = 0, []
    try:
        with interrupt_at(moment) as seen, recorder:
            for params, state in run:
                recorder.append(state, params)
                appended += 1
    except KeyboardInterrupt:
        assert recorder._file.closed or seen[-1][0] in ("__enter__", "__exit__")
        return appended, True
    return appended, False


def test_an_interrupt_at_any_moment_loses_nothing(recorder_of, run, whole, tmp_path):
    """Two records, two changes of hyperparameters and a seal."""
    moment, was_interrupted, expected = 0, True, trajectory.truncate(whole, 3)
    while was_interrupted:
        path = tmp_path / str(moment)
        recorder = recorder_of(path, seal_every=3)
        appended, was_interrupted = interrupted(recorder, run[:3], moment)
        recorder.close()
        if recorder.steps:
            assert recorder.steps in (appended, appended + 1)
            log = trajectory.load(path)
            assert log.steps == recorder.steps and is_prefix(log, whole), moment
        else:
            assert not appended
        with recorder_of(path, seal_every=3) as recorder:
            record(recorder, run[:3])
        assert same(trajectory.load(path), expected), moment
        os.unlink(path)
        moment += 1
    assert moment > 500


def test_an_interrupt_of_the_final_close_loses_nothing(recorder_of, run, whole, tmp_path):
    moment, was_interrupted, params = 0, True, run[-1][0]
    expected = whole._replace(end=_identity.digest(params))
    while was_interrupted:
        recorder = recorder_of(tmp_path / str(moment), seal_every=3)
        record(recorder, run)
        was_interrupted = False
        try:
            with interrupt_at(moment):
                recorder.close(params)
        except KeyboardInterrupt:
            was_interrupted = True
            recorder.close(params)
        assert same(trajectory.load(tmp_path / str(moment)), expected), moment
        moment += 1
    assert moment > 100


# --- full disks -----------------------------------------------------------------------------------


class Disk:
    """A file on a disk with room for some more bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


def append_all(recorder, run):
    """How many steps did not fit on the disk at once."""
    full = 0
    for params, state in run:
        try:
            recorder.append(state, params)
        except OSError:
            full += 1
    return full


def test_a_disk_that_is_full_at_any_byte_loses_no_step(recorder_of, run, whole, tmp_path):
    size = (tmp_path / "whole").stat().st_size
    for room in range(0, size, 3):
        path = tmp_path / str(room)
        recorder = recorder_of(path, seal_every=3)
        recorder._file = Disk(recorder._file, room)
        full = append_all(recorder, run[:4])
        if full:
            with warnings.catch_warnings(action="ignore"), pytest.raises(OSError):
                recorder.flush()
        recorder._file.room = size
        full += append_all(recorder, run[4:])
        recorder.close()
        assert same(trajectory.load(path), whole), room
        assert full or room > size - 60


@pytest.mark.parametrize("steps", [300, 1000])
def test_any_number_of_steps_waits_for_a_full_disk(recorder_of, run, tmp_path, steps):
    recorder = recorder_of(tmp_path / "log", every=16, seal_every=None)
    recorder._file = Disk(recorder._file, 0)
    _, state = run[0]
    scalars = np.arange(steps, dtype=np.float32)[:, None]
    for i in range(0, steps, 50):
        progress = SimpleNamespace(
            state=state._replace(count=np.int32(i + 50)),
            coefficients=scalars[i : i + 50],
            values=np.zeros(50),
            params=None,
        )
        with pytest.raises(OSError):
            recorder.callback(progress)
    recorder._file.room = 10**6
    recorder.close()
    np.testing.assert_array_equal(trajectory.load(tmp_path / "log").scalars, scalars)


def test_a_log_that_does_not_fit_is_not_saved_in_part(whole, tmp_path):
    resource = pytest.importorskip("resource")
    path, unlimited = tmp_path / "new", resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))
        with pytest.raises(OSError, match="File too large"):
            trajectory.save(path, whole)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        signal.signal(signal.SIGXFSZ, before)
    assert not path.exists()
    trajectory.save(path, whole)
    with pytest.raises(FileExistsError):
        trajectory.save(path, whole)
    assert same(trajectory.load(path), whole)


# --- what others do to the file -------------------------------------------------------------------


def truncate(path):
    os.truncate(path, path.stat().st_size - 3)


def empty(path):
    os.truncate(path, 0)


def add(path):
    with open(path, "ab") as file:
        file.write(b"x")


def overwrite(path):
    with open(path, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"xy")


def replace(path):
    shutil.copy(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)


def move(path):
    os.rename(path, path.with_name("elsewhere"))


CHANGES = {
    "truncated": (truncate, "truncated or written by something else"),
    "emptied": (empty, "truncated or written by something else"),
    "written": (add, "truncated or written by something else"),
    "overwritten": (overwrite, "truncated or written by something else"),
    "deleted": (os.unlink, "deleted, moved or replaced"),
    "replaced": (replace, "deleted, moved or replaced"),
    "moved": (move, "deleted, moved or replaced"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("call", ["append", "flush", "close"])
def test_a_file_that_others_change_is_noticed(recorder_of, run, whole, tmp_path, name, call):
    change, message = CHANGES[name]
    path = tmp_path / "log"
    recorder = recorder_of(path, seal_every=3, every=1)
    record(recorder, run[:4])
    change(path)
    changed = path.read_bytes() if path.exists() else None
    with pytest.raises(ValueError, match=message):
        recorder.append(run[4][1]) if call == "append" else getattr(recorder, call)()
    assert changed == (path.read_bytes() if path.exists() else None)
    if name in ("truncated", "written", "overwritten"):
        with pytest.raises(ValueError, match="damaged='drop'"):
            recorder.flush()
        with pytest.warns(UserWarning):
            log = trajectory.load(path, damaged="drop")
        assert is_prefix(log, whole._replace(header=log.header))


def test_a_file_that_is_moved_back_goes_on(recorder_of, run, whole, tmp_path):
    with recorder_of(tmp_path / "log", seal_every=3) as recorder:
        record(recorder, run[:3])
        os.rename(tmp_path / "log", tmp_path / "elsewhere")
        with pytest.raises(ValueError, match="Move the file back and call flush"):
            record(recorder, run)
        os.rename(tmp_path / "elsewhere", tmp_path / "log")
        record(recorder, run)
    assert same(trajectory.load(tmp_path / "log"), whole)


def test_a_recorder_finds_its_file_from_any_folder(recorder_of, run, whole, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with recorder_of("log", seal_every=3) as recorder:
        monkeypatch.chdir(tmp_path / "folder")
        record(recorder, run)
    assert same(trajectory.load(tmp_path / "log"), whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_child_is_refused(recorder_of, run, whole, tmp_path):
    recorder = recorder_of(tmp_path / "log", seal_every=3)
    record(recorder, run[:4])
    child = os.fork()
    if not child:
        try:
            refused = 0
            for call in (recorder.flush, lambda: recorder.append(run[4][1])):
                try:
                    call()
                except ValueError as error:
                    refused += "a forked child needs a recorder" in str(error)
            recorder.close()  # writes nothing
            os._exit(refused)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    record(recorder, run)
    recorder.close()
    assert same(trajectory.load(tmp_path / "log"), whole)


# --- damaged logs ---------------------------------------------------------------------------------


def damages(data, places):
    """A byte changed, the rest cut off, zeroed, or repeated."""
    for i in places:
        yield i, data[:i] + bytes([data[i] ^ 0x11]) + data[i + 1 :]
        yield i, data[:i] + bytes(len(data) - i)
        yield i, data[:i] + data[max(i - 30, 0) :]
        yield i, data[:i] + bytes(4096)


def test_a_damaged_log_gives_back_its_intact_steps(whole, tmp_path):
    path, data = tmp_path / "damaged", (tmp_path / "whole").read_bytes()
    begin = len(_codec.encode_header(whole.header)) + 4
    ends = [begin + i for i in range(len(data) - begin) if _complete(data[: begin + i], path)]
    for i, damaged in damages(data, [*range(0, begin, 20), *range(begin, len(data))]):
        if damaged == data:
            continue
        path.write_bytes(damaged)
        if i < begin:
            with pytest.raises(ValueError):
                trajectory.load(path, damaged="drop")
            continue
        with pytest.warns(UserWarning, match="dropped"):
            log = trajectory.load(path, damaged="drop")
        # A checksum may end in the bytes that replace it.
        kept = max(end for end in ends if damaged.startswith(data[:end]))
        assert is_prefix(log, whole)
        assert same(log, _codec.parse(data[:kept], path).log), i


def _complete(data, path):
    parsed = _codec.parse(data, path)
    return not parsed.cut and not parsed.damage


def test_the_error_of_a_damaged_log_says_how_to_read_and_to_continue_it(
    recorder_of, run, whole, tmp_path
):
    path, data = tmp_path / "whole", (tmp_path / "whole").read_bytes()
    path.write_bytes(data[:-6] + bytes(6))
    for read in (trajectory.load, recorder_of):
        with pytest.raises(
            ValueError, match=r"corrupt after step (\d), .* Read the \1 intact"
        ) as e:
            read(path)
        assert "damaged='drop'" in str(e.value) and "trajectory.save" in str(e.value)
    with pytest.warns(UserWarning, match="corrupt after step"):
        log = trajectory.load(path, damaged="drop")
    assert 0 < log.steps < STEPS
    trajectory.save(tmp_path / "new", log)
    with recorder_of(tmp_path / "new", seal_every=3) as recorder:
        record(recorder, run)
    assert same(trajectory.load(tmp_path / "new"), whole)
    with pytest.raises(ValueError, match="damaged must be .* got 'ignore'"):
        trajectory.load(path, damaged="ignore")


# --- seals ----------------------------------------------------------------------------------------


def test_seals_stand_after_powers_of_two_and_every_few_steps(recorder_of, run, tmp_path):
    digests = [_identity.digest(params) for params, _ in run]
    for seal_every, steps in ((1, [1, 2, 3, 4, 5]), (2, [1, 2, 4]), (9, [1, 2, 4]), (None, [])):
        path = tmp_path / str(seal_every)
        with recorder_of(path, seal_every=seal_every) as recorder:
            record(recorder, run[:2])
        with recorder_of(path, seal_every=seal_every) as recorder:  # goes on as if it were one
            record(recorder, run)
        assert trajectory.load(path).seals == tuple((s, digests[s - 1]) for s in steps)
    with recorder_of(tmp_path / "by hand", seal_every=None) as recorder:
        with pytest.raises(ValueError, match="no step was recorded yet"):
            recorder.seal(P0)
        record(recorder, run)
        recorder.seal(run[-1][0])
    assert trajectory.load(tmp_path / "by hand").seals == ((STEPS, digests[-1]),)
    with pytest.raises(ValueError, match="seal_every must be at least 1, got 0"):
        recorder_of(tmp_path / "never", seal_every=0)


def test_minimize_seals_by_default(tmp_path):
    tx = zojax.mezo(0.01)
    with trajectory.Recorder(tmp_path / "log", tx, P0) as recorder:
        found = zojax.minimize(bowl, P0, tx, 60, chunk_size=20, callback=recorder.callback)
        assert [step for step, _ in trajectory.load(tmp_path / "log").seals] == [20, 40]
    log = trajectory.load(tmp_path / "log")
    replayed = trajectory.replay(P0, tx, log)
    np.testing.assert_array_equal(replayed["x"], found.params["x"])
    with pytest.raises(ValueError, match="after step 20"):
        trajectory.replay(P0, tx, log._replace(scalars=log.scalars[::-1]))


@pytest.mark.optimized
def test_a_replay_at_other_bits_says_since_when(whole, run):
    params, _ = trajectory.resume(P0, TX, whole)
    np.testing.assert_array_equal(params["x"], run[-1][0]["x"])
    for step, message in (
        (0, "after step 1. It was"),
        (2, r"after step 4 \(still the same after step 2"),
    ):
        scalars = whole.scalars.copy()
        scalars[step] += 1
        with pytest.raises(ValueError, match=message) as error:
            trajectory.resume(P0, TX, whole._replace(scalars=scalars))
        assert "log._replace(end=None, seals=())" in str(error.value)
        trajectory.resume(P0, TX, whole._replace(scalars=scalars, end=None, seals=()))
    scalars = whole.scalars.copy()
    scalars[4] += 1  # after the last seal
    trajectory.resume(P0, TX, whole._replace(scalars=scalars))


@pytest.mark.optimized
def test_a_replay_at_other_bits_names_both_shardings(recorder_of, run, tmp_path):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    with recorder_of(tmp_path / "log") as recorder:
        record(recorder, [(jax.device_put(params, rows), state) for params, state in run])
    log = trajectory.load(tmp_path / "log")
    trajectory.replay(P0, TX, log)
    wrong = log._replace(scalars=log.scalars[::-1])
    ran = r"params\['x'\]: \S*\('data',?\) on mesh \(data=1\); "
    with pytest.raises(ValueError, match=ran + r"this is .*, params\['x'\]: one device"):
        trajectory.replay(P0, TX, wrong)
    del wrong.header["placements"]  # of an older log
    with pytest.raises(ValueError, match=r"params\['x'\]: unknown; this is"):
        trajectory.replay(P0, TX, wrong)


def test_a_log_without_a_seal_from_elsewhere_gives_a_warning(whole):
    made_with = {**whole.header["made_with"], "platform": "tpu"}
    elsewhere = whole._replace(header={**whole.header, "made_with": made_with})
    with warnings.catch_warnings(action="error"):
        trajectory.resume(P0, TX, elsewhere)
        trajectory.resume(P0, TX, whole._replace(seals=()))
    with pytest.warns(UserWarning, match="no seal, and was recorded with .*tpu.*; this is .*cpu"):
        trajectory.resume(P0, TX, elsewhere._replace(seals=()))


def test_seals_go_with_the_parts_of_a_log(recorder_of, run, whole, tmp_path):
    assert [step for step, _ in whole.seals] == [1, 2, 4]
    early = trajectory.truncate(whole, 3)
    assert early.seals == whole.seals[:2]
    assert trajectory.truncate(whole, 4).seals == whole.seals
    trajectory.save(tmp_path / "new", whole)
    assert same(trajectory.load(tmp_path / "new"), whole)
    assert same(trajectory.merge(early, whole), whole)
    ended = early._replace(end=_identity.digest(run[2][0]))
    merged = trajectory.merge(ended, whole)
    assert merged.seals == (*whole.seals[:2], (3, ended.end), *whole.seals[2:])
    assert merged.end is None
    trajectory.replay(P0, TX, merged)
    other = whole._replace(seals=((1, "0" * 32), *whole.seals[1:]))
    with pytest.raises(ValueError, match="disagree on the parameters after step 1"):
        trajectory.merge(early, other)


def test_parameters_of_another_shape_are_no_seal(recorder_of, run, tmp_path):
    wrong = {"x": jnp.ones(4)}
    with recorder_of(tmp_path / "log") as recorder:
        with pytest.raises(ValueError, match=r"params\['x'\] is float32\[4\], the log's .*\[3\]"):
            recorder.append(run[0][1], wrong)
        assert recorder.steps == 0
        record(recorder, run)
        for call in (recorder.seal, recorder.close):
            with pytest.raises(ValueError, match="Give the parameters after the step"):
                call({"y": jnp.ones(3)})
    assert trajectory.load(tmp_path / "log").steps == STEPS
