"""Logs of scalars: a replay has the bits of the run, and nothing else passes for one."""

import os
import re
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from tests._laws import fast
from tests._trees import assert_same_bits
from zojax import directions, shaping, stencils, trajectory
from zojax.trajectory import _codec

pytestmark = pytest.mark.optimized

# --- runs ---------------------------------------------------------------------------------------

X = jax.random.normal(jax.random.key(1), (5, 19))
STEPS = 23


def loss(params, limit=jnp.inf):
    hidden = jnp.tanh(X @ params["w"].astype(jnp.float32))
    value = jnp.mean((hidden @ params["v"].astype(jnp.float32) - 1) ** 2)
    return jnp.where(value < limit, value, jnp.nan)


def start(dtype=jnp.float32):
    w, v = jax.random.split(jax.random.key(2))
    return {
        "w": jax.random.normal(w, (19, 33)).astype(dtype),
        "v": jax.random.normal(v, (33,)).astype(dtype),
        "epoch": jnp.int32(3),
    }


def programs(tx, params, recorder):
    """A program a step, and one more for the sum."""
    state = tx.init(params)
    for _ in range(STEPS):
        updates, state = tx.update(None, state, params, value_fn=loss)
        params = zojax.apply_updates(params, updates)
        recorder.append(state)
    return params, state


def one_program(tx, params, recorder):
    """A program a step, which owns its arguments."""

    def step(params, state):
        updates, state = tx.update(None, state, params, value_fn=loss)
        return zojax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    params, state = jax.tree.map(jnp.copy, (params, tx.init(params)))
    for _ in range(STEPS):
        params, state = step(params, state)
        recorder.append(state)
    return params, state


def chunks(tx, params, recorder):
    """Seven steps a program."""
    run = zojax.minimize(loss, params, tx, STEPS, key=9, chunk_size=7, callback=recorder.callback)
    return run.params, run.state


def outside(tx, params, recorder):
    """The loss is evaluated on the host."""
    run = zojax.minimize(loss, params, tx, STEPS, callback=recorder.callback, jit=False)
    return run.params, run.state


def source(direction=None, **options):
    return zojax.estimator(direction or directions.normal(), **{"mu": 0.01} | options)


RUNS = {
    "mezo, normals, bfloat16": (
        zojax.mezo(1e-2, 0.01, direction=directions.normal()),
        one_program,
        jnp.bfloat16,
    ),
    "decay, cosine": (
        zojax.mezo(optax.cosine_decay_schedule(1e-2, 30), weight_decay=0.1, num_directions=3),
        chunks,
        jnp.float32,
    ),
    "momentum, bfloat16": (
        zojax.zo_sgd(1e-2, source(num_directions=2), momentum=0.9, nesterov=True),
        programs,
        jnp.bfloat16,
    ),
    "low rank, forward, ranks, clipped adamw": (
        zojax.zeroth_order(
            optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2)),
            source(
                directions.low_rank(2, factors="normal"),
                stencil=stencils.forward(),
                shaping=shaping.centered_ranks(),
                num_directions=4,
            ),
        ),
        one_program,
        jnp.float32,
    ),
    "spsa from outside": (zojax.spsa(0.1, 0.1, 10), outside, jnp.float32),
    "residual": (
        zojax.zo_sgd(1e-3, source(stencil=stencils.one_point_residual())),
        one_program,
        jnp.float32,
    ),
    "plateau": (
        zojax.zeroth_order(
            optax.chain(optax.sgd(0.05), optax.contrib.reduce_on_plateau(patience=2, cooldown=1)),
            source(),
        ),
        chunks,
        jnp.float32,
    ),
}


FAST = "mezo, normals, bfloat16", "low rank, forward, ranks, clipped adamw", "spsa from outside"


