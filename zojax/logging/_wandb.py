"""Scalars for Weights & Biases."""

from collections.abc import Mapping
from typing import Any

from zojax._extras import require
from zojax.logging._logger import Logger


def wandb(run: Any = None, **options: Any) -> Logger:
    """Logs to a run of Weights & Biases.

    Args:
      run: of `wandb.init`, which stays open; None starts a run and finishes it.
      **options: of `wandb.init`: `project`, `name`, `config`, `id` and `resume` to continue a run,
        `mode="offline"` to log without an account.

    Raises:
      ModuleNotFoundError: without the extra `wandb`.
    """
    if run is not None:
        if options:
            raise TypeError(f"a run has its options already: leave out {', '.join(options)}.")
        return Logger(_writing(run))
    run = require("wandb", "wandb").init(**options)
    return Logger(_writing(run), run.finish)


def _writing(run: Any):
    def write(step: int, scalars: Mapping[str, float]) -> None:
        run.log(dict(scalars), step=step)

    return write
