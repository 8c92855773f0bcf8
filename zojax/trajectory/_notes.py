"""`note_of` reads the note of a log; `require_note` compares it with that of the run that continues it."""

import warnings
from collections.abc import Callable, Mapping
from os import PathLike

from zojax.trajectory import _files


def require_note(
    path: str | PathLike, note: Mapping[str, object], label: Callable[[str], str] = str
) -> None:
    """Refuses to continue the log of another run: its note must equal that of this one.

    `Recorder` keeps a note in each new log. It compares optimizer and parameters, but not the note.

    Args:
      path: of the log. A missing file and a log without steps pass.
      note: this run's note. Its first name must be in the log's note. Other names may be missing there:
        older programs wrote fewer.
      label: `(name) -> text`, how the error shows a name.

    Raises:
      ValueError: for a note of another program, and for a different value, with both values.

    >>> import os, tempfile, jax.numpy as jnp, zojax
    >>> path = os.path.join(tempfile.mkdtemp(), "run.log")
    >>> tx, params = zojax.mezo(0.1, key=3), jnp.ones(3)
    >>> with zojax.trajectory.Recorder(path, tx, params, note={"data": "a", "batch": 8}) as recorder:
    ...     _, state = tx.update(None, tx.init(params), params, value_fn=jnp.sum)
    ...     recorder.append(state)
    >>> require_note(path, {"data": "a", "batch": 16})
    Traceback (most recent call last):
    ValueError: ...run.log is of another run: its batch is 8, not 16. ...
    """
    steps, logged = _logged(path)
    if steps is None:
        return
    logged = logged or {}
    if not isinstance(logged, dict) or next(iter(note)) not in logged:
        raise ValueError(f"{path} was not recorded by this command. Choose another path.")
    for name, value in note.items():
        then = logged.get(name, value)
        if then != value:
            raise ValueError(
                f"{path} is of another run: its {label(name)} is {then!r}, not {value!r}. Choose "
                "another path, or continue with the logged value."
            )


def note_of(path: str | PathLike) -> tuple[object, int]:
    """The note and the number of steps of a log; `(None, 0)` without a file or a step.

    Args:
      path: of the log.

    >>> note_of("no_such.log")
    (None, 0)
    """
    steps, note = _logged(path)
    return note, steps or 0


def _logged(path: str | PathLike) -> tuple[int | None, object]:
    """The steps of a log that `Recorder` may continue, or None, and its note."""
    try:
        with warnings.catch_warnings(action="ignore"):  # the recorder warns of a cut-off end itself
            log = _files.load(path)
    except (OSError, ValueError):
        return None, None
    return log.start + log.steps, log.header["note"]
