"""`Recorder` appends the scalars of a run to its log while it runs."""

import json
import os
from pathlib import Path

import jax
import numpy as np

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

from zojax._transform import ZerothOrder, ZerothOrderState
from zojax._types import PyTree, brief, require_count
from zojax.trajectory import _identity, _log


class Recorder:
    r"""Appends every step of a run to a log: 4 bytes a direction, and 5 every `every` steps.

    A new path gets a new log. An existing log of the same optimizer (mu, stencil and shaping, on which a
    replay does not depend, included) and base parameters is continued: take the parameters and the state
    from `resume`.

    Args:
      path: of the file.
      tx: what `zojax.zeroth_order` or a ready-made optimizer returned.
      params: the parameters that the run began with, before the first step.
      every: steps a record. A run that is killed loses at most the steps of a record, which it then
        takes again; `flush` ends a record early, for 5 bytes.
      note: anything for JSON that should be kept in the header of a new log.

    Raises:
      TypeError: for a `tx` that does not come from `zojax.zeroth_order`, or a note that is not for JSON.
      ValueError: when the log at `path` is of another run, with the reason, corrupt, or being recorded by
        another recorder.
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
    ...         recorder.append(state)
    >>> log = zojax.trajectory.load(path)
    >>> bool(jnp.all(zojax.trajectory.replay(params0, tx, log) == params))
    True
    """

    def __init__(self, path, tx: ZerothOrder, params: PyTree, *, every: int = 16, note=None):
        every = require_count("every", every)
        if every >= _log.HYPERPARAMETERS:
            raise ValueError(f"every must be at most {_log.HYPERPARAMETERS - 1}, got {every}.")
        try:
            json.dumps(note)
        except (TypeError, ValueError) as error:
            raise TypeError(f"note must be for JSON, got {note!r}: {error}.") from error
        self._header = _identity.identify(tx, params)
        self._directions = tx.estimator.num_directions
        self._header |= {
            "evaluation": _identity.evaluation(tx, params),
            "every": every,
            "note": note,
        }
        self._pending: list[np.ndarray] = []
        self._next = self._hyperparameters = None
        path = Path(path)
        self._file = open(path, "ab", buffering=0)
        try:
            _lock(self._file)
            self._continue(path)
        except BaseException:
            self._file.close()
            raise

    @property
    def steps(self) -> int:
        """The number of steps that the run has taken, or 0 before the first is recorded."""
        return self._next or 0

    def append(self, state: ZerothOrderState) -> None:
        """Records the step that led to `state`."""
        if not isinstance(state, ZerothOrderState):
            raise TypeError(
                "append takes the optimizer's state after a step, a ZerothOrderState, got "
                f"{brief(state)}: recorder.append(state)."
            )
        self._extend(state, np.asarray(state.coefficients)[None], np.asarray(state.value)[None])

    def callback(self, progress) -> None:
        """Records a chunk of steps: `zojax.minimize(..., callback=recorder.callback)`."""
        self._extend(progress.state, np.asarray(progress.coefficients), progress.values)

    def flush(self) -> None:
        """Ends the record, and waits until it is on the disk."""
        self._write_pending()
        os.fsync(self._file.fileno())

    def close(self, params: PyTree | None = None) -> None:
        """Ends the log; with the final parameters it is sealed: a replay must arrive at them."""
        if self._file.closed:
            return
        self.flush()
        if params is not None and self._next is not None:
            self._write(_log.encode_end(_identity.digest(params)))
            os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _continue(self, path: Path) -> None:
        data = path.read_bytes()
        text = _log.begun_header(data)
        if text is not None:  # new, or killed before its first step
            self._check_begun(path, text)
            return
        parsed = _log.parse(data, path)
        _identity.check(parsed.log.header, self._header)
        if self._header["evaluation"] != parsed.log.header["evaluation"]:
            raise ValueError(
                f"another optimizer: its mu, stencil or shaping differs from that of the run in {path}. "
                "Choose another path."
            )
        if parsed.log.end is not None:
            raise ValueError(f"{path} is sealed: its run has ended. Choose another path.")
        os.truncate(path, parsed.size)
        self._header, self._checksum = parsed.log.header, parsed.checksum
        self._next = parsed.log.start + parsed.log.steps
        if parsed.log.hyperparameters:
            self._hyperparameters = parsed.log.hyperparameters[-1][1]

    def _check_begun(self, path: Path, text: str) -> None:
        """Raises ValueError unless a text is how this recorder's header would begin."""
        own = json.dumps(self._header, separators=(",", ":"))[:-1]  # the key and the like follow
        if text[: len(own)] != own[: len(text)]:
            raise ValueError(
                f"{path} ends in its header, which is not this run's, and has no step. Choose another "
                "path, or remove it."
            )

    def _extend(self, state, coefficients: np.ndarray, values) -> None:
        if self._file.closed:
            raise ValueError("the recorder is closed; open another to go on.")
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
        begun = int(state.count) - steps
        if self._next is None:
            self._begin(key, begun)
        if key != self._header["key"]:
            raise ValueError("the state has another key than the run in the log.")
        if begun != self._next:
            raise ValueError(
                f"the log has {self._next} steps, but the state had taken {begun} before this: continue "
                "from zojax.trajectory.resume(params, tx, log), or record to another path."
            )
        hyperparameters = _plain(_identity.free(state.inner_state))
        if hyperparameters and hyperparameters != self._hyperparameters:
            self._write_pending()
            self._write(_log.encode_hyperparameters(hyperparameters))
            self._hyperparameters = hyperparameters
        if self._header["columns"] > self._directions:
            both = [coefficients, np.asarray(values)[:, None]]
            coefficients = np.concatenate(both, axis=1, dtype=self._header["dtype"])
        self._pending.extend(coefficients)
        self._next = begun + steps
        while len(self._pending) >= self._header["every"]:
            self._write_pending(self._header["every"])

    def _begin(self, key: dict, start: int) -> None:
        self._header |= {"key": key, "start": start, "made_with": _identity.made_with()}
        data, self._checksum = _log.encode_header(self._header)
        self._file.truncate(0)  # of a header that was cut off
        self._write_all(data)
        self._next = start

    def _write_pending(self, count: int | None = None) -> None:
        chosen = self._pending[:count]
        if chosen:
            self._write(_log.encode_steps(np.stack(chosen)))
            # Not before they are written: the next call tries again.
            del self._pending[: len(chosen)]

    def _write(self, payload: bytes) -> None:
        data, checksum = _log.encode_record(payload, self._checksum)
        self._write_all(data)
        self._checksum = checksum

    def _write_all(self, data: bytes) -> None:
        """Everything or, on a disk that is full, nothing: what follows half a record could not be read."""
        size, rest = os.fstat(self._file.fileno()).st_size, memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(size)
            raise


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