@pytest.mark.parametrize("name", fast([*FAST, "residual"], RUNS))
def test_a_replay_has_the_bits_of_the_run(name, tmp_path):
    """The value is recorded only where a step depends on it."""
    tx, run, dtype = RUNS[name]
    params0 = start(dtype)
    with trajectory.Recorder(tmp_path / "log", tx, params0) as recorder:
        params, state = run(tx, params0, recorder)
        recorder.close(params)
    log = trajectory.load(tmp_path / "log")
    assert log.steps == STEPS == recorder.steps
    extra = log.header["columns"] - tx.estimator.num_directions
    assert extra == (name in ("residual", "plateau"))
    found, resumed = trajectory.resume(params0, tx, log)
    assert_same_bits(found, params)
    assert not np.array_equal(found["w"], params0["w"])
    if not extra:
        state = state._replace(value=resumed.value)  # not recorded where nothing depends on it
        state = state._replace(
            estimator_state=state.estimator_state._replace(
                previous=resumed.estimator_state.previous
            )
        )
    # What evaluations show is counted from the resumption on.
    seen = state.estimator_state
    assert int(seen.used + seen.skipped) == STEPS * tx.estimator.num_directions
    first, shown = seen[:3], tx.init(params0).estimator_state[3:]
    state = state._replace(estimator_state=zojax.EstimatorState(*first, *shown))
    assert_same_bits(resumed, state)


# --- one small run, for what follows -----------------------------------------------------------------

TX = zojax.mezo(0.1, num_directions=2, key=4)
P0 = {"x": jnp.arange(1.0, 4.0), "rng": jax.random.key(0)}


def bowl(params, limit=jnp.inf):
    value = jnp.sum(params["x"] ** 2)
    return jnp.where(value < limit, value, jnp.nan)


@jax.jit
def step(params, state, limit):
    updates, state = TX.update(None, state, params, value_fn=bowl, limit=limit)
    return zojax.apply_updates(params, updates), state


