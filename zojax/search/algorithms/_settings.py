"""Checks of settings that several algorithms take."""

import jax

from zojax._checks import require_number

REPLACEMENTS = ("worst", "random", "margin")


def require_replacement(replacement) -> None:
    if not isinstance(replacement, str) or replacement not in REPLACEMENTS:
        raise ValueError(f"replacement must be one of {REPLACEMENTS}, got {replacement!r}.")


def require_exploration(value, name: str = "exploration") -> None:
    """Traced values pass."""
    if isinstance(value, jax.core.Tracer):
        return
    require_number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}.")
