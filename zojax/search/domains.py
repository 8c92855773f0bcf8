"""What one variable may be: a domain, and its encoding as coordinates that the algorithms see.

Encoded coordinates are float32 unless x64 is enabled. Domains that float32 cannot tell apart are refused
when they are made: more than 2^24 integers, or a range with fewer than 1,024 float32 numbers in it.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

import jax
import jax.numpy as jnp
import numpy as np

from zojax._checks import LARGEST_COUNT
from zojax._numerics import float_dtype

CONTINUOUS, ORDERED, UNORDERED = 0, 1, 2
FEWEST = 1024  # floats in a range, below which it cannot be searched
CONSTANT = "; what is constant is no part of the space: pass it in args"
X64 = "enable x64: jax.config.update('jax_enable_x64', True)"


class Domain:
    """What one variable, or an array of independent ones, may be: a leaf of a space.

    Subclass it for a domain of your own. Algorithms see *encoded* coordinates: floats of shape
    (..., *shape), with any leading axes. A frozen dataclass is hashable, so equal searches compile once.

    A subclass defines

    - `kind`: CONTINUOUS (coordinates are any numbers), ORDERED or UNORDERED (whole numbers), all three from
      `zojax.search.domains`;
    - `low`, `high`: the bounds of every coordinate, both included;
    - `decode(x)`: values from encoded coordinates. JAX traces it; on the host x is a NumPy array.

    and, where the default does not fit,

    - `shape`: of the encoded coordinates, () by default;
    - `encode(value)`: the inverse of `decode`, which `init_points` need;
    - `to_python(x)`: `decode` for host functions and results, from float64;
    - `snap(x)`: the nearest coordinates that stand for a value, where not all of them do;
    - `count`, `values()`: with a `snap` and finitely many values, how many and which;
    - `traceable`: False if `decode` cannot be traced;
    - `slack`: how far outside the bounds `encode` may round.

    >>> from dataclasses import dataclass
    >>> from zojax import search
    >>> from zojax.search.domains import ORDERED
    >>> @dataclass(frozen=True)
    ... class PowersOfTwo(search.Domain):
    ...     low: int
    ...     high: int
    ...     kind = ORDERED
    ...
    ...     def decode(self, x):
    ...         return 2 ** x.astype(int)
    ...
    ...     def encode(self, value):
    ...         return np.log2(value)
    >>> found = search.minimize(lambda n: abs(n - 30), PowersOfTwo(3, 6), budget=50, key=0,
    ...                         init_points=[8])
    >>> found.best, sorted(found.history.points.tolist())
    (32, [8, 16, 32, 64])
    """

    kind: int
    low: float
    high: float
    shape: tuple[int, ...] = ()
    traceable: bool = True
    slack: float = 0.0
    snap: Callable | None = None

    @property
    def is_continuum(self) -> bool:
        """Whether every point between the bounds stands for a value."""
        return self.kind == CONTINUOUS and self.snap is None

    @property
    def count(self) -> float:
        """How many values there are, of the whole array: an int, or inf."""
        if self.kind == CONTINUOUS:
            return math.inf
        return int(self.high - self.low + 1) ** math.prod(self.shape)

    def values(self) -> np.ndarray:
        """Every value of a finite domain, encoded, shape (count, *shape)."""
        if self.kind == CONTINUOUS:
            raise NotImplementedError(
                f"{self} has {self.count} values: define values() to list them."
            )
        return _combinations(np.arange(self.low, self.high + 1), self.shape)

    def decode(self, x):
        raise NotImplementedError(
            f"{type(self).__name__} must define decode(x): see search.Domain."
        )

    def to_python(self, x: np.ndarray):
        return jax.tree.map(_plain, self.decode(x))

    def encode(self, value) -> np.ndarray:
        raise NotImplementedError(
            f"{type(self).__name__} must define encode(value), the inverse of decode, for init_points."
        )


@dataclass(frozen=True)
class Uniform(Domain):
    """The continuum [low, high]."""

    low: float
    high: float
    shape: tuple[int, ...] = ()
    kind = CONTINUOUS

    @property
    def slack(self):
        return 1e-6 * max(abs(self.low), abs(self.high))

    def decode(self, x):
        return x

    def to_python(self, x):
        if x.min(initial=self.low) >= self.low and x.max(initial=self.high) <= self.high:
            # A history is large, and each array of its size takes as long as the search.
            return _plain(x)
        # float32(0.3) is more than 0.3; what lies further outside was meant to (`sre(project=False)`).
        nearest = np.clip(x, self.low, self.high)
        is_rounding = np.abs(x - nearest) <= self.slack
        return _plain(np.where(is_rounding, nearest, x))

    def encode(self, value):
        return _numbers(self, value)

    def __str__(self):
        return f"uniform({self.low:g}, {self.high:g}){_times(self.shape)}"


@dataclass(frozen=True)
class LogUniform(Domain):
    """The continuum [lowest, highest], even in the logarithm."""

    lowest: float
    highest: float
    shape: tuple[int, ...] = ()
    kind = CONTINUOUS
    slack = 1e-6  # of logarithms: relative to the value

    @property
    def low(self):
        return math.log(self.lowest)

    @property
    def high(self):
        return math.log(self.highest)

    @property
    def traceable(self):
        return _fits_float(self.lowest, self.highest)

    def decode(self, x):
        _require_traceable(self, x)
        xp = namespace_of(x)
        return xp.clip(xp.exp(x), self.lowest, self.highest)

    def encode(self, value):
        return _log(_numbers(self, value))

    def __str__(self):
        return f"log_uniform({self.lowest:g}, {self.highest:g}){_times(self.shape)}"


@dataclass(frozen=True)
class Grid(Domain):
    """The `size` values first, first + step, ...: integers, or reals with a precision."""

    first: float
    step: float
    size: int
    integral: bool
    shape: tuple[int, ...] = ()
    kind = ORDERED
    low = 0

    @property
    def high(self):
        return self.size - 1

    @property
    def last(self):
        return self.first + self.step * (self.size - 1)

    @property
    def traceable(self):
        return not self.integral or _fits_int(self.first, self.last)

    def decode(self, x):
        _require_traceable(self, x)
        index = namespace_of(x).round(x)
        if self.integral:
            index = index.astype(_int_dtype(x))
        return self.first + self.step * index

    def to_python(self, x):
        value = self.decode(x)
        if not self.integral:
            # With the decimals of the first value and the step: 3 * 0.1 is 0.3 then.
            exponents = [Decimal(repr(v)).as_tuple().exponent for v in (self.first, self.step)]
            value = np.round(value, max(0, -min(exponents)))
        return _plain(value)

    def encode(self, value):
        index = (_numbers(self, value) - self.first) / self.step
        off = np.abs(index - np.round(index)) > (0 if self.integral else 1e-3)
        if np.any(off):
            raise ValueError(f"{value!r} is not one of the values of {self}.")
        return np.round(index)

    def __str__(self):
        last = self.last
        if self.integral:
            step = "" if self.step == 1 else f", step={self.step}"
            return f"integers({self.first}, {last}{step}){_times(self.shape)}"
        return f"uniform({self.first:g}, {last:g}, step={self.step:g}){_times(self.shape)}"


@dataclass(frozen=True)
class LogIntegers(Domain):
    """The integers lowest ... highest, even in the logarithm: n stands for [log(n - 1/2), log(n + 1/2)]."""

    lowest: int
    highest: int
    shape: tuple[int, ...] = ()
    kind = CONTINUOUS

    @property
    def low(self):
        return math.log(self.lowest - 0.5)

    @property
    def high(self):
        return math.log(self.highest + 0.5)

    @property
    def size(self):
        return self.highest - self.lowest + 1

    @property
    def count(self):
        return self.size ** math.prod(self.shape)

    @property
    def traceable(self):
        return _fits_int(self.highest)

    def values(self):
        return _combinations(np.log(np.arange(self.lowest, self.highest + 1)), self.shape)

    def snap(self, x):
        return namespace_of(x).log(self._nearest(x))

    def decode(self, x):
        _require_traceable(self, x)
        # Clipped again: a float32 may round beyond the largest integer.
        value = self._nearest(x).astype(_int_dtype(x))
        return namespace_of(x).clip(value, self.lowest, self.highest)

    def encode(self, value):
        number = _numbers(self, value)
        if np.any(number != np.round(number)):
            raise ValueError(f"{value!r} is not one of the values of {self}.")
        inside = (number >= self.lowest) & (number <= self.highest)
        return _log(np.where(inside, number, np.nan))

    def _nearest(self, x):
        xp = namespace_of(x)
        # As floats: the integers may be beyond int32.
        return xp.clip(xp.round(xp.exp(x)), float(self.lowest), float(self.highest))

    def __str__(self):
        return f"log_integers({self.lowest}, {self.highest}){_times(self.shape)}"


@dataclass(frozen=True, eq=False)
class Choice(Domain):
    """One of a list of options, in order or not."""

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
        # Options need not be hashable, and 1 == 1.0 == True are not the same option.
        options = tuple((type(o), repr(o)) for o in self.options)
        return options, self.kind, self.shape

    @functools.cached_property
    def _table(self) -> np.ndarray:
        """The options as an array: bool, int64 or float64 if all are numbers, else object."""
        return _table_of(self.options)

    @property
    def traceable(self) -> bool:
        """Whether the options are numbers, and of a size that a traced function can be given."""
        if self._table.dtype == object:
            return False
        fits = _fits_float if self._table.dtype.kind == "f" else _fits_int
        return fits(*self._table.tolist())

    def decode(self, x):
        if self._table.dtype == object:
            raise TypeError(
                f"{self} holds options that are no numbers, which a traced function cannot be given: pass "
                "jit=False, or choose among indices, choice(range(n)), and use lax.switch."
            )
        _require_traceable(self, x)
        xp = namespace_of(x)
        return xp.asarray(self._table)[xp.round(x).astype(np.int32)]

    def to_python(self, x):
        index = np.round(x).astype(int)
        if index.ndim:
            return self._table[index]
        option = self.options[int(index)]
        # Numbers are of one type, as on the device; an IntEnum is its own number.
        is_itself = self._table.dtype == object or isinstance(option, Enum)
        return option if is_itself else self._table[index].item()

    def encode(self, value):
        flat = [value]
        for length in self.shape:  # not by NumPy: an option may itself be a list
            if any(not _is_list(v) or len(v) != length for v in flat):
                raise ValueError(f"a value of {self} must have shape {self.shape}, got {value!r}.")
            flat = [entry for v in flat for entry in v]
        return np.reshape([float(self._position(v)) for v in flat], self.shape)

    def _position(self, value) -> int:
        equal = [i for i, o in enumerate(self.options) if o is value or _equal(o, value)]
        if not equal:
            raise ValueError(f"{value!r} is not one of the options of {self}.")
        # 1 == True: one of the same type, if there is one.
        return next((i for i in equal if type(self.options[i]) is type(value)), equal[0])

    def __str__(self):
        shown = ", ".join(map(repr, self.options[:4])) + (", ..." if self.size > 4 else "")
        name = "ordered" if self.kind == ORDERED else "choice"
        return f"{name}([{shown}]){_times(self.shape)}"


@dataclass(frozen=True)
class Subset(Domain):
    """At most `max_size` of n things, as a boolean mask of shape (n,)."""

    n: int
    max_size: int
    kind = UNORDERED
    low = 0
    high = 1

    @property
    def shape(self):
        return (self.n,)

    @property
    def count(self):
        return sum(math.comb(self.n, k) for k in range(self.max_size + 1))

    def values(self):
        sizes = range(self.max_size + 1)
        chosen = [c for k in sizes for c in itertools.combinations(range(self.n), k)]
        rows = np.zeros((len(chosen), self.n))
        for row, members in zip(rows, chosen, strict=True):
            row[list(members)] = 1
        return rows

    def snap(self, x):
        """Of more than `max_size` bits a hash of all of them chooses which stay: no index is favoured."""
        if self.max_size == self.n:
            return x
        xp = namespace_of(x)
        is_member = x > 0.5
        names = np.arange(self.n, dtype=np.uint32) * np.uint32(0x9E3779B9)
        names = np.broadcast_to(names, x.shape)
        together = xp.sum(
            xp.where(is_member, _scrambled(names), np.uint32(0)), -1, np.uint32, keepdims=True
        )
        places = xp.where(is_member, _scrambled(names ^ together), np.uint32(2**32 - 1))
        last = xp.sort(places, axis=-1)[..., self.max_size - 1 : self.max_size]
        return xp.where(is_member & (places <= last), x, 0)

    def decode(self, x):
        return x > 0.5

    def encode(self, value):
        bits = _numbers(self, value)
        if not np.isin(bits, (0, 1)).all():
            raise ValueError(f"a value of {self} must be a mask of {self.n} bools, got {value!r}.")
        if bits.sum() > self.max_size:
            raise ValueError(
                f"a value of {self} must have at most max_size = {self.max_size} members, "
                f"got {int(bits.sum())}."
            )
        return bits

    def __str__(self):
        return f"subset({self.n}, max_size={self.max_size})"


def uniform(
    low: float, high: float, shape: int | tuple[int, ...] = (), *, step: float | None = None
) -> Domain:
    """Real numbers between two bounds, `low` and `high` included; with a step, low, low + step, ...

    Samples are uniform; with a step every value is equally likely.

    Args:
      low, high: the bounds.
      shape: a size or a tuple of sizes, for an array of independent ones.
      step: the distance of neighbours; the last one is at most `high`.

    Returns:
      A `Domain` of floats.

    Raises:
      TypeError: a bound or a step that is no number.
      ValueError: bounds that are not finite or not low < high, or too close together for float32; a step
        outside (0, high - low]; a bad shape.

    >>> print(uniform(-1, 1, shape=(3,)), uniform(0, 1, step=0.25))
    uniform(-1, 1) x 3 uniform(0, 1, step=0.25)
    """
    low, high = _bounds("uniform", low, high)
    if step is None:
        domain = Uniform(float(low), float(high), _shape(shape))
        _require_resolution("uniform", low, high, domain.low, domain.high)
        return domain
    step = _number("uniform", "step", step)
    if not step > 0 or step > high - low:
        raise ValueError(f"step must lie between 0 and high - low = {high - low}, got {step}.")
    size = int((high - low) / step * (1 + 1e-9)) + 1
    _require_few("uniform", size, "pass a larger step, or none")
    _require_resolution("uniform", low, high, float(low), float(high), size)
    return Grid(float(low), float(step), size, False, _shape(shape))


def log_uniform(low: float, high: float, shape: int | tuple[int, ...] = ()) -> Domain:
    """Positive real numbers whose logarithm is uniform: learning rates, decays, scales.

    Samples below x have probability log(x / low) / log(high / low).

    Args:
      low, high: the bounds, both included.
      shape: a size or a tuple of sizes, for an array of independent ones.

    Returns:
      A `Domain` of floats.

    Raises:
      TypeError: a bound that is no number.
      ValueError: bounds that are not finite or not 0 < low < high, or too close together for float32; a
        bad shape.

    >>> print(log_uniform(1e-5, 0.1))
    log_uniform(1e-05, 0.1)
    """
    low, high = _bounds("log_uniform", low, high)
    _require_positive("log_uniform", low)
    domain = LogUniform(float(low), float(high), _shape(shape))
    _require_resolution("log_uniform", low, high, domain.low, domain.high)
    return domain


def integers(low: int, high: int, shape: int | tuple[int, ...] = (), *, step: int = 1) -> Domain:
    """Integers low, low + step, ..., up to and including `high`; samples are equally likely.

    Integers beyond int32 cannot be traced unless x64 is enabled: `fun` is then called on the host. In a
    compiled function all integers have 32 bits, and what is computed from them may overflow: `1.0 * n`.

    Args:
      low, high: the bounds.
      shape: a size or a tuple of sizes, for an array of independent ones.
      step: the distance of neighbours; the last one is at most `high`.

    Returns:
      A `Domain` of ints.

    Raises:
      TypeError: a bound or a step that is no int.
      ValueError: bounds that are not low < high, or beyond 2^53; a step outside [1, high - low]; more than
        2^24 values, unless x64 is enabled; a bad shape.

    >>> print(integers(8, 64, step=8))
    integers(8, 64, step=8)
    """
    low, high, step = _integers("integers", low=low, high=high, step=step)
    _bounds("integers", low, high)
    if step < 1 or step > high - low:
        raise ValueError(f"step must lie between 1 and high - low = {high - low}, got {step}.")
    size = (high - low) // step + 1
    _require_few("integers", size, "pass a larger step, use log_integers, or search its digits")
    return Grid(low, step, size, True, _shape(shape))


def log_integers(low: int, high: int, shape: int | tuple[int, ...] = ()) -> Domain:
    """Positive integers, `high` included, whose logarithm is nearly uniform: widths, batch sizes.

    A sample is n with probability log((n + 1/2) / (n - 1/2)) / log((high + 1/2) / (low - 1/2)): of 1 to 8
    .388, .180, .119, .089, .071, .059, .051, .044. Beyond a million float32 does not tell the logarithms of
    neighbours apart, and some are left out. In a compiled function all integers have 32 bits, and what is
    computed from them may overflow: `1.0 * n`.

    Args:
      low, high: the bounds.
      shape: a size or a tuple of sizes, for an array of independent ones.

    Returns:
      A `Domain` of ints.

    Raises:
      TypeError: a bound that is no int.
      ValueError: bounds that are not 0 < low < high, beyond 2^53, or too close together for their
        logarithms in float32; a bad shape.

    >>> print(log_integers(1, 1024))
    log_integers(1, 1024)
    """
    low, high = _integers("log_integers", low=low, high=high)
    _bounds("log_integers", low, high)
    _require_positive("log_integers", low)
    domain = LogIntegers(low, high, _shape(shape))
    _require_resolution("log_integers", low, high, domain.low, domain.high, domain.size)
    return domain


def choice(options: Sequence, shape: int | tuple[int, ...] = ()) -> Domain:
    """One of several options that have no order; samples are equally likely.

    Numbers are decoded to one type, bool, int or float: 1 of [1, 2.5] is 1.0. Arrays of them are NumPy's on
    the host (bool, int64, float64), arrays of other options hold objects.

    Args:
      options: at least two, anything but domains; numbers can be given to a traced function.
      shape: a size or a tuple of sizes, for an array of independent ones.

    Returns:
      A `Domain` of the options.

    Raises:
      TypeError: options that are no list (a string is none); a domain inside an option.
      ValueError: fewer than two options; a bad shape.

    >>> print(choice(["adam", "sgd"]))
    choice(['adam', 'sgd'])
    """
    return Choice(_options("choice", options), UNORDERED, _shape(shape))


def ordered(options: Sequence, shape: int | tuple[int, ...] = ()) -> Domain:
    """One of several options in their order: neighbours in the list are alike.

    Samples and types are those of `choice`.

    Args:
      options: at least two, anything but domains; numbers can be given to a traced function.
      shape: a size or a tuple of sizes, for an array of independent ones.

    Returns:
      A `Domain` of the options.

    Raises:
      TypeError: options that are no list (a string is none); a domain inside an option.
      ValueError: fewer than two options; a bad shape.

    >>> print(ordered([0.0, 0.1, 0.5]))
    ordered([0.0, 0.1, 0.5])
    """
    return Choice(_options("ordered", options), ORDERED, _shape(shape))


def subset(n: int, *, max_size: int) -> Domain:
    """Subsets of range(n) with at most `max_size` members, as boolean masks of shape (n,).

    A sample holds each member with probability 1/2; of more than `max_size`, that many stay.

    Args:
      n: how many things there are.
      max_size: the largest number of members.

    Returns:
      A `Domain` of bool (n,).

    Raises:
      TypeError: n or max_size is no int.
      ValueError: a max_size outside [1, n].

    >>> print(subset(30, max_size=4))
    subset(30, max_size=4)
    """
    n, max_size = _integers("subset", n=n, max_size=max_size)
    if not 1 <= max_size <= n:
        raise ValueError(f"max_size must lie between 1 and n = {n}, got {max_size}.")
    return Subset(n, max_size)


def require_domain(domain: Domain) -> None:
    """Raises for a domain of one's own that does not keep the contract of `Domain`."""
    name = type(domain).__name__
    missing = [a for a in ("kind", "low", "high") if not hasattr(domain, a)]
    if missing:
        raise TypeError(f"{name} must define {' and '.join(missing)}: see search.Domain.")
    if domain.kind not in (CONTINUOUS, ORDERED, UNORDERED):
        raise ValueError(
            f"kind of {name} must be CONTINUOUS, ORDERED or UNORDERED, got {domain.kind!r}: "
            "import them from zojax.search.domains."
        )
    if _shape(domain.shape) != domain.shape:
        raise ValueError(f"shape of {name} must be a tuple of sizes, got {domain.shape!r}.")
    low, high = _bounds(name, domain.low, domain.high)
    if domain.kind != CONTINUOUS:
        if low % 1 or high % 1:
            raise ValueError(
                f"{name} has whole coordinates, and needs whole bounds, got {low} and {high}."
            )
        if max(-low, high) > 2 ** _exact_bits():
            raise ValueError(
                f"bounds of {name} must lie within 2^{_exact_bits()}, got {low} and {high}: "
                "encode an offset, and add the rest in decode."
            )
    elif domain.is_continuum:
        _require_resolution(name, low, high, low, high)
    try:
        hash(domain)
    except TypeError as error:
        raise TypeError(
            f"{name} must be hashable: make it a @dataclass(frozen=True) of hashable fields."
        ) from error


