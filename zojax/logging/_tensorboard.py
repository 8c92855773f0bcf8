"""Scalars for TensorBoard, by tensorboardX."""

import os
from collections.abc import Mapping
from typing import Any

from zojax._extras import require
from zojax.logging._logger import Logger


def tensorboard(folder: str | os.PathLike[str]) -> Logger:
    """Logs to a folder that `tensorboard --logdir FOLDER` shows.

    A continued run may log to the same folder: TensorBoard hides the earlier points from its first step on.

    Args:
      folder: of event files; made if missing.

    Raises:
      ModuleNotFoundError: without the extra `tensorboard`.
    """
    make = require("tensorboardX", "tensorboard").SummaryWriter
    writer: Any = None

    def write(step: int, scalars: Mapping[str, float]) -> None:
        nonlocal writer
        if writer is None:
            # The suffix tells files of the same second apart.
            writer = make(os.fspath(folder), purge_step=step, filename_suffix=f".{step}")
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)

    def close() -> None:
        if writer is not None:
            writer.close()

    return Logger(write, close)
