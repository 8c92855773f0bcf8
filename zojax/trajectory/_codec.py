"""The bytes of a log's file.

    header   "zojax\\n", version (uint16), length (uint32), compressed JSON, CRC-32 of all this
    record   kind (uint8), payload, CRC-32 of the header and all payloads so far

| kind | payload |
|---|---|
| 0 | a seal: the digest of the parameters after the steps so far |
| 1 to 253 | the scalars of as many steps |
| 254 | a change of hyperparameters: length (uint32), JSON |
| 255 | the end: the digest of the final parameters |

Numbers are little-endian. A checksum covers all records before it, so a record is valid only in its place.
Files only grow: a kill leaves at most one incomplete record, at the end. A record shorter than its first
bytes say was cut off. A complete record with another checksum is corrupt.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from zojax.trajectory._log import Log

MAGIC, VERSION = b"zojax\n", 1
SEAL, HYPERPARAMETERS, END = 0, 254, 255
_DIGEST_BYTES = 16


class Parsed(NamedTuple):
    """The intact part of a file."""

    log: Log  # of the intact part
    size: int  # bytes of the intact part
    checksum: int  # of the intact part
    cut: str = ""  # a message about a last record that was never complete, or ""
    damage: str = ""  # a message about corrupt bytes after the intact part, or ""


def require_intact(parsed: Parsed) -> None:
    """Raises ValueError for a corrupt file."""
    if parsed.damage:
        raise ValueError(
            f"{parsed.damage} Read the {parsed.log.steps} intact steps before it with "
            "trajectory.load(path, damaged='drop'); trajectory.save writes them to another path."
        )


def payloads(log: Log) -> Iterator[bytes]:
    """Header and records: `every` steps each, or fewer before a change of hyperparameters or a seal."""
    yield encode_header(log.header)
    changes = {step - log.start: values for step, values in log.hyperparameters}
    seals = {step - log.start: digest for step, digest in log.seals}
    for first, stop in pairwise(sorted({0, *changes, *seals, log.steps})):
        if first in changes:
            yield encode_hyperparameters(changes[first])
        for i in range(first, stop, log.header["every"]):
            yield encode_steps(log.scalars[i : min(i + log.header["every"], stop)])
        if stop in seals:
            yield encode_digest(SEAL, seals[stop])
    if log.end is not None:
        yield encode_digest(END, log.end)


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


def encode_digest(kind: int, digest: str) -> bytes:
    """A seal or the end."""
    return struct.pack("<B", kind) + bytes.fromhex(digest)


def begun_header(data: bytes) -> str | None:
    """The JSON in a header that was cut off; None for more bytes, or other ones."""
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
    # A compressed text knows its end. Bytes after it, within the length, show a wrong length.
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
        known = f"this zojax reads up to {VERSION}: install a newer one."
        raise ValueError(f"{path} has version {version}, {known}")
    stop = position + length
    checksum = zlib.crc32(data[:stop])
    if data[stop : stop + 4] != struct.pack("<I", checksum):
        what = "the checksum of its header is wrong. Without it no step can be read."
        raise ValueError(f"{path} is corrupt: {what}")
    header = json.loads(zlib.decompress(data[position:stop]))
    return _parse_records(header, data, stop + 4, checksum, path)


def _parse_records(header: dict, data: bytes, position: int, checksum: int, path) -> Parsed:
    dtype = np.dtype(header["dtype"]).newbyteorder("<")
    rows: list[np.ndarray] = [np.zeros((0, header["columns"]), dtype)]
    changes: list[tuple[int, dict]] = []
    seals: list[tuple[int, str]] = []
    end, steps, cut, damage = None, header["start"], "", ""
    while position < len(data):
        stop = position + _payload_size(header, dtype, data, position)
        found = zlib.crc32(data[position:stop], checksum)
        if stop == position or data[stop : stop + 4] != struct.pack("<I", found):
            place = f"step {steps}, at byte {position}"
            if _was_cut_off(header, dtype, data, position, stop, checksum):
                rest = len(data) - position
                cut = f"{path} ends in a record that was cut off: {rest} bytes after {place} are dropped."
            else:
                damage = f"{path} is corrupt after {place} of {len(data)}: a checksum is wrong."
            break
        kind, payload = data[position], data[position + 1 : stop]
        if kind == END:
            end = payload.hex()
        elif kind == SEAL:
            seals.append((steps, payload.hex()))
        elif kind == HYPERPARAMETERS:
            changes.append((steps, json.loads(payload[4:])))
        else:
            rows.append(np.frombuffer(payload, dtype).reshape(kind, header["columns"]))
            steps += kind
        checksum, position = found, stop + 4
    scalars = np.concatenate(rows).astype(header["dtype"])
    log = Log(header, scalars, tuple(changes), end, tuple(seals))
    return Parsed(log, position, checksum, cut, damage)


def _payload_size(header: dict, dtype: np.dtype, data: bytes, position: int) -> int:
    """Bytes of a record's kind and payload, from its first bytes; 0 for an unknown kind."""
    kind = data[position]
    if kind in (SEAL, END):
        return 1 + _DIGEST_BYTES
    if kind == HYPERPARAMETERS:
        return 5 + int.from_bytes(data[position + 1 : position + 5], "little")
    if kind <= header["every"]:
        return 1 + kind * header["columns"] * dtype.itemsize
    return 0


def _was_cut_off(header: dict, dtype: np.dtype, data: bytes, position, stop, checksum) -> bool:
    """Whether the last bytes are an incomplete record, rather than a corrupt one."""
    rest = data[position:]
    # The largest record: a full one of steps, or hyperparameters.
    most = max(5 + header["every"] * header["columns"] * dtype.itemsize, 4096)
    is_short = position < stop and len(data) < stop + 4 and len(rest) <= most
    return is_short and not _is_complete(rest, checksum)


def _is_complete(rest: bytes, checksum: int) -> bool:
    """Whether bytes are a record whose first byte, the number of its steps, is wrong."""
    payload, found = rest[1:-4], rest[-4:]
    checksums = (zlib.crc32(bytes([kind]) + payload, checksum) for kind in range(256))
    return any(found == struct.pack("<I", checksum) for checksum in checksums)
