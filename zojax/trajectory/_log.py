"""The log and its file.

    header   "zojax\\n", version (uint16), length (uint32), compressed JSON, CRC-32 of all this
    record   kind (uint8), payload, CRC-32 of everything recorded so far, header included

Kinds 1 to 253 are a number of steps, whose scalars follow. Kind 0 is a seal, the digest of the parameters
after the steps so far. Kind 254 is a change of hyperparameters, kind 255 the digest of the final
parameters. Numbers are little-endian. Since a checksum covers all that came
before it, a record is right only in its place. Files only grow: a run that was killed leaves at worst one
incomplete record at the end. What is shorter than its first bytes say was cut off; what is complete and has
another checksum is corrupt.
"""

import json
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from zojax._checks import brief

MAGIC, VERSION = b"zojax\n", 1
SEAL, HYPERPARAMETERS, END = 0, 254, 255
_DIGEST_BYTES = 16


class Log(NamedTuple):
    """What a run recorded.

    Attributes:
      header: what identifies the run: its key, the base parameters' digests, the optimizer's program.
      scalars: shape (steps, N), the coefficients of every step, NaN for a direction left out; one
        column more, the value, where the optimizer or the stencil needs it.
      hyperparameters: of `optax.inject_hyperparams`, those that are no schedules: pairs of the step
        from which they hold and a dict.
      end: the digest of the final parameters, or None.
      seals: pairs of a number of steps and the digest of the parameters after them.
    """

    header: dict[str, Any]
    scalars: np.ndarray
    hyperparameters: tuple[tuple[int, dict], ...] = ()
    end: str | None = None
    seals: tuple[tuple[int, str], ...] = ()

    @property
    def start(self) -> int:
        """The number of steps before the first recorded one."""
        return self.header["start"]

    @property
    def steps(self) -> int:
        """The number of recorded steps."""
        return len(self.scalars)

    @property
    def key(self) -> jax.Array:
        """The key of the run."""
        data = np.asarray(self.header["key"]["data"], np.uint32)
        return jax.random.wrap_key_data(data, impl=self.header["key"]["impl"])


class Parsed(NamedTuple):
    """The intact part of a file.

    Attributes:
      log: of the intact part.
      size: bytes of the intact part.
      checksum: of the intact part.
      cut: why the bytes after it are no loss, a record that was never complete; "" without such bytes.
      damage: why the bytes after it are a loss; "" without such bytes.
    """

    log: Log
    size: int
    checksum: int
    cut: str = ""
    damage: str = ""


def load(path, damaged: str = "raise") -> Log:
    """Reads a log; a last record that was cut off is dropped, with a warning.

    Args:
      path: of the file.
      damaged: what to do with a corrupt file. "raise" raises; "drop" gives the intact steps before the
        damage, with a warning.

    Returns:
      A `Log`.

    Raises:
      ValueError: when the file is no log, is of a newer version, has a corrupt header, or is corrupt
        from a step on, which the error names.
      OSError: when it cannot be read.

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
    if not isinstance(damaged, str) or damaged not in ("raise", "drop"):
        raise ValueError(f'damaged must be "raise" or "drop", got {damaged!r}.')
    parsed = parse(as_path(path).read_bytes(), path)
    if damaged == "raise":
        require_intact(parsed)
    if parsed.cut or parsed.damage:
        dropped = parsed.cut or f"{parsed.damage} The bytes from there on are dropped."
        warnings.warn(dropped, stacklevel=2)
    return parsed.log


def as_path(path) -> Path:
    """Raises TypeError for what is no path."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or a pathlib.Path, got {brief(path)}.")
    return Path(path)


def require_intact(parsed: Parsed) -> None:
    """Raises ValueError for a corrupt file."""
    if parsed.damage:
        raise ValueError(
            f"{parsed.damage} Read the {parsed.log.steps} intact steps before it with "
            "trajectory.load(path, damaged='drop'); trajectory.save writes them to another path."
        )