def advance(params, state, count, recorder, limit=jnp.inf):
    for _ in range(count):
        params, state = step(params, state, limit)
        recorder.append(state)
    return params, state


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The bytes of a log of 10 steps in records of 4."""
    path = tmp_path_factory.mktemp("run") / "log"
    with trajectory.Recorder(path, TX, P0, every=4, note={"data": "none"}) as recorder:
        advance(P0, TX.init(P0), 10, recorder)
    return path.read_bytes()


@pytest.fixture
def path(recorded, tmp_path):
    """A file with these bytes."""
    (tmp_path / "log").write_bytes(recorded)
    return tmp_path / "log"


def test_20_000_steps_take_less_than_100_kb(tmp_path):
    tx = zojax.mezo(1e-6)
    params = {f"model.layers.{i}.attention.projection.weight": jnp.ones(2) for i in range(50)}
    state = tx.init(params)
    with trajectory.Recorder(tmp_path / "log", tx, params) as recorder:
        rng = np.random.default_rng(0)
        for count in range(1000, 20_001, 1000):
            chunk = rng.normal(size=(1000, 1)).astype(np.float32)
            recorder.callback(
                SimpleNamespace(
                    state=state._replace(count=jnp.int32(count)),
                    params=params,
                    coefficients=chunk,
                    values=np.zeros(1000),
                )
            )
    assert trajectory.load(tmp_path / "log").steps == 20_000
    assert os.path.getsize(tmp_path / "log") < 100_000


def test_what_was_cut_off_is_dropped_with_a_warning_and_the_run_goes_on(path):
    data, whole = path.read_bytes(), trajectory.load(path)
    begin = len(_codec.encode_header(whole.header)) + 4
    records = [begin + i * (1 + 4 * 2 * 4 + 4) for i in range(3)]
    expected = advance(P0, TX.init(P0), 13, SimpleNamespace(append=lambda state: None))
    for size in range(begin, len(data)):
        path.write_bytes(data[:size])
        kept = 4 * sum(size >= r for r in records[1:])
        if size in records:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                log = trajectory.load(path)
        else:
            with pytest.warns(UserWarning, match=f"cut off: .* after step {kept}"):
                log = trajectory.load(path)
        np.testing.assert_array_equal(log.scalars, whole.scalars[:kept])
        if size == len(data) - 3:
            carry = trajectory.resume(P0, TX, log)
            with pytest.warns(UserWarning, match="cut off"):
                recorder = trajectory.Recorder(path, TX, P0)
            with recorder:
                assert recorder.steps == kept == int(carry[1].count)
                assert_same_bits(advance(*carry, 13 - kept, recorder)[0], expected[0])
            assert_same_bits(trajectory.replay(P0, TX, trajectory.load(path)), expected[0])


def test_no_changed_byte_goes_unnoticed(path):
    data = path.read_bytes()
    for i in range(len(data)):
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x10]) + data[i + 1 :])
        changed = path.read_bytes()
        with pytest.raises(ValueError):
            trajectory.load(path)
        if i % 25 == 0:  # it reads as `load` does
            with pytest.raises(ValueError):
                trajectory.Recorder(path, TX, P0, every=4, note={"data": "none"})
        assert path.read_bytes() == changed


def test_a_header_of_another_length_is_corrupt_and_nothing_is_lost(path):
    for bit in (0x01, 0x10, 0x40):
        for i in (8, 9, 10, 11):  # of the length
            data = bytearray(path.read_bytes())
            data[i] ^= bit
            path.with_name("bad").write_bytes(data)
            for read in (trajectory.load, lambda p: trajectory.Recorder(p, TX, P0)):
                with pytest.raises(
                    ValueError, match="corrupt: the checksum of its header is wrong"
                ):
                    read(path.with_name("bad"))
            assert path.with_name("bad").read_bytes() == data


def test_a_sealed_log_is_not_unsealed_by_its_last_byte(path):
    params = trajectory.replay(P0, TX, trajectory.load(path))
    trajectory.Recorder(path, TX, P0).close(params)
    data = bytearray(path.read_bytes())
    for i in (-1, -21):  # of the checksum; what says that this is the end
        changed = data.copy()
        changed[i] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="corrupt after step 10"):
            trajectory.Recorder(path, TX, P0)
        assert path.read_bytes() == changed
    path.write_bytes(data[:-1])
    with pytest.warns(UserWarning, match="cut off: 20 bytes after step 10"):
        assert trajectory.load(path).end is None


def test_a_corrupt_log_says_where(path):
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"corrupt after step 4, at byte \d+ of \d+"):
        trajectory.load(path)
    path.write_bytes(b"zojax\n\x07\x00" + bytes(data[8:]))
    with pytest.raises(ValueError, match="version 7"):
        trajectory.load(path)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="not a zojax trajectory"):
        trajectory.load(path)


WRONG = {
    "values": (TX, {**P0, "x": P0["x"].at[1].add(1e-6)}, "the values of params['x'] are not"),
    "shape": (TX, {**P0, "x": jnp.ones(4)}, "another base model: params['x'] is float32[4]"),
    "leaf": (TX, {**P0, "y": jnp.ones(1)}, "only the given parameters have a leaf params['y']"),
    "count": (zojax.mezo(0.1), P0, "its num_directions is 1, the log's 2"),
    "rate": (
        zojax.mezo(float(np.nextafter(np.float32(0.1), 1)), num_directions=2),
        P0,
        "another optimizer: its direction",
    ),
    "direction": (
        zojax.mezo(0.1, num_directions=2, direction=directions.normal()),
        P0,
        "another optimizer: its direction",
    ),
    "inner": (
        zojax.zo_sgd(0.1, zojax.estimator(num_directions=2), momentum=0.9),
        P0,
        "another optimizer: its direction",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_another_model_or_optimizer_is_refused_with_the_reason(case, path):
    tx, params, message = WRONG[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        trajectory.replay(params, tx, trajectory.load(path))
    with pytest.raises(ValueError, match=re.escape(message)):
        trajectory.Recorder(path, tx, params)


def test_another_mu_or_key_replays_since_the_log_has_both(path):
    log = trajectory.load(path)
    other = zojax.mezo(0.1, mu=0.5, num_directions=2, key=77)
    assert_same_bits(trajectory.replay(P0, other, log), trajectory.replay(P0, TX, log))


OTHER_EVALUATIONS = {
    "mu": zojax.estimator(mu=0.5, num_directions=2),
    "stencil": zojax.estimator(stencil=stencils.forward(), num_directions=2),
    "shaping": zojax.estimator(shaping=shaping.standardize(), num_directions=2),
}


SAME = zojax.zeroth_order(optax.sgd(0.1), zojax.estimator(num_directions=2), key=3)


@pytest.mark.parametrize("case", OTHER_EVALUATIONS)
def test_a_run_is_not_continued_with_other_evaluations(case, path):
    """A replay does not depend on them, see above."""
    other = zojax.zeroth_order(optax.sgd(0.1), OTHER_EVALUATIONS[case])
    new = path.with_name("new")
    with trajectory.Recorder(new, SAME, P0) as recorder:
        recorder.append(SAME.update(None, SAME.init(P0), P0, value_fn=bowl)[1])
    trajectory.Recorder(new, SAME, P0).close()
    with pytest.raises(ValueError, match="its mu, stencil or shaping differs"):
        trajectory.Recorder(new, other, P0)


def test_a_log_has_one_recorder_at_a_time(path):
    with trajectory.Recorder(path, TX, P0) as first:
        with pytest.raises(ValueError, match="by another recorder"):
            trajectory.Recorder(path, TX, P0)
    with pytest.raises(ValueError, match="the recorder is closed"):
        advance(*trajectory.resume(P0, TX, trajectory.load(path)), 1, first)
    trajectory.Recorder(path, TX, P0).close()


def test_what_ends_before_the_first_step_is_begun_again(path):
    whole = path.read_bytes()
    header = len(_codec.encode_header(trajectory.load(path).header)) + 4
    given = {"every": 4, "note": {"data": "none"}}
    for size in (0, 3, 6, 9, 20, header - 60, header - 5, header - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="no step was recorded"):
            trajectory.load(path)
        trajectory.Recorder(path, TX, P0, **given).close()
        assert path.read_bytes() == whole[:size]
        with trajectory.Recorder(path, TX, P0, **given) as recorder:
            advance(P0, TX.init(P0), 2, recorder)
        assert trajectory.load(path).steps == 2
    path.write_bytes(whole[: header - 5])
    with pytest.raises(ValueError, match="header, which is not this run's"):
        trajectory.Recorder(path, zojax.mezo(0.2), P0, **given)
    assert path.read_bytes() == whole[: header - 5]


def test_what_cannot_be_recorded_says_so(tmp_path):
    with pytest.raises(TypeError, match="put the transformations around it inside"):
        trajectory.Recorder(tmp_path / "log", optax.chain(TX, optax.scale(1.0)), P0)
    searching = zojax.zeroth_order(
        optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(3))
    )
    with pytest.raises(ValueError, match="evaluates the loss"):
        trajectory.Recorder(tmp_path / "log", searching, P0)
    odd = stencils.Stencil((1.0, 0.0), (1.0, -0.5), memory=-0.5)
    with pytest.raises(ValueError, match="memory and a point at 0"):
        trajectory.Recorder(tmp_path / "log", zojax.zo_sgd(0.1, zojax.estimator(stencil=odd)), P0)
    with pytest.raises(ValueError, match="at most 253"):
        trajectory.Recorder(tmp_path / "log", TX, P0, every=254)
    with pytest.raises(TypeError, match="note must be for JSON"):
        trajectory.Recorder(tmp_path / "log", TX, P0, note={1, 2})


def test_a_state_that_does_not_follow_is_refused(path):
    recorder = trajectory.Recorder(path, TX, P0)
    with pytest.raises(ValueError, match="the log has 10 steps, but the state had taken 0"):
        advance(P0, TX.init(P0), 1, recorder)
    other = TX.init(P0)._replace(rng_key=jax.random.key(5), count=jnp.int32(10))
    with pytest.raises(ValueError, match="another key"):
        advance(P0, other, 1, recorder)
    recorder.close()


def test_a_state_that_is_none_of_the_run_is_refused(tmp_path):
    recorder = trajectory.Recorder(tmp_path / "log", TX, P0)
    with pytest.raises(ValueError, match="no step was taken yet: append the state that an update"):
        recorder.append(TX.init(P0))
    with pytest.raises(TypeError, match=r"a ZerothOrderState, got .*recorder.append\(state\)"):
        recorder.append(P0)
    other = zojax.mezo(0.1, num_directions=3, key=4)
    state = other.update(None, other.init(P0), P0, value_fn=bowl)[1]
    with pytest.raises(ValueError, match=r"shape \(3,\) a step.*num_directions=2"):
        recorder.append(state)
    recorder.close()
    assert not (tmp_path / "log").read_bytes()


NO_LOGS = {
    "replay": lambda path: trajectory.replay(P0, TX, path),
    "resume": lambda path: trajectory.resume(P0, TX, path),
    "truncate": lambda path: trajectory.truncate(path, 3),
    "merge": lambda path: trajectory.merge(path, path),
    "save": lambda path: trajectory.save(path.with_name("new"), path),
}


@pytest.mark.parametrize("name", NO_LOGS)
def test_a_path_is_no_log(name, path):
    with pytest.raises(TypeError, match=r"log must be a Log, got .*trajectory.load\(path\)"):
        NO_LOGS[name](path)
    assert not path.with_name("new").exists()
    log = trajectory.load(path)
    with pytest.raises(TypeError, match=r"trajectory.merge\(\*logs\)"):
        trajectory.merge([log, log])
    for steps in (2.5, True, "3"):
        with pytest.raises(TypeError, match=f"steps must be an int, got {steps!r}"):
            trajectory.truncate(log, steps)
    assert trajectory.truncate(log, np.int64(3)).steps == 3


def test_a_sealed_log_must_be_reached_and_takes_no_more(path):
    log = trajectory.load(path)
    params = trajectory.replay(P0, TX, log)
    trajectory.Recorder(path, TX, P0).close(params)
    sealed = trajectory.load(path)
    assert_same_bits(trajectory.replay(P0, TX, sealed), params)
    with pytest.raises(ValueError, match="arrived at other parameters"):
        trajectory.replay(P0, TX, sealed._replace(scalars=log.scalars[::-1]))
    with pytest.raises(ValueError, match="sealed"):
        trajectory.Recorder(path, TX, P0)


def test_steps_without_a_finite_value_are_replayed_too(tmp_path):
    with trajectory.Recorder(tmp_path / "log", TX, P0) as recorder:
        carry = advance(P0, TX.init(P0), 3, recorder)
        carry = advance(*carry, 2, recorder, limit=-1.0)
        params, state = advance(*carry, 3, recorder)
    found, resumed = trajectory.resume(P0, TX, trajectory.load(tmp_path / "log"))
    assert_same_bits(found, params)
    assert int(resumed.estimator_state.skipped) == int(state.estimator_state.skipped) == 4


def test_a_seal_outlives_a_merge_in_any_order(path):
    log = trajectory.load(path)
    trajectory.Recorder(path, TX, P0).close(trajectory.replay(P0, TX, log))
    sealed, other = trajectory.load(path), log._replace(end="0" * 32)
    for parts in [(sealed, log), (log, sealed), (trajectory.truncate(log, 3), sealed)]:
        assert trajectory.merge(*parts).end == sealed.end is not None
    for parts in [(sealed, other), (other, sealed)]:
        with pytest.raises(ValueError, match="disagree on the final parameters, after step 10"):
            trajectory.merge(*parts)


@pytest.mark.parametrize("room", [0, 5])
def test_what_a_full_disk_does_not_take_is_written_later(tmp_path, room):
    resource = pytest.importorskip("resource")
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "log"
    try:
        with trajectory.Recorder(path, TX, P0, every=2) as recorder:
            carry = advance(P0, TX.init(P0), 3, recorder)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, unlimited[1]))
            with pytest.raises(OSError):
                advance(*carry, 1, recorder)
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            carry = step(*carry, jnp.inf)  # the fourth, again
            assert trajectory.load(path).steps == 2
            params, _ = advance(*carry, 2, recorder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        signal.signal(signal.SIGXFSZ, before)
    log = trajectory.load(path)
    assert log.steps == 6
    assert_same_bits(trajectory.replay(P0, TX, log), params)


@pytest.mark.parametrize("name, dtype", [("polyak", jnp.float32), ("residual", jnp.float64)])
def test_values_are_recorded_in_64_bits_where_runs_have_them(tmp_path, name, dtype):
    with jax.enable_x64(True):
        estimator = zojax.estimator(stencil=stencils.one_point_residual(), mu=0.1)
        tx = {
            "polyak": zojax.zeroth_order(optax.polyak_sgd(max_learning_rate=0.1)),
            "residual": zojax.zeroth_order(optax.sgd(1e-4), estimator),
        }[name]
        x0 = jnp.ones(5, dtype)
        with trajectory.Recorder(tmp_path / "log", tx, x0) as recorder:
            run = zojax.minimize(
                lambda x: jnp.sum((x.astype(float) - 0.3) ** 2),
                x0,
                tx,
                20,
                callback=recorder.callback,
            )
        log = trajectory.load(tmp_path / "log")
        params, state = trajectory.resume(x0, tx, log)
        assert log.scalars.dtype == np.float64
        assert_same_bits(params, run.params)
        assert state.estimator_state.previous == run.state.estimator_state.previous
        assert state.value == run.state.value


def test_a_recorder_of_one_run_refuses_the_states_of_several(tmp_path):
    states = jax.vmap(lambda key: TX.init(P0)._replace(rng_key=key))(
        jax.random.split(jax.random.key(0), 2)
    )
    with (
        trajectory.Recorder(tmp_path / "log", TX, P0) as recorder,
        pytest.raises(ValueError, match=r"a log is of one run, but the state is of \(2,\)"),
    ):
        recorder.append(states)


def test_truncate_and_merge(path, tmp_path):
    whole = trajectory.load(path)
    assert whole.header["note"] == {"data": "none"}
    early = trajectory.truncate(whole, 6)
    after_6 = advance(P0, TX.init(P0), 6, SimpleNamespace(append=lambda state: None))
    assert_same_bits(trajectory.replay(P0, TX, early), after_6[0])
    # A second log, which begins where the run was after 6 steps.
    with trajectory.Recorder(tmp_path / "rest", TX, P0) as recorder:
        advance(*after_6, 7, recorder)
    rest = trajectory.load(tmp_path / "rest")
    assert rest.start == 6
    with pytest.raises(ValueError, match="begins after step 6: merge"):
        trajectory.replay(P0, TX, rest)
    for parts in [(rest, early), (whole, rest), (early, whole, rest)]:
        merged = trajectory.merge(*parts)
        assert merged.start == 0 and merged.steps == 13
        np.testing.assert_array_equal(merged.scalars[:10], whole.scalars)
    trajectory.save(tmp_path / "merged", merged)
    again = trajectory.load(tmp_path / "merged")
    np.testing.assert_array_equal(again.scalars, merged.scalars)
    assert again._replace(scalars=0) == merged._replace(scalars=0)
    with pytest.raises(ValueError, match="steps 5 to 6 are missing"):
        trajectory.merge(trajectory.truncate(whole, 5), rest)
    with pytest.raises(ValueError, match="disagree on step 8"):
        changed = whole.scalars.copy()
        changed[8, 1] += 1
        trajectory.merge(whole._replace(scalars=changed), rest)
    with pytest.raises(ValueError, match="different runs: their key differ"):
        key = {**whole.header["key"], "data": [1, 2]}
        trajectory.merge(whole._replace(header={**whole.header, "key": key}), rest)
    with pytest.raises(ValueError, match="from 0 to 10"):
        trajectory.truncate(whole, 11)


def test_hyperparameters_that_change_on_the_way_are_recorded(tmp_path):
    inner = optax.inject_hyperparams(optax.sgd)(
        0.1, momentum=optax.linear_schedule(0.5, 0.9, 10), nesterov=False
    )
    tx = zojax.zeroth_order(inner)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(None, state, params, value_fn=bowl)
        return zojax.apply_updates(params, updates), state

    params, state = P0, tx.init(P0)
    with trajectory.Recorder(tmp_path / "log", tx, P0) as recorder:
        for i in range(9):
            if i in (3, 7):
                state.inner_state.hyperparams["learning_rate"] = jnp.float32(0.1 / i)
            params, state = step(params, state)
            recorder.append(state)
    log = trajectory.load(tmp_path / "log")
    rates = [(at, values["0.learning_rate"]) for at, values in log.hyperparameters]
    assert rates == [(0, np.float32(0.1)), (3, np.float32(0.1 / 3)), (7, np.float32(0.1 / 7))]
    found, resumed = trajectory.resume(P0, tx, log)
    assert_same_bits(found, params)
    assert_same_bits(resumed.inner_state, state.inner_state)
    trajectory.save(tmp_path / "copy", log)
    assert trajectory.load(tmp_path / "copy").hyperparameters == log.hyperparameters
    early = trajectory.truncate(log, 3)
    assert trajectory.merge(log, early).hyperparameters == log.hyperparameters
    other = early._replace(hyperparameters=((0, {"0.learning_rate": 0.5}),))
    with pytest.raises(ValueError, match="disagree on the hyperparameters of step 0"):
        trajectory.merge(log, other)
    before = trajectory.replay(P0, tx, trajectory.truncate(log, 7))
    assert trajectory.truncate(log, 7).hyperparameters == log.hyperparameters[:2]
    assert not np.array_equal(before["x"], params["x"])


SHARDED = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, jax.numpy as jnp, numpy as np, optax, zojax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from zojax import directions, trajectory

mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
host = {"w": np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32),
        "b": np.linspace(-1, 1, 12, dtype=np.float32)}
specs = {"w": P("a", "b"), "b": P("b")}
sharded = {k: jax.device_put(host[k], NamedSharding(mesh, specs[k])) for k in host}
loss = lambda p: jnp.mean(jnp.tanh(jnp.arange(8.0) @ p["w"] + p["b"] - 1) ** 2)
for i, direction in enumerate([directions.normal(), directions.low_rank()]):
    tx = zojax.zeroth_order(optax.adam(1e-2), zojax.estimator(direction, num_directions=2))

    @jax.jit
    def step(params, state):
        updates, state = tx.update(None, state, params, value_fn=loss)
        return optax.apply_updates(params, updates), state

    params, state = sharded, tx.init(sharded)
    with trajectory.Recorder(f"{sys.argv[1]}/{i}", tx, sharded) as recorder:
        for _ in range(9):
            params, state = step(params, state)
            recorder.append(state)
    assert params["w"].sharding.spec == specs["w"]
    log = trajectory.load(f"{sys.argv[1]}/{i}")
    for start in (host, sharded):
        found = trajectory.replay(start, tx, log)
        for k in host:
            assert np.asarray(found[k]).tobytes() == np.asarray(params[k]).tobytes(), (i, k)

# A norm sums in an order that depends on the mesh: other bits do not go unnoticed.
tx = zojax.zeroth_order(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)))
host = {"w": np.random.default_rng(0).normal(size=(64, 129)).astype(np.float32)}
rows = {"w": jax.device_put(host["w"], NamedSharding(mesh, P("a")))}
with trajectory.Recorder(f"{sys.argv[1]}/clipped", tx, host) as recorder:
    run = zojax.minimize(lambda p: jnp.mean(p["w"] ** 2), rows, tx, 32, callback=recorder.callback)
log = trajectory.load(f"{sys.argv[1]}/clipped")
for start in (rows, host):
    try:
        found = trajectory.replay(start, tx, log)["w"]
    except ValueError as error:
        assert start is host, error
        for text in ("after step", "on mesh (a=2, b=2); this is", "one device"):
            assert text in str(error), error
    else:
        assert np.asarray(found).tobytes() == np.asarray(run.params["w"]).tobytes()
print("sharded")
"""


