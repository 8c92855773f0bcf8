"""Checks of settings that several algorithms take."""

from typing import Any

import jax

from zojax._checks import require_count, require_flag, require_number

REPLACEMENTS = ("worst", "random", "margin")


def require_replacement(replacement: Any) -> None:
    if not isinstance(replacement, str) or replacement not in REPLACEMENTS:
        raise ValueError(f"replacement must be one of {REPLACEMENTS}, got {replacement!r}.")


def require_share(name: str, value: Any) -> None:
    """Raises unless the value is a number in [0, 1]. Traced values pass."""
    if isinstance(value, jax.core.Tracer):
        return
    require_number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}.")


def require_racos(exploration: Any, parity: Any, num_positives: Any) -> int | None:
    """Checks the settings that all of the RACOS family take; returns num_positives."""
    require_share("exploration", exploration)
    require_flag("parity", parity)
    return None if num_positives is None else require_count("num_positives", num_positives)
