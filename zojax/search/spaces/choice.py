"""One of several options: `choice` without an order, `ordered` with one."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search.spaces._arguments import as_shape
from zojax.search.spaces._domain import ORDERED, UNORDERED, Domain, objects, times
from zojax.search.spaces._options import as_options
from zojax.search.spaces._precision import fits_float, fits_int, namespace_of, require_traceable
from zojax.search.spaces.conditional import conditional


@dataclass(frozen=True, eq=False)
class Choice(Domain):
    """One of a list of options, encoded by its position."""

    options: tuple
    kind: int
    shape: tuple[int, ...] = ()
    low = 0

    @property
    def high(self):
        return len(self.options) - 1

    @property
    def size(self):
        return len(self.options)

    def __eq__(self, other):
        return type(other) is type(self) and self._identity == other._identity

    def __hash__(self):
        return hash(self._identity)

    @property
    def _identity(self):
        # By type and text: options may be unhashable, and 1, 1.0 and True are different options.
        options = tuple((type(o), repr(o)) for o in self.options)
        return options, self.kind, self.shape

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """The options as an array: bool, int64 or float64 if all are numbers, else object."""
        numbers = [_number_in(option) for option in self.options]
        if None not in numbers:
            types = (kind for kind in (bool, int) if all(isinstance(n, kind) for n in numbers))
            try:
                return np.array(numbers, next(types, float))
            except OverflowError:  # beyond int64 or float64: keep Python's own numbers
                pass
        return objects(self.options)

    @property
    def traceable(self):
        """Whether the options are numbers that JAX's arrays can hold."""
        if self._table.dtype == object:
            return False
        fits = fits_float if self._table.dtype.kind == "f" else fits_int
        return fits(*self._table.tolist())

    def decode(self, x):
        if self._table.dtype == object:
            raise TypeError(
                f"{self} holds options that are no numbers, so JAX cannot trace fun: pass jit=False, or "
                "choose among indices, choice(range(n)), and use lax.switch."
            )
        require_traceable(self, x)
        xp = namespace_of(x)
        return xp.asarray(self._table)[xp.round(x).astype(np.int32)]

    def to_python(self, x):
        index = np.round(x).astype(int)
        if index.ndim:
            return self._table[index]
        option = self.options[int(index)]
        # Numbers have one type, as on the device. An IntEnum stays itself.
        is_itself = self._table.dtype == object or isinstance(option, Enum)
        return option if is_itself else self._table[index].item()

    def encode(self, value):
        flat = [value]
        for length in self.shape:  # without NumPy, because an option may be a list
            are_lists = (isinstance(v, (list, tuple)) or getattr(v, "ndim", 0) > 0 for v in flat)
            if not all(are_lists) or any(len(v) != length for v in flat):
                raise ValueError(f"a value of {self} must have shape {self.shape}, got {value!r}.")
            flat = [entry for v in flat for entry in v]
        return np.reshape([float(self.position(v)) for v in flat], self.shape)

    def position(self, value) -> int:
        equal = [i for i, o in enumerate(self.options) if o is value or _equal(o, value)]
        if not equal:
            raise ValueError(f"{value!r} is not one of the options of {self}.")
        # 1 == True: prefer an option of the same type.
        return next((i for i in equal if type(self.options[i]) is type(value)), equal[0])

    def __str__(self):
        shown = ", ".join(map(repr, self.options[:4])) + (", ..." if self.size > 4 else "")
        name = "ordered" if self.kind == ORDERED else "choice"
        return f"{name}([{shown}]){times(self.shape)}"


def choice(options: Sequence | Mapping, shape: int | tuple[int, ...] = ()) -> Domain:
    """One of several options without an order. All options are equally likely.

    Numbers are decoded to one type, bool, int or float: 1 of [1, 2.5] is 1.0. On the host, an array of
    numbers is NumPy's (bool, int64, float64), and an array of other options holds objects.

    **Named spaces.** A dict of pytrees of domains makes a conditional space. A point holds the variables of
    one option only, as a `Branch`: a pair of its name and its point. Only these variables move. Spaces nest
    to any depth, and an option without variables is {}. The function runs on the host.

    Args:
      options: at least two, of any kind but domains. Only numbers allow a traced function. Or a dict of
        spaces.
      shape: a size or a tuple of sizes, for an array of independent choices; () for a dict.

    Raises:
      TypeError: options that are not a list (a string is not one); a domain inside an option of a list; a
        dict with an option that is no pytree of domains.
      ValueError: fewer than two options; a bad shape.

    >>> print(choice(["adam", "sgd"]))
    choice(['adam', 'sgd'])
    >>> from zojax import search
    >>> model = choice({"svm": {"C": search.log_uniform(1e-3, 1e3)}, "knn": {"k": search.integers(1, 9)}})
    >>> def loss(model):
    ...     match model:
    ...         case "svm", {"C": C}:
    ...             return abs(C - 10)
    ...         case "knn", {"k": k}:
    ...             return 1 + abs(k - 3)
    >>> found = search.minimize(loss, model, budget=150, key=0)
    >>> found.best.name, round(found.best.value["C"])
    ('svm', 10)
    """
    return _choice("choice", options, UNORDERED, shape)


def ordered(options: Sequence | Mapping, shape: int | tuple[int, ...] = ()) -> Domain:
    """One of several options with an order: neighbours in the list are similar.

    Samples, types, arguments, named spaces and errors are as in `choice`.

    >>> print(ordered([0.0, 0.1, 0.5]))
    ordered([0.0, 0.1, 0.5])
    >>> from zojax import search
    >>> print(ordered({n: [search.integers(8, 256)] * n for n in (1, 2)}))  # widths of 1 or 2 layers
    ordered({1: {0: integers(8, 256)}, 2: {0: integers(8, 256), 1: integers(8, 256)}})
    """
    return _choice("ordered", options, ORDERED, shape)


def _choice(name: str, options: Sequence | Mapping, kind: int, shape: Any) -> Domain:
    if isinstance(options, Mapping):
        return conditional(name, options, kind, shape)
    return Choice(as_options(name, options), kind, as_shape(shape))


def _number_in(option) -> bool | int | float | None:
    """An option of Python, NumPy or JAX as a Python number; None for other options."""
    if isinstance(option, (np.generic, np.ndarray, jax.Array)) and option.ndim == 0:
        is_real = any(jnp.issubdtype(option.dtype, t) for t in (np.bool_, np.integer, np.floating))
        return option.item() if is_real else None
    return option if isinstance(option, (int, float)) else None


def _equal(a, b) -> bool:
    if hasattr(a, "shape") or hasattr(b, "shape"):
        return np.array_equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):  # entries may be arrays
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, (list, tuple)) and isinstance(b, type(a)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b) or bool(a != a and b != b)  # nan