# In the same process: axes that are sharded by type. Adam sums over no leaf: the mesh does not matter.
EXPLICIT = """
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
tx = zojax.zeroth_order(optax.adam(0.1), zojax.estimator(directions.normal(), num_directions=3))
host = {"w": jnp.cos(jnp.arange(384.0)).reshape(8, 48)}
loss = lambda p: jnp.mean((jnp.ones((3, 8)) @ p["w"]) ** 2)

def run(params, name):
    state = tx.init(params)
    with trajectory.Recorder(f"{sys.argv[1]}/{name}", tx, params) as recorder:
        for _ in range(4):
            updates, state = tx.update(None, state, params, value_fn=loss)
            params = optax.apply_updates(params, updates)
            recorder.append(state)
    return np.asarray(params["w"])

def replayed(params, name):
    return np.asarray(trajectory.replay(params, tx, trajectory.load(f"{sys.argv[1]}/{name}"))["w"])

plain = run(host, "plain")
with jax.set_mesh(mesh):
    columns, rows = (jax.device_put(host, {"w": spec}) for spec in (P(None, "d"), P("d")))
    placed = run(columns, "placed")
    for params, name, expected in ((rows, "placed", placed), (columns, "plain", plain)):
        assert replayed(params, name).tobytes() == expected.tobytes(), name
assert replayed(host, "placed").tobytes() == placed.tobytes()
print("explicit")
"""


