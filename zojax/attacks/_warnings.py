"""Warnings that point to the caller's line."""

import sys
import warnings


def warn(message: str) -> None:
    """A UserWarning at the caller's line, the first outside this package."""
    package, level, frame = __name__.rpartition(".")[0], 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(package):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
