"""`Recorder` appends the scalars of a run to its log while it runs."""

import json
import os
import struct
import warnings
from typing import NamedTuple

import jax
import numpy as np

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

from zojax._checks import brief, require_count
from zojax._transform import ZerothOrder, ZerothOrderState
from zojax._trees import PyTree
from zojax.trajectory import _identity, _log


class _State(NamedTuple):
    """All that changes while a run is recorded.

    A recorder replaces it in one assignment: an interrupt leaves the old state or the new one. Both fit
    the file. Bytes after `size` are the beginning of `unfinished`, and are written again.

    Attributes:
      header: of the log; key, start and the like come with the first step.
      size: bytes of the file that are written for good.
      checksum: of these bytes.
      unfinished: the record that was being written after them.
      pending: not written yet: arrays of steps, and payloads of other records between them.
      steps: that the run has taken, pending ones included; None before the first is recorded.
      hyperparameters: of the last step.
      sealed: the number of steps before the last seal, or None.
      ended: whether the last record is the end.
    """

    header: dict
    size: int = 0
    checksum: int = 0
    unfinished: bytes = b""
    pending: tuple[np.ndarray | bytes, ...] = ()
    steps: int | None = None
    hyperparameters: dict | None = None
    sealed: int | None = None
    ended: bool = False