def save(path, log: Log) -> None:
    """Writes a log to a new file, as after `merge` and `truncate`.

    Args:
      path: of the file; it must not exist.
      log: a `Log`.

    Raises:
      FileExistsError: when something is at `path`; nothing is written.
      OSError: when the file cannot be written; nothing is left at `path`.

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
    for payload in _payloads(log):
        data, checksum = encode_record(payload, checksum)
        records.append(data)
    with open(as_path(path), "xb") as file:
        try:
            file.write(b"".join(records))
            file.flush()
        except BaseException:
            os.unlink(path)  # half a log, which a second attempt would find in its way
            raise


def _payloads(log: Log) -> Iterator[bytes]:
    """Header and records: of `every` steps, or fewer before a change of hyperparameters or a seal."""
    yield encode_header(log.header)
    changes = {step - log.start: values for step, values in log.hyperparameters}
    seals = {step - log.start: digest for step, digest in log.seals}
    for first, stop in pairwise(sorted({0, *changes, *seals, log.steps})):
        if first in changes:
            yield encode_hyperparameters(changes[first])
        for i in range(first, stop, log.header["every"]):
            yield encode_steps(log.scalars[i : min(i + log.header["every"], stop)])
        if stop in seals:
            yield encode_seal(seals[stop])
    if log.end is not None:
        yield encode_end(log.end)


def truncate(log: Log, steps: int) -> Log:
    """The first `steps` steps of a log: replayed, they give the parameters as they were then.

    Args:
      log: a `Log`.
      steps: how many to keep, from 0 to `log.steps`.

    Returns:
      A `Log`.

    Raises:
      ValueError: for more steps than there are, or fewer than none.
      TypeError: for what is no log, or no int.

    >>> import os, tempfile, jax.numpy as jnp, zojax
    >>> from zojax import trajectory
    >>> path, tx, params0 = os.path.join(tempfile.mkdtemp(), "run"), zojax.mezo(0.1), jnp.ones(3)
    >>> def run(num_steps, **options):
    ...     return zojax.minimize(lambda x: jnp.sum(x**2), params0, tx, num_steps, **options).params
    >>> with trajectory.Recorder(path, tx, params0) as recorder:
    ...     params = run(100, callback=recorder.callback)
    >>> early = trajectory.truncate(trajectory.load(path), 10)
    >>> bool(jnp.all(trajectory.replay(params0, tx, early) == run(10)))
    True
    """
    require_log(log)
    if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool):
        raise TypeError(f"steps must be an int, got {steps!r}.")
    if not 0 <= steps <= log.steps:
        raise ValueError(f"steps must be from 0 to {log.steps}, which the log has, got {steps}.")
    stop = log.start + steps
    return log._replace(
        scalars=log.scalars[:steps],
        hyperparameters=tuple(c for c in log.hyperparameters if c[0] < stop),
        end=log.end if steps == log.steps else None,
        seals=tuple(s for s in log.seals if s[0] <= stop),
    )


def digests(log: Log) -> dict[int, str]:
    """The digest of the parameters after every sealed step, the final ones included."""
    return dict(log.seals) | ({log.start + log.steps: log.end} if log.end else {})


def merge(*logs: Log) -> Log:
    """One log from the parts of a run.

    Args:
      *logs: parts in any order; each begins where, or before, another ends. Steps that two of them
        hold must be equal.

    Returns:
      A `Log`.

    Raises:
      ValueError: when they are of different runs, leave a gap, or disagree on a step or on the final
        parameters.
      TypeError: for what is no log.

    A run that goes on in another file:

    >>> import os, tempfile, jax.numpy as jnp, zojax
    >>> from zojax import trajectory
    >>> folder, tx, params0 = tempfile.mkdtemp(), zojax.mezo(0.1), jnp.ones(3)
    >>> params, state, logs = params0, None, []
    >>> for name in ("first", "second"):
    ...     path = os.path.join(folder, name)
    ...     with trajectory.Recorder(path, tx, params0) as recorder:
    ...         run = zojax.minimize(
    ...             lambda x: jnp.sum(x**2), params, tx, 50, state=state, callback=recorder.callback)
    ...     params, state = run.params, run.state
    ...     logs.append(trajectory.load(path))
    >>> [log.start for log in logs], trajectory.merge(*logs).steps
    ([0, 50], 100)
    >>> bool(jnp.all(trajectory.replay(params0, tx, trajectory.merge(*logs)) == params))
    True
    """
    if not logs:
        raise ValueError("merge needs at least one log, got none.")
    for log in logs:
        require_log(log)
    whole, *rest = sorted(logs, key=lambda log: (log.start, log.steps))
    for log in rest:
        for name in ("key", "leaves", "program"):
            if log.header[name] != whole.header[name]:
                raise ValueError(f"the logs are of different runs: their {name} differ.")
        stop = whole.start + whole.steps
        if log.start > stop:
            raise ValueError(f"steps {stop} to {log.start} are missing between the logs.")
        shared = min(stop - log.start, log.steps)
        before = whole.scalars[log.start - whole.start :][:shared]
        different = np.flatnonzero((_bits(before) != _bits(log.scalars[:shared])).any(axis=1))
        if different.size:
            raise ValueError(f"the logs disagree on step {log.start + different[0]}.")
        begins = {log.start, *(at for at, _ in (*whole.hyperparameters, *log.hyperparameters))}
        for step in sorted(at for at in begins if log.start <= at < log.start + shared):
            if _holding(whole, step) != _holding(log, step):
                raise ValueError(f"the logs disagree on the hyperparameters of step {step}.")
        changes = dict(whole.hyperparameters) | dict(log.hyperparameters)
        whole = whole._replace(
            scalars=np.concatenate([whole.scalars, log.scalars[shared:]]),
            hyperparameters=tuple(sorted(changes.items())),
            end=_end_of_both(whole, log),
            seals=_seals_of_both(whole, log),
        )
    return whole


def _seals_of_both(a: Log, b: Log) -> tuple[tuple[int, str], ...]:
    """The final parameters of an earlier part are a seal of the whole."""
    seals, others = digests(a), digests(b)
    for step in sorted(seals.keys() & others.keys()):
        if seals[step] != others[step]:
            raise ValueError(f"the logs disagree on the parameters after step {step}.")
    return tuple(sorted((seals | others).items()))


def _end_of_both(a: Log, b: Log) -> str | None:
    """The seal of the later log; of logs that end with the same step either has it."""
    stop, other = (log.start + log.steps for log in (a, b))
    if stop != other:
        return a.end if stop > other else b.end
    if a.end and b.end and a.end != b.end:
        raise ValueError(f"the logs disagree on the final parameters, after step {stop}.")
    return a.end or b.end


def _holding(log: Log, step: int) -> dict | None:
    """The hyperparameters of a step."""
    return next((values for first, values in reversed(log.hyperparameters) if first <= step), None)


def _bits(scalars: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(scalars).view(f"u{scalars.dtype.itemsize}")


def require_log(log) -> None:
    """Raises TypeError for a path in the place of what it holds, and the like."""
    if isinstance(log, Log):
        return
    if isinstance(log, (list, tuple)):
        remedy = "give its logs one by one to trajectory.merge(*logs)"
    else:
        remedy = "read it with trajectory.load(path)"
    raise TypeError(f"log must be a Log, got {brief(log)}: {remedy}.")


# --- bytes ----------------------------------------------------------------------------------------


def encode_header(header: dict) -> bytes:
    body = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    return MAGIC + struct.pack("<HI", VERSION, len(body)) + body


def encode_record(payload: bytes, checksum: int) -> tuple[bytes, int]:
    """The bytes of a record, or of the header after checksum 0, and the checksum so far."""
    checksum = zlib.crc32(payload, checksum)
    return payload + struct.pack("<I", checksum), checksum


def encode_steps(scalars: np.ndarray) -> bytes:
    little = scalars.astype(scalars.dtype.newbyteorder("<"))
    return struct.pack("<B", len(scalars)) + little.tobytes()


def encode_hyperparameters(values: dict) -> bytes:
    body = json.dumps(values, separators=(",", ":")).encode()
    return struct.pack("<BI", HYPERPARAMETERS, len(body)) + body


def encode_seal(digest: str) -> bytes:
    return struct.pack("<B", SEAL) + bytes.fromhex(digest)


def encode_end(digest: str) -> bytes:
    return struct.pack("<B", END) + bytes.fromhex(digest)


def begun_header(data: bytes) -> str | None:
    """The JSON that there is of a header that was cut off; None for what is more, or something else."""
    begin = MAGIC + struct.pack("<H", VERSION)
    body = data[len(begin) + 4 :]
    if not body:
        return "" if begin.startswith(data[: len(begin)]) else None
    (length,) = struct.unpack("<I", data[len(begin) : len(begin) + 4])
    if not data.startswith(begin) or len(body) >= length + 4:
        return None
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(body[:length])
    except zlib.error:
        return None
    # A compressed text knows its end: what follows within the length says that the length is wrong.
    return None if inflate.unused_data else text.decode("ascii", "replace")


def parse(data: bytes, path) -> Parsed:
    """The intact part of a file; raises ValueError without a header."""
    if begun_header(data) is not None:
        where = "ends in its header" if data else "is empty"
        raise ValueError(f"{path} {where}: no step was recorded.")
    if not data.startswith(MAGIC):
        raise ValueError(f"{path} is not a zojax trajectory.")
    position = len(MAGIC) + 6
    version = int.from_bytes(data[len(MAGIC) : position - 4], "little")
    length = int.from_bytes(data[position - 4 : position], "little")
    if version > VERSION:
        raise ValueError(
            f"{path} has version {version}, this zojax reads up to {VERSION}: install a newer one."
        )
    body = data[position : position + length]
    checksum = zlib.crc32(data[: position + length])
    if data[position + length : position + length + 4] != struct.pack("<I", checksum):
        raise ValueError(
            f"{path} is corrupt: the checksum of its header is wrong. Without it no step can be read."
        )
    return _parse_records(
        json.loads(zlib.decompress(body)), data, position + length + 4, checksum, path
    )


def _parse_records(header, data, position, checksum, path) -> Parsed:
    dtype = np.dtype(header["dtype"]).newbyteorder("<")
    rows, changes, seals, end, steps, cut, damage = [], [], [], None, 0, "", ""
    while position < len(data):
        stop = position + _payload_size(header, dtype, data, position)
        found = zlib.crc32(data[position:stop], checksum)
        if stop == position or data[stop : stop + 4] != struct.pack("<I", found):
            rest = len(data) - position
            place = f"step {header['start'] + steps}, at byte {position}"
            is_short = position < stop and len(data) < stop + 4 and rest <= _largest(header, dtype)
            if is_short and not _is_whole(data[position:], checksum):
                cut = f"{path} ends in a record that was cut off: {rest} bytes after {place} are dropped."
            else:
                damage = f"{path} is corrupt after {place} of {len(data)}: a checksum is wrong."
            break
        kind, payload = data[position], data[position + 1 : stop]
        if kind == END:
            end = payload.hex()
        elif kind == SEAL:
            seals.append((header["start"] + steps, payload.hex()))
        elif kind == HYPERPARAMETERS:
            changes.append((header["start"] + steps, json.loads(payload[4:])))
        else:
            rows.append(np.frombuffer(payload, dtype).reshape(kind, header["columns"]))
            steps += kind
        checksum, position = found, stop + 4
    empty = np.zeros((0, header["columns"]), dtype)
    scalars = np.concatenate([empty, *rows]).astype(header["dtype"])
    log = Log(header, scalars, tuple(changes), end, tuple(seals))
    return Parsed(log, position, checksum, cut, damage)


def _payload_size(header, dtype, data, position) -> int:
    """Bytes of the record's kind and payload, as its first bytes say; 0 for what is no record."""
    kind = data[position]
    if kind in (SEAL, END):
        return 1 + _DIGEST_BYTES
    if kind == HYPERPARAMETERS:
        return 5 + int.from_bytes(data[position + 1 : position + 5], "little")
    if kind <= header["every"]:
        return 1 + kind * header["columns"] * dtype.itemsize
    return 0


def _is_whole(rest: bytes, checksum) -> bool:
    """Whether bytes are a record but for the first of them, which says how many there are."""
    payload, found = rest[1:-4], rest[-4:]
    checksums = (zlib.crc32(bytes([kind]) + payload, checksum) for kind in range(256))
    return any(found == struct.pack("<I", checksum) for checksum in checksums)


def _largest(header, dtype) -> int:
    """No record that was cut off has more bytes than this."""
    return max(5 + header["every"] * header["columns"] * dtype.itemsize, 4096)