def test_a_run_that_was_sharded_replays_with_and_without_the_mesh(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SHARDED + EXPLICIT, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "sharded\nexplicit\n", done.stderr[-3000:]


@pytest.mark.slow  # it takes times
@pytest.mark.parametrize("tx", [zojax.mezo(1e-2), zojax.zo_sgd(1e-2, momentum=0.9)])
def test_a_replay_takes_less_than_half_the_time_of_the_run(tx, tmp_path):
    params = [jax.random.normal(jax.random.key(i), (512, 512)) / 23 for i in range(2)]
    batch = jax.random.normal(jax.random.key(2), (64, 512))

    def wide(params):
        return jnp.mean((jnp.tanh(batch @ params[0]) @ params[1] - 1) ** 2)

    def run(recorder):
        options = {"chunk_size": 100, "callback": recorder.callback}
        return zojax.minimize(wide, params, tx, 400, **options).params

    seconds = {run: [], trajectory.replay: []}
    for i in range(3):
        recorder = trajectory.Recorder(tmp_path / str(i), tx, params)
        start = time.perf_counter()
        found = jax.block_until_ready(run(recorder))
        seconds[run].append(time.perf_counter() - start)
        recorder.close()
        log = trajectory.load(tmp_path / str(i))
        start = time.perf_counter()
        again = jax.block_until_ready(trajectory.replay(params, tx, log))
        seconds[trajectory.replay].append(time.perf_counter() - start)
        assert_same_bits(again, found)
    ratio = np.median(seconds[trajectory.replay]) / np.median(seconds[run])
    print(f"replay / run: {ratio:.2f}")
    assert ratio < 0.5