def namespace_of(x):
    return np if isinstance(x, (np.ndarray, np.generic, float, int)) else jnp


def _scrambled(x):
    """A bijection of uint32, two rounds of xorshift and multiplication (Wellons, hash-prospector)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _times(shape) -> str:
    return "".join(f" x {n}" for n in shape)


def _plain(value):
    """A Python scalar, or the array."""
    value = np.asarray(value)
    return value.item() if value.ndim == 0 else value


def _combinations(entry: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Every array of a shape whose entries are among these, shape (number of arrays, *shape)."""
    rows = list(itertools.product(entry, repeat=math.prod(shape)))
    return np.reshape(rows, (-1, *shape))


def _numbers(domain: Domain, value) -> np.ndarray:
    try:
        numbers = np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a value of {domain} must hold numbers, got {value!r}.") from error
    if numbers.shape != domain.shape:
        raise ValueError(
            f"a value of {domain} must have shape {domain.shape}, got {numbers.shape}."
        )
    return numbers


def _table_of(options: tuple) -> np.ndarray:
    numbers = [_number_in(option) for option in options]
    if None not in numbers:
        types = [kind for kind in (bool, int) if all(isinstance(n, kind) for n in numbers)]
        try:
            return np.array(numbers, (types or [float])[0])
        except OverflowError:  # beyond int64 or float64: Python's own
            pass
    table = np.empty(len(options), object)
    for i, option in enumerate(options):
        table[i] = option
    return table


