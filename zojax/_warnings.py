"""Warnings that point to the caller's line."""

import sys
import warnings


def warn(message: str) -> None:
    """A UserWarning at the caller's line, the first outside zojax and JAX."""
    level, frame = 1, sys._getframe()
    while frame.f_back and package_of(frame) in ("zojax", "jax"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def package_of(frame) -> str:
    """The package of the code that a frame runs."""
    return frame.f_globals.get("__name__", "").partition(".")[0]
