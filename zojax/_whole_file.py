"""Files that are written whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path`, for the block to write. It then replaces `path`; an error removes it.

    A kill or a power failure leaves the old file or the new one. Of two processes one wins.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