class Recorder:
    r"""Appends every step of a run to a log: 4 bytes a direction, and 5 every `every` steps.

    A new path gets a new log. An existing log of the same optimizer (mu, stencil and shaping, on which a
    replay does not depend, included) and base parameters is continued: take the parameters and the state
    from `resume`.

    An exception, a full disk or Ctrl-C at any moment leaves a log that loads and a recorder that goes on;
    `steps` says how many steps it has. A kill loses at most the last `every` - 1 steps, which the run
    takes again.

    Args:
      path: of the file.
      tx: what `zojax.zeroth_order` or a ready-made optimizer returned.
      params: the parameters that the run began with, before the first step.
      every: steps a record. `flush` ends a record early, for 5 bytes.
      seal_every: the most steps between seals; None for no seals. A seal is a digest of the parameters in
        21 bytes, and a replay must arrive at it. `callback` and `append(state, params)` seal after 1, 2,
        4, 8, ... steps, then every `seal_every` steps. A seal copies all parameters to the host and hashes
        them, about a second per GB.
      note: anything for JSON that should be kept in the header of a new log.

    Raises:
      TypeError: for a `tx` that does not come from `zojax.zeroth_order`, or a note that is not for JSON.
      ValueError: when the log at `path` is of another run, with the reason, corrupt, or being recorded by
        another recorder; from the methods, when something else has deleted, moved, replaced or changed
        the file, and in a forked child.
      OSError: when the file cannot be opened, or, from `append`, `flush` and `close`, written. What was
        not written is kept, and written by the next of these calls that can.

    >>> import os, tempfile, jax.numpy as jnp, zojax
    >>> path = os.path.join(tempfile.mkdtemp(), "run.log")
    >>> tx, params0 = zojax.mezo(0.1, key=3), jnp.ones(3)
    >>> params, state = params0, tx.init(params0)
    >>> with zojax.trajectory.Recorder(path, tx, params0) as recorder:
    ...     for _ in range(20):
    ...         updates, state = tx.update(None, state, params, value_fn=lambda x: jnp.sum(x**2))
    ...         params = zojax.apply_updates(params, updates)
    ...         recorder.append(state, params)
    >>> log = zojax.trajectory.load(path)
    >>> bool(jnp.all(zojax.trajectory.replay(params0, tx, log) == params))
    True
    """

    def __init__(
        self,
        path,
        tx: ZerothOrder,
        params: PyTree,
        *,
        every: int = 16,
        seal_every: int | None = 1000,
        note=None,
    ):
        every = require_count("every", every)
        if every >= _log.HYPERPARAMETERS:
            raise ValueError(f"every must be at most {_log.HYPERPARAMETERS - 1}, got {every}.")
        self._seal_every = None if seal_every is None else require_count("seal_every", seal_every)
        try:
            json.dumps(note)
        except (TypeError, ValueError) as error:
            raise TypeError(f"note must be for JSON, got {note!r}: {error}.") from error
        header = _identity.identify(tx, params)
        header |= {"evaluation": _identity.evaluation(tx, params), "every": every, "note": note}
        self._directions = tx.estimator.num_directions
        self._placements = _identity.placements(params)
        self._process = os.getpid()
        self._path = _log.as_path(path).absolute()
        self._file = open(self._path, "a+b", buffering=0)
        try:
            _lock(self._file)
            self._file.seek(0)
            self._state = _continued(header, self._file.readall(), path)
        except BaseException:
            self._file.close()
            raise

    @property
    def steps(self) -> int:
        """The number of steps that the run has taken, or 0 before the first is recorded."""
        return self._state.steps or 0

    def append(self, state: ZerothOrderState, params: PyTree | None = None) -> None:
        """Records the step that led to `state`; with `params`, those after the step, it seals the log."""
        _require_state(state)
        coefficients, value = np.asarray(state.coefficients), np.asarray(state.value)
        self._extend(state, coefficients[None], value[None], params)

    def callback(self, progress) -> None:
        """Records a chunk of steps: `zojax.minimize(..., callback=recorder.callback)`."""
        _require_state(progress.state)
        coefficients = np.asarray(progress.coefficients)
        self._extend(progress.state, coefficients, progress.values, progress.params)

    def seal(self, params: PyTree) -> None:
        """Records a digest of the parameters after the last step: a replay must pass through them.

        A run that goes on later is sealed so; one that has ended takes `close(params)`.
        """
        self._require_open()
        at = self._state
        if at.steps is None:
            raise ValueError("no step was recorded yet: append one, then seal.")
        if at.sealed != at.steps:
            self._state = _sealed(at, params)
        self.flush()

    def flush(self) -> None:
        """Ends the record, and waits until it is on the disk."""
        self._require_own_process()
        while self._state.pending:
            self._write_record()
        self._require_unchanged()
        os.fsync(self._file.fileno())

    def close(self, params: PyTree | None = None) -> None:
        """Ends the log; with the final parameters it takes no more steps: a replay must arrive at them."""
        if self._file.closed:
            return
        if os.getpid() != self._process:  # what is pending is the parent's
            self._file.close()
            return
        at = self._state
        if params is not None and at.steps is not None and not at.ended:
            _identity.require_leaves(at.header, params)
            end = _log.encode_end(_identity.digest(params))
            self._state = at._replace(pending=(*at.pending, end), ended=True)
        self.flush()
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            self.close()
        except KeyboardInterrupt:
            self.close()  # a second Ctrl-C does not lose what is pending
            raise

    def _extend(self, state, coefficients: np.ndarray, values, params) -> None:
        self._require_open()
        steps, key = len(coefficients), _key(state.rng_key)
        if np.ndim(state.count):
            raise ValueError(
                f"a log is of one run, but the state is of {np.shape(state.count)}: record them apart."
            )
        if not int(state.count):
            raise ValueError("no step was taken yet: append the state that an update returns.")
        if coefficients.shape[1:] != (self._directions,):
            raise ValueError(
                f"the state has coefficients of shape {coefficients.shape[1:]} a step, but this "
                f"recorder's tx has num_directions={self._directions}: give the recorder the tx of the run."
            )
        if not steps:
            return
        begun = int(state.count) - steps
        at = self._state
        if at.steps is None:
            at = _begun(at, key, begun, self._placements_of(params))
        if key != at.header["key"]:
            raise ValueError("the state has another key than the run in the log.")
        if begun != at.steps:
            raise ValueError(
                f"the log has {at.steps} steps, but the state had taken {begun} before this: continue "
                "from zojax.trajectory.resume(params, tx, log), or record to another path."
            )
        hyperparameters = _plain(_identity.free(state.inner_state))
        if hyperparameters and hyperparameters != at.hyperparameters:
            change = _log.encode_hyperparameters(hyperparameters)
            at = at._replace(pending=(*at.pending, change), hyperparameters=hyperparameters)
        if at.header["columns"] > self._directions:
            both = [coefficients, np.asarray(values)[:, None]]
            coefficients = np.concatenate(both, axis=1, dtype=at.header["dtype"])
        at = _taken(at, coefficients)
        if params is not None and self._seal_is_due(at):
            at = _sealed(at, params)
        self._state = at
        while _is_complete(self._state):
            self._write_record()

    def _placements_of(self, params: PyTree | None) -> list[str]:
        """Of the run's parameters: those before the first step may wait on the host."""
        if params is None:
            return self._placements
        _identity.require_leaves(self._state.header, params)
        return _identity.placements(params)

    def _seal_is_due(self, at: _State) -> bool:
        if self._seal_every is None:
            return False
        return at.sealed is None or at.steps - at.sealed >= min(self._seal_every, at.sealed)

    def _write_record(self) -> None:
        """Writes the first pending record whole. After an error or an interrupt, call it again."""
        self._require_unchanged()
        at = self._state
        payload, pending = _first_record(at)
        data, checksum = _log.encode_record(payload, at.checksum)
        if at.unfinished:
            self._file.truncate(at.size)
        self._state = at._replace(unfinished=data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._state = at._replace(
            size=at.size + len(data),
            checksum=checksum,
            unfinished=b"",
            pending=pending,
        )

    def _require_open(self) -> None:
        if self._file.closed or self._state.ended:
            raise ValueError("the recorder is closed; open another to go on.")
        self._require_own_process()

    def _require_own_process(self) -> None:
        if os.getpid() != self._process:
            raise ValueError(
                f"the recorder belongs to process {self._process}: a forked child needs a recorder "
                "and a path of its own."
            )

    def _require_unchanged(self) -> None:
        """Raises ValueError unless the file is as this recorder left it."""
        try:
            is_same = os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            is_same = False
        if not is_same:
            raise ValueError(
                f"{self._path} was deleted, moved or replaced while it was recorded. Move the file back "
                "and call flush, or resume from a copy with a new recorder."
            )
        at = self._state
        expected = struct.pack("<I", at.checksum) + at.unfinished if at.size else at.unfinished
        begin = max(at.size - 4, 0)
        self._file.seek(begin)
        found = self._file.read(len(expected) + 1)
        if not expected.startswith(found) or begin + len(found) < at.size:
            raise ValueError(
                f"{self._path} was truncated or written by something else while it was recorded. Resume "
                "from its intact steps, trajectory.load(path, damaged='drop'), and record to another path."
            )


def _continued(header: dict, data: bytes, path) -> _State:
    """The state that goes on after what a file holds."""
    text = _log.begun_header(data)
    if text is not None:  # new, or killed before its first step
        _check_begun(header, text, path)
        return _State(header, unfinished=data)
    parsed = _log.parse(data, path)
    _log.require_intact(parsed)
    log = parsed.log
    _identity.check(log.header, header)
    if header["evaluation"] != log.header["evaluation"]:
        raise ValueError(
            f"another optimizer: its mu, stencil or shaping differs from that of the run in {path}. "
            "Choose another path."
        )
    if log.end is not None:
        raise ValueError(f"{path} is sealed: its run has ended. Choose another path.")
    if parsed.cut:
        warnings.warn(parsed.cut, stacklevel=3)
    return _State(
        log.header,
        parsed.size,
        parsed.checksum,
        unfinished=data[parsed.size :],
        steps=log.start + log.steps,
        hyperparameters=log.hyperparameters[-1][1] if log.hyperparameters else None,
        sealed=log.seals[-1][0] if log.seals else None,
    )


def _check_begun(header: dict, text: str, path) -> None:
    """Raises ValueError unless a text is how this header would begin."""
    own = json.dumps(header, separators=(",", ":"))[:-1]  # the key and the like follow
    if text[: len(own)] != own[: len(text)]:
        raise ValueError(
            f"{path} ends in its header, which is not this run's, and has no step. Choose another "
            "path, or remove it."
        )


def _begun(at: _State, key: dict, start: int, placements: list[str]) -> _State:
    """With a header that is whole, as the first record."""
    made = {"made_with": _identity.made_with(), "placements": placements}
    header = at.header | {"key": key, "start": start} | made
    return at._replace(header=header, pending=(_log.encode_header(header),), steps=start)


def _sealed(at: _State, params: PyTree) -> _State:
    """With a seal after the last step."""
    _identity.require_leaves(at.header, params)
    seal = _log.encode_seal(_identity.digest(params))
    return at._replace(pending=(*at.pending, seal), sealed=at.steps)


def _taken(at: _State, steps: np.ndarray) -> _State:
    """With more steps, in one array with those that wait last."""
    *before, last = at.pending or (b"",)
    if isinstance(last, bytes):
        pending = (*at.pending, steps)
    else:
        pending = (*before, np.concatenate([last, steps]))
    return at._replace(pending=pending, steps=at.steps + len(steps))


def _first_record(at: _State) -> tuple[bytes, tuple]:
    """The payload of the first pending record, and what is pending after it."""
    first, *rest = at.pending
    if isinstance(first, bytes):
        return first, tuple(rest)
    every = at.header["every"]
    left = [first[every:]] if len(first) > every else []
    return _log.encode_steps(first[:every]), (*left, *rest)


def _is_complete(at: _State) -> bool:
    """Whether the first pending record takes no more steps."""
    if not at.pending:
        return False
    first = at.pending[0]
    return isinstance(first, bytes) or len(at.pending) > 1 or len(first) >= at.header["every"]


def _lock(file) -> None:
    """Two recorders would write into one another's records."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(
            f"{file.name} is being recorded by another recorder; close it, or choose another path."
        ) from error
    except OSError:  # a file system without locks
        pass


def _require_state(state) -> None:
    if not isinstance(state, ZerothOrderState):
        raise TypeError(
            "append takes the optimizer's state after a step, a ZerothOrderState, got "
            f"{brief(state)}: recorder.append(state)."
        )


def _key(key: jax.Array) -> dict:
    return {
        "impl": str(jax.random.key_impl(key)),
        "data": np.asarray(jax.random.key_data(key)).tolist(),
    }


def _plain(hyperparameters: list[dict]) -> dict:
    """{"0.learning_rate": 0.1}: as JSON has them, floats to the last bit."""
    return {
        f"{i}.{name}": np.asarray(value, np.float64).tolist()
        for i, part in enumerate(hyperparameters)
        for name, value in part.items()
    }
