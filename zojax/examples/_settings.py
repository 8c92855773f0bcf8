"""Settings of a `config.json`, each read as the type that it must have."""

from zojax.examples._files import read_json, shown

__all__ = ["Settings"]


class Settings:
    """The settings of one file; a setting of another type or range is a ValueError with its name.

    A setting that is null counts as missing, but for flags.

    Args:
      path: a `pathlib.Path` to a JSON object.
    """

    def __init__(self, path):
        self.path = path
        self._raw = read_json(path)

    def get(self, name, default=None):
        """The raw value."""
        value = self._raw.get(name)
        return default if value is None else value

    def count(self, name, default=None):
        """An int from 1 to 2**31 - 1."""
        value = self._given(name, default)
        if isinstance(value, float) or not is_between(value, 1, 2**31 - 1):
            raise self.error(name, "it must be at least 1, an integer below 2**31")
        return value

    def between(self, name, least, most, default=None):
        """A float from `least` to `most`."""
        value = self._given(name, default)
        if not is_between(value, least, most):
            raise self.error(name, f"it must be a number from {least:g} to {most:g}")
        return float(value)

    def flag(self, name, default):
        """A bool."""
        value = self._raw.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "it must be true or false")
        return value

    def option(self, name, options, default=None):
        """One of `options`, strings."""
        value = self._given(name, default)
        if not isinstance(value, str) or value not in options:
            raise ValueError(
                f"{self.path} has {name} {shown(value)}; supported are {sorted(options)}."
            )
        return value

    def table(self, name):
        """An object; empty where it is missing."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise self.error(name, "it must be an object")
        return value

    def require(self, **supported):
        """Raises ValueError for a setting that the models here do not have."""
        for name, value in supported.items():
            if self.get(name, value) != value:
                raise self.error(name, f"supported is {value!r}")

    def error(self, name, remedy):
        """A ValueError about a setting, to be raised."""
        return ValueError(f"{self.path} has {name}={shown(self._raw.get(name))}; {remedy}.")

    def _given(self, name, default):
        value = self.get(name, default)
        if value is None:
            raise ValueError(f"{self.path} has no {name!r}; copy the model's own config.json.")
        return value


def is_between(value, least, most):
    """True for an int or float from `least` to `most`."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and least <= value <= most