def _number_in(option) -> bool | int | float | None:
    """An option as Python's number, from Python, NumPy or JAX; None if it is none."""
    if isinstance(option, (np.generic, np.ndarray, jax.Array)) and option.ndim == 0:
        is_real = any(jnp.issubdtype(option.dtype, t) for t in (np.bool_, np.integer, np.floating))
        return option.item() if is_real else None
    return option if isinstance(option, (int, float)) else None


def _log(number: np.ndarray) -> np.ndarray:
    """The logarithm, -inf and nan below: outside of every domain."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(number)


def _is_list(value) -> bool:
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0


def _equal(a, b) -> bool:
    if hasattr(a, "shape") or hasattr(b, "shape"):
        return np.array_equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):  # by entry, which may be arrays
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, (list, tuple)) and isinstance(b, type(a)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b) or bool(a != a and b != b)  # nan


def _x64() -> bool:
    return float_dtype() == np.float64


def _exact_bits() -> int:
    """Of whole numbers that floats hold without a gap."""
    return 53 if _x64() else 24


def _fits_int(*values: int) -> bool:
    """Whether an array of JAX holds these integers."""
    limit = 2**63 if _x64() else 2**31
    return all(-limit <= v < limit for v in values)


def _fits_float(*values: float) -> bool:
    """Whether none of these numbers becomes 0 or inf in the default precision."""
    limits = np.finfo(float_dtype())
    least, most = float(limits.tiny), float(limits.max)
    sizes = [abs(float(v)) for v in values]
    return all(v == 0 or not math.isfinite(v) or least <= v <= most for v in sizes)


def _int_dtype(x):
    """Of decoded integers: of 64 bits wherever there are, so that what is computed from them fits, too."""
    return np.int32 if namespace_of(x) is jnp and not _x64() else np.int64


def _require_traceable(domain: Domain, x) -> None:
    if namespace_of(x) is jnp and not domain.traceable:
        raise TypeError(
            f"{domain} holds numbers beyond int32 or {float_dtype()}, which a traced function cannot be "
            "given: pass jit=False, search an offset or a factor and do the rest in the function, "
            f"or {X64}."
        )


def _shape(shape) -> tuple[int, ...]:
    sizes = (shape,) if np.ndim(shape) == 0 else tuple(shape)
    if any(not isinstance(n, (int, np.integer)) or n < 1 for n in sizes):
        raise ValueError(f"shape must be a size or a tuple of sizes, 1 or more, got {shape!r}.")
    if math.prod(map(int, sizes)) > LARGEST_COUNT:
        raise ValueError(f"shape must have at most 2^31 - 1 entries, got {shape!r}.")
    return tuple(int(n) for n in sizes)


def _options(name: str, options) -> tuple:
    if isinstance(options, str) or not hasattr(options, "__iter__"):
        raise TypeError(f"options of {name} must be a list such as ['a', 'b'], got {options!r}.")
    options = tuple(options)
    if len(options) < 2:
        raise ValueError(f"{name} needs at least two options, got {options!r}{CONSTANT}.")
    for option in options:
        nested = _domain_in(option, {})
        if nested is not None:
            raise TypeError(
                f"options of {name} must be values, got {option!r}, which holds the domain {nested}: "
                "search all variables side by side, {'kind': choice(['svc', 'knn']), 'svc': uniform(0, 1), "
                "'knn': integers(1, 9)}, and let fun read those of its kind."
            )
    return options


def _domain_in(option, seen: dict) -> Domain | None:
    """A domain that hides in an option, at any depth; `seen` holds objects by their ids."""
    if isinstance(option, Domain):
        return option
    if id(option) in seen or isinstance(option, (str, int, float, np.generic)):
        return None
    seen[id(option)] = option
    found = (_domain_in(part, seen) for part in _parts(option))
    return next((domain for domain in found if domain is not None), None)


def _parts(option) -> Iterable:
    """What a container holds."""
    if isinstance(option, Mapping):
        return [*option.keys(), *option.values()]
    if isinstance(option, (list, tuple, set, frozenset)):
        return option
    if isinstance(option, np.ndarray) and option.dtype == object:
        return option.ravel().tolist()
    if isinstance(option, functools.partial):
        return [option.args, option.keywords]
    if dataclasses.is_dataclass(option) and not isinstance(option, type):
        return [getattr(option, f.name, None) for f in dataclasses.fields(option)]
    leaves = jax.tree.leaves(option, is_leaf=lambda x: x is not option)  # a registered class
    return [] if len(leaves) == 1 and leaves[0] is option else leaves


def _bounds(name: str, low, high) -> tuple[float, float]:
    low, high = _number(name, "low", low), _number(name, "high", high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        remedy = CONSTANT if low == high else ""
        raise ValueError(f"{name} needs finite bounds low < high, got {low} and {high}{remedy}.")
    return low, high


def _number(name: str, argument: str, value) -> float | int:
    """As Python's own, whose arithmetic does not overflow as an int8's does."""
    if np.ndim(value) or np.asarray(value).dtype.kind not in "biuf":
        raise TypeError(
            f"{argument} of {name} must be a number, got {value!r}; for an array pass shape=, and for "
            "other bounds in every entry a list of domains as the space."
        )
    return np.asarray(value).item()


def _require_positive(name: str, low) -> None:
    if low <= 0:
        raise ValueError(f"low of {name} must be a positive lower bound, got {low}.")


def _integers(name: str, **values) -> tuple[int, ...]:
    """As Python's ints, of a size that float64 holds exactly: points are decoded in it."""
    for argument, value in values.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"{argument} of {name} must be an int, got {value!r}.")
        if abs(int(value)) > 2**53:
            raise ValueError(
                f"{argument} of {name} must lie within 2^53, got {value}: search an offset, and add "
                "the rest in the function."
            )
    return tuple(int(value) for value in values.values())


def _require_few(name: str, size: int, remedy: str) -> None:
    """Positions on a grid are floats: there may be as many as floats count without a gap."""
    bits = _exact_bits()
    if size > 2**bits:
        x64 = "" if _x64() else f", or {X64}"
        raise ValueError(f"{name} would have {size:,} values, more than 2^{bits}: {remedy}{x64}.")


def _require_resolution(name: str, low, high, first: float, last: float, size=math.inf) -> None:
    """Enough floats between the encoded bounds `first` and `last` for a search, or for all values."""
    dtype = float_dtype()
    largest = max(abs(first), abs(last), last - first)
    if largest > float(np.finfo(dtype).max):
        raise ValueError(
            f"{name} from {low} to {high} reaches beyond {dtype}: search a scaled variable, or {X64}."
        )
    count = (last - first) / float(np.spacing(dtype.type(largest)))
    if count < min(size - 1, FEWEST):
        raise ValueError(
            f"{name} from {low} to {high} holds only {count:.0f} numbers in {dtype}: search the offset "
            f"from {low} and add the rest in the function, or {X64}."
        )
