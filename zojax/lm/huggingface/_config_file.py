"""`config.json`: each setting is read as the type that it must have."""

import pathlib
from collections.abc import Collection
from typing import Any

from zojax.lm._files import read_json, shown


class ConfigFile:
    """The settings of one JSON file; one of another type or range is a ValueError with its name.

    A null setting counts as missing, except for flags.
    """

    def __init__(self, path: pathlib.Path, raw: dict | None = None):
        self.path = path
        self._raw = read_json(path) if raw is None else raw

    def get(self, name: str, default: Any = None) -> Any:
        """The raw value."""
        value = self._raw.get(name)
        return default if value is None else value

    def count(self, name: str, default: int | None = None) -> int:
        """An int from 1 to 2**31 - 1."""
        return self._integer(name, default, 1, "at least 1, an integer below 2**31")

    def token(self, name: str, default: int) -> int:
        """An int from 0 to 2**31 - 1."""
        return self._integer(name, default, 0, "a token, an integer from 0 on")

    def require_multiple(self, name: str, divisor: int, what: str = "the heads") -> None:
        """Raises ValueError unless the divisor divides a count."""
        if self.count(name) % divisor:
            raise self.error(name, f"it must be a multiple of {divisor}, {what}")

    def between(self, name: str, least: float, most: float, default: float | None = None) -> float:
        """A float from `least` to `most`."""
        value = self._given(name, default)
        if not is_between(value, least, most):
            raise self.error(name, f"it must be a number from {least:g} to {most:g}")
        return float(value)

    def optional(self, name: str, least: float, most: float, default: float | None) -> float | None:
        """A float from `least` to `most`, or None for null."""
        if name in self._raw and self._raw[name] is None:
            return None
        return default if self.get(name) is None else self.between(name, least, most)

    def flag(self, name: str, default: bool) -> bool:
        """A bool."""
        value = self._raw.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "it must be true or false")
        return value

    def option(self, name: str, options: Collection[str], default: str | None = None) -> str:
        """One of `options`."""
        value = self._given(name, default)
        if not isinstance(value, str) or value not in options:
            known = sorted(options)
            raise ValueError(f"{self.path} has {name} {shown(value)}; supported are {known}.")
        return value

    def table(self, name: str) -> dict:
        """An object; empty if missing."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise self.error(name, "it must be an object")
        return value

    def require(self, **supported: Any) -> None:
        """Raises ValueError for a setting with another value than the supported one."""
        for name, value in supported.items():
            if self.get(name, value) != value:
                raise self.error(name, f"supported is {value!r}")

    def error(self, name: str, remedy: str) -> ValueError:
        """An error about a setting, to be raised."""
        return ValueError(f"{self.path} has {name}={shown(self._raw.get(name))}; {remedy}.")

    def _integer(self, name: str, default: int | None, least: int, what: str) -> int:
        value = self._given(name, default)
        if isinstance(value, float) or not is_between(value, least, 2**31 - 1):
            raise self.error(name, f"it must be {what}")
        return value

    def _given(self, name: str, default: Any) -> Any:
        value = self.get(name, default)
        if value is None:
            raise ValueError(f"{self.path} has no {name!r}; copy the model's own config.json.")
        return value


def is_between(value: object, least: float, most: float) -> bool:
    """True for an int or float from `least` to `most`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
