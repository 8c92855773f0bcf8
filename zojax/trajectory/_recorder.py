"""`Recorder` appends the scalars of a run to its log while it runs."""

import json
import os
import struct
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from zojax._checks import brief, require_count
from zojax._transform import ZerothOrder, ZerothOrderState
from zojax._trees import PyTree
from zojax.processes import exchange
from zojax.trajectory import _codec, _identity, _recording
from zojax.trajectory._files import as_path
from zojax.trajectory._hyperparameters import free, plain
from zojax.trajectory._logfile import opened
from zojax.trajectory._recording import Recording

if TYPE_CHECKING:
    from zojax import Progress


class Recorder:
    r"""Appends every step of a run to a log: 4 bytes a direction, and 5 every `every` steps.

    A new path gets a new log. The recorder continues an existing log of the same base parameters and the
    same optimizer, with equal mu, stencil and shaping. Take the parameters and the state from `resume`.

    After an exception, a full disk or Ctrl-C at any moment, the log loads and the recorder continues;
    `steps` is its number of steps. A kill loses at most the last `every` - 1 steps, which the run takes
    again.

    **Processes.** Under `jax.distributed`, call the recorder in all processes alike. Parameters may span
    them. Process 0 writes the file. At each seal all processes compare their digests. A process that is
    started again finds the steps so far in `past`; pass `every=1`, so that none is missing.

    Args:
      path: of the file, the same in all processes; only process 0 needs the folder.
      tx: from `zojax.zeroth_order` or a ready-made optimizer.
      params: the parameters before the first step. Every replay needs them: keep a copy if a step is
        donated its arguments, since `jax.device_put` may share their memory.
      every: steps a record. `flush` ends a record early, for 5 bytes.
      seal_every: the most steps between seals; None for no seals. A seal is a digest of the parameters in
        21 bytes, and a replay must arrive at it. `callback` and `append(state, params)` seal after 1, 2,
        4, 8, ... steps, then every `seal_every` steps. A seal copies all parameters to the host and hashes
        them, about a second per GB.
      note: a JSON value for the header of a new log.

    Attributes:
      steps: of the run so far, 0 before the first is recorded.
      past: the `Log` found at `path`, None for a new one.

    Raises:
      TypeError: a `tx` that does not come from `zojax.zeroth_order`, or a note that is not JSON.
      ValueError: the log at `path` is of another run, corrupt, or open in another recorder. The methods
        raise it after another program has deleted, moved, replaced or changed the file, and in a
        forked child. A seal raises it if processes have different parameters.
      TimeoutError: another process does not take part in a seal, or process 0 opens no recorder.
      OSError: the file cannot be opened, or `append`, `flush` and `close` cannot write it. Pending
        records are kept, and the next call that can writes them.

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
        path: str | os.PathLike[str],
        tx: ZerothOrder,
        params: PyTree,
        *,
        every: int = 16,
        seal_every: int | None = 1000,
        note: Any = None,
    ):
        every = require_count("every", every)
        if every >= _codec.HYPERPARAMETERS:
            raise ValueError(f"every must be at most {_codec.HYPERPARAMETERS - 1}, got {every}.")
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
        self._path = as_path(path)
        self._file = opened(self._path)
        try:
            self._state, self.past = _recording.continued(header, self._file.readall(), path)
            self._file.publish(self._state.size)
        except BaseException:
            self._file.close()
            raise

    @property
    def steps(self) -> int:
        """The steps of the run so far, 0 before the first is recorded."""
        return self._state.steps or 0

    def append(self, state: ZerothOrderState, params: PyTree | None = None) -> None:
        """Records the step that led to `state`; with the `params` after it, the log may be sealed."""
        _require_state(state)
        coefficients, value = np.asarray(state.coefficients), np.asarray(state.value)
        self._extend(state, coefficients[None], value[None], params)

    def callback(self, progress: "Progress") -> None:
        """Records a chunk of steps: `zojax.minimize(..., callback=recorder.callback)`."""
        _require_state(progress.state)
        coefficients = np.asarray(progress.coefficients)
        self._extend(progress.state, coefficients, progress.values, progress.params)

    def seal(self, params: PyTree) -> None:
        """Records a digest of the parameters after the last step, which a replay must reach.

        The run can go on; `close(params)` ends it.
        """
        self._require_open()
        at = self._state
        if at.steps is None:
            raise ValueError("no step was recorded yet: append one, then seal.")
        if at.sealed != at.steps:
            self._state = _recording.sealed(at, self._agreed(at, params))
        self.flush()

    def flush(self) -> None:
        """Ends the record and waits until it is on the disk."""
        self._require_own_process()
        while self._state.pending:
            self._write_record()
        self._require_unchanged()
        self._file.sync()

    def close(self, params: PyTree | None = None) -> None:
        """Closes the file; with the final parameters it ends the log, and a replay must arrive at them."""
        if self._file.closed:
            return
        if os.getpid() != self._process:  # pending steps are the parent's
            self._file.close()
            return
        at = self._state
        if params is not None and at.steps is not None and not at.ended:
            self._state = _recording.ended(at, self._agreed(at, params))
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

    def _extend(self, state: ZerothOrderState, coefficients: np.ndarray, values, params) -> None:
        self._require_open()
        self._require_step(state, coefficients)
        data = np.asarray(jax.random.key_data(state.rng_key)).tolist()
        key = {"impl": str(jax.random.key_impl(state.rng_key)), "data": data}
        steps = len(coefficients)
        if not steps:
            return
        before = int(state.count) - steps
        at = self._state
        if at.steps is None:
            at = _recording.begun(at, key, before, self._placements_of(params))
        if key != at.header["key"]:
            raise ValueError("the state has another key than the run in the log.")
        if before != at.steps:
            raise ValueError(
                f"the log has {at.steps} steps, but the state had taken {before} before this: continue "
                "from zojax.trajectory.resume(params, tx, log), or record to another path."
            )
        at = _recording.changed(at, plain(free(state.inner_state)))
        if at.header["columns"] > self._directions:
            both = [coefficients, np.asarray(values)[:, None]]
            coefficients = np.concatenate(both, axis=1, dtype=at.header["dtype"])
        at = _recording.taken(at, coefficients)
        if params is not None and self._seal_is_due(before, at):
            at = _recording.sealed(at, self._agreed(at, params))
        self._state = at
        while _recording.has_complete_record(self._state):
            self._write_record()

    def _require_step(self, state: ZerothOrderState, coefficients: np.ndarray) -> None:
        """Raises ValueError unless the state is of one run, after a step of this optimizer."""
        if np.ndim(state.count):
            shape = np.shape(state.count)
            raise ValueError(
                f"a log is of one run, but the state is of {shape}: record them apart."
            )
        if not int(state.count):
            raise ValueError("no step was taken yet: append the state that an update returns.")
        if coefficients.shape[1:] != (self._directions,):
            raise ValueError(
                f"the state has coefficients of shape {coefficients.shape[1:]} a step, but this "
                f"recorder's tx has num_directions={self._directions}: give the recorder the tx of the run."
            )

    def _placements_of(self, params: PyTree | None) -> list[str]:
        """The run's placements; the parameters before the first step may still be on the host."""
        if params is None:
            return self._placements
        _identity.require_leaves(self._state.header, params)
        return _identity.placements(params)

    def _seal_is_due(self, before: int, at: Recording) -> bool:
        """Whether a seal is due since the step before; in all processes at the same steps."""
        if self._seal_every is None or at.steps is None:
            return False
        start, every = at.header["start"], self._seal_every
        due, were_due = (_recording.seals_due(n - start, every) for n in (at.steps, before))
        return due > were_due

    def _agreed(self, at: Recording, params: PyTree) -> str:
        """The digest of the parameters; raises ValueError if another process has another one."""
        _identity.require_leaves(at.header, params)
        digest = _identity.digest(params)
        own = np.frombuffer(bytes.fromhex(digest), np.uint8)
        all_ = exchange(own, at.steps or 0, name=f"digest of {self._path}")
        others = np.flatnonzero((all_ != own).any(axis=1)).tolist()
        if others:
            raise ValueError(
                f"after step {at.steps} processes {others} have other parameters than process "
                f"{jax.process_index()}: start all from the same parameters and key, and tell all the same "
                "values."
            )
        return digest

    def _write_record(self) -> None:
        """Writes the first pending record whole. After an error or an interrupt, call it again."""
        self._require_unchanged()
        at = self._state
        payload, pending = _recording.first_record(at)
        data, checksum = _codec.encode_record(payload, at.checksum)
        if at.unfinished:
            self._file.truncate(at.size)
        self._state = at._replace(unfinished=data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        size = at.size + len(data)
        self._state = at._replace(size=size, checksum=checksum, unfinished=b"", pending=pending)
        self._file.publish(self._state.size)

    def _require_open(self) -> None:
        self._require_own_process()
        if self._file.closed or self._state.ended:
            raise ValueError("the recorder is closed; open another to go on.")

    def _require_own_process(self) -> None:
        if os.getpid() != self._process:
            raise ValueError(
                f"the recorder belongs to process {self._process}: a forked child needs a recorder "
                "and a path of its own."
            )

    def _require_unchanged(self) -> None:
        """Raises ValueError unless the file is as this recorder left it."""
        if not self._file.is_in_place():
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


def _require_state(state) -> None:
    if not isinstance(state, ZerothOrderState):
        raise TypeError(
            "append takes the optimizer's state after a step, a ZerothOrderState, got "
            f"{brief(state)}: recorder.append(state)."
        )
