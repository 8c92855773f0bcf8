"""The file of a log: on the disk in process 0, and in the memory of all other processes.

Process 0 sends what it writes to JAX's coordination service as well. The others open the log there: they
need no shared file system, and a process that starts late finds all records.
"""

import io
import os
import time
from pathlib import Path

import jax

from zojax._locks import lock
from zojax.processes import TIMEOUT, awaited, coordinator


def opened(path: Path) -> "OnDisk | InMemory":
    """The log at a path, a binary file that appends without a buffer.

    Raises:
      ValueError: another recorder writes it.
      OSError: it cannot be opened.
      TimeoutError: process 0 did not open it.
    """
    return OnDisk(path) if jax.process_index() == 0 else InMemory(path)


class OnDisk(io.FileIO):
    """The file itself, locked against other recorders."""

    def __init__(self, path: Path):
        super().__init__(path, "a+b")
        self.path, self.folder, self.sent = path.absolute(), _folder(path), 0
        try:
            busy = "is being recorded by another recorder; close it, or choose another path."
            lock(self, f"{path} {busy}")
            lock(self, busy)
        except BaseException:
            self.close()
            raise
        self.seek(0)

    def is_in_place(self) -> bool:
        """Whether the file is still at its path."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def sync(self) -> None:
        """Waits until everything is on the disk."""
        os.fsync(self.fileno())

    def publish(self, size: int) -> None:
        """Sends the first bytes of the file, up to a size, to the other processes."""
        client = coordinator()
        if client is None:
            return
        if not self.sent:  # an earlier recorder may have sent another log
            client.key_value_delete(self.folder)
        self.seek(self.sent)
        part = self.read(size - self.sent)
        client.key_value_set_bytes(_part(self.folder, self.sent), part, allow_overwrite=True)
        self.sent = size


class InMemory(io.BytesIO):
    """A copy of the log that process 0 writes, which every process extends for itself."""

    def __init__(self, path: Path):
        super().__init__(_received(path))

    def readall(self) -> bytes:
        return self.getvalue()

    def write(self, data) -> int:
        self.seek(0, io.SEEK_END)
        return super().write(data)

    def is_in_place(self) -> bool:
        return True

    def sync(self) -> None:
        pass

    def publish(self, size: int) -> None:
        pass


def _received(path: Path) -> bytes:
    """The log as process 0 has it so far."""
    client, folder, deadline = coordinator(), _folder(path), time.monotonic() + TIMEOUT
    while awaited(client, _part(folder, 0), deadline) is not None:
        parts = sorted(client.key_value_dir_get_bytes(folder))
        if parts:  # process 0 is not sending another log at this moment
            return b"".join(data for _, data in parts)
    raise TimeoutError(
        f"process 0 opened no recorder of {path} within {TIMEOUT:g} s: open it in all processes, with the "
        "same path."
    )


def _folder(path: Path) -> str:
    return f"zojax/log of {path}/"


def _part(folder: str, begin: int) -> str:
    """The key of the part that begins at a byte; keys sort as their parts."""
    return f"{folder}{begin:015d}"
