"""A lock on an open file, which ends with the process that took it."""

import os
import weakref
from functools import partial
from typing import BinaryIO


def lock(file: BinaryIO, refusal: str) -> None:
    """Locks the file against other writers, until it is closed or the process dies.

    A forked child closes its copy of the file, because a worker that outlives its parent would keep the
    lock. Without locks in the operating or file system, nothing happens.

    Raises:
      ValueError: another writer has the lock; `refusal` is the message.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(refusal) from error
    except OSError:  # a file system without locks
        pass
    os.register_at_fork(after_in_child=partial(_close, weakref.ref(file)))


def _close(reference: weakref.ref) -> None:
    file = reference()
    if file is not None:
        file.close()
