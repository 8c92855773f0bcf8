"""Logs in files: load and save."""

import os
from pathlib import Path

from zojax._checks import brief, require_option
from zojax._warnings import warn
from zojax.trajectory._codec import encode_record, parse, payloads, require_intact
from zojax.trajectory._log import Log, require_log


def load(path, damaged: str = "raise") -> Log:
    """Reads a log; drops a last record that was cut off, with a warning.

    Args:
      path: of the file.
      damaged: for a corrupt file. "raise" raises; "drop" returns the intact steps before the damage,
        with a warning.

    Raises:
      ValueError: a file that is not a log, or of a newer version; a corrupt header; corrupt records,
        with the first step lost.
      OSError: the file cannot be read.

    >>> import os, tempfile, warnings, jax.numpy as jnp, zojax
    >>> path, tx, params = os.path.join(tempfile.mkdtemp(), "run"), zojax.mezo(0.1), jnp.ones(3)
    >>> with zojax.trajectory.Recorder(path, tx, params, every=10, seal_every=None) as recorder:
    ...     run = zojax.minimize(
    ...         lambda x: jnp.sum(x**2), params, tx, 50, callback=recorder.callback)
    >>> with open(path, "r+b") as file:
    ...     _ = file.seek(-100, os.SEEK_END), file.write(bytes(100))  # as after a power failure
    >>> with warnings.catch_warnings(action="ignore"):
    ...     zojax.trajectory.load(path, damaged="drop").steps
    20
    """
    require_option("damaged", damaged, ("raise", "drop"))
    parsed = parse(as_path(path).read_bytes(), path)
    if damaged == "raise":
        require_intact(parsed)
    if parsed.cut or parsed.damage:
        dropped = parsed.cut or f"{parsed.damage} The bytes from there on are dropped."
        warn(dropped)
    return parsed.log


def save(path, log: Log) -> None:
    """Writes a log to a new file, as after `merge` and `truncate`.

    Args:
      path: of the file; it must not exist.

    Raises:
      FileExistsError: something is at `path`; nothing is written.
      OSError: the file cannot be written; nothing is left at `path`.

    >>> import os, tempfile, jax.numpy as jnp, zojax
    >>> from zojax import trajectory
    >>> folder, tx, params = tempfile.mkdtemp(), zojax.mezo(0.1), jnp.ones(3)
    >>> with trajectory.Recorder(os.path.join(folder, "run"), tx, params) as recorder:
    ...     run = zojax.minimize(
    ...         lambda x: jnp.sum(x**2), params, tx, 100, callback=recorder.callback)
    >>> log = trajectory.load(os.path.join(folder, "run"))
    >>> trajectory.save(os.path.join(folder, "half"), trajectory.truncate(log, 50))
    >>> trajectory.load(os.path.join(folder, "half")).steps
    50
    """
    require_log(log)
    checksum, records = 0, []
    for payload in payloads(log):
        data, checksum = encode_record(payload, checksum)
        records.append(data)
    with open(as_path(path), "xb") as file:
        try:
            file.write(b"".join(records))
            file.flush()
        except BaseException:
            os.unlink(path)  # half a log, which a second attempt would find in its way
            raise


def as_path(path) -> Path:
    """The path; raises TypeError for another type."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or a pathlib.Path, got {brief(path)}.")
    return Path(path)
