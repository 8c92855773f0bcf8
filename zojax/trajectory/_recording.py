"""A recording: all that changes while a run is recorded, and its pure transitions.

A recorder replaces its recording in one assignment, so that an interrupt leaves the old one or the new
one. Both fit the file.
"""

import json
from typing import Any, NamedTuple

import numpy as np

from zojax._warnings import warn
from zojax.trajectory import _codec, _identity
from zojax.trajectory._log import Log


class Recording(NamedTuple):
    """A log that is being written.

    The file may hold bytes after `size`: the beginning of `unfinished`, which is written again.
    """

    header: dict  # of the log; key, start and the like come with the first step
    size: int = 0  # bytes of the file that are complete records
    checksum: int = 0  # of these bytes
    unfinished: bytes = b""  # the record that was being written after them
    pending: tuple[np.ndarray | bytes, ...] = ()  # arrays of steps, and payloads of other records
    steps: int | None = None  # of the run, pending ones included; None before the first
    hyperparameters: dict | None = None  # of the last step
    sealed: int | None = None  # steps before the last seal
    ended: bool = False  # whether the last record is the end


def continued(header: dict, data: bytes, path) -> tuple[Recording, Log | None]:
    """The recording that appends to the bytes of a file, and the log in them, if they have a step.

    Raises ValueError for the file of another run.
    """
    text = _codec.begun_header(data)
    if text is not None:  # new, or killed before its first step
        _require_begun(header, text, path)
        return Recording(header, unfinished=data), None
    parsed = _codec.parse(data, path)
    _codec.require_intact(parsed)
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
        warn(parsed.cut)
    recording = Recording(
        log.header,
        parsed.size,
        parsed.checksum,
        unfinished=data[parsed.size :],
        steps=log.start + log.steps,
        hyperparameters=log.hyperparameters[-1][1] if log.hyperparameters else None,
        sealed=log.seals[-1][0] if log.seals else None,
    )
    return recording, log


def _require_begun(header: dict, text: str, path) -> None:
    """Raises ValueError unless a text is the beginning of this header."""
    own = json.dumps(header, separators=(",", ":"))[:-1]  # the key and the like follow
    if text[: len(own)] != own[: len(text)]:
        raise ValueError(
            f"{path} ends in its header, which is not this run's, and has no step. Choose another "
            "path, or remove it."
        )


def begun(at: Recording, key: dict, start: int, placements: list[str]) -> Recording:
    """With a complete header as the first record."""
    made = {"made_with": _identity.made_with(), "placements": placements}
    header = at.header | {"key": key, "start": start} | made
    return at._replace(header=header, pending=(_codec.encode_header(header),), steps=start)


def sealed(at: Recording, digest: str) -> Recording:
    """With a seal after the last step."""
    record = _codec.encode_digest(_codec.SEAL, digest)
    return at._replace(pending=(*at.pending, record), sealed=at.steps)


def ended(at: Recording, digest: str) -> Recording:
    """With an end after the last step."""
    record = _codec.encode_digest(_codec.END, digest)
    return at._replace(pending=(*at.pending, record), ended=True)


def seals_due(steps: int, every: int) -> int:
    """How many seals are due in the first steps: after 1, 2, 4, 8, ... steps, then every `every` steps."""
    last = 1 << (every - 1).bit_length()
    return steps.bit_length() if steps <= last else last.bit_length() + (steps - last) // every


def changed(at: Recording, hyperparameters: dict[str, Any]) -> Recording:
    """With a record of the hyperparameters, if they changed."""
    if not hyperparameters or hyperparameters == at.hyperparameters:
        return at
    change = _codec.encode_hyperparameters(hyperparameters)
    return at._replace(pending=(*at.pending, change), hyperparameters=hyperparameters)


def taken(at: Recording, steps: np.ndarray) -> Recording:
    """With more steps, joined to the array of steps that is pending last."""
    *before, last = at.pending or (b"",)
    if isinstance(last, bytes):
        pending = (*at.pending, steps)
    else:
        pending = (*before, np.concatenate([last, steps]))
    return at._replace(pending=pending, steps=(at.steps or 0) + len(steps))


def first_record(at: Recording) -> tuple[bytes, tuple[np.ndarray | bytes, ...]]:
    """The payload of the first pending record, and the rest of `pending`."""
    first, *rest = at.pending
    if isinstance(first, bytes):
        return first, tuple(rest)
    every = at.header["every"]
    left = [first[every:]] if len(first) > every else []
    return _codec.encode_steps(first[:every]), (*left, *rest)


def has_complete_record(at: Recording) -> bool:
    """Whether the first pending record takes no more steps."""
    if not at.pending:
        return False
    first = at.pending[0]
    return isinstance(first, bytes) or len(at.pending) > 1 or len(first) >= at.header["every"]
