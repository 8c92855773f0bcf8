"""What one variable may be: a domain, and its encoding as coordinates that the algorithms see.

Encoded coordinates are float32 unless x64 is enabled. Domains that float32 cannot tell apart are refused
when they are made: more than 2^24 integers, or a range with fewer than 1,024 float32 numbers in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import jax.numpy as jnp
import numpy as np

from zojax._types import float_dtype

CONTINUOUS, ORDERED, UNORDERED = 0, 1, 2
FEWEST = 1024  # floats in a range, below which it cannot be searched
CONSTANT = "; what is constant is no part of the space: pass it in args"
X64 = "enable x64: jax.config.update('jax_enable_x64', True)"


class Domain:
    """What one variable, or an array of independent ones, may be: a leaf of a space.

    Every domain has `shape`, its `kind`, its encoded bounds `low` and `high`, the number of values
    `size` of one entry (inf for a continuum), and four functions between encoded coordinates and values:
    `snap` (to the nearest coordinate that stands for a value), `decode` (traceable), `to_python` (one
    point, as plain Python and NumPy) and `encode`. `traceable` says whether a traced function can be given
    its values; `slack` how far outside of the encoded bounds the rounding of a value to float32 may be.
    """

    shape: tuple[int, ...]
    traceable = True
    slack = 0.0

    def to_python(self, x: np.ndarray):
        return _plain(self.decode(x))


@dataclass(frozen=True)
class Uniform(Domain):
    """The continuum [low, high]."""

    low: float
    high: float
    shape: tuple[int, ...] = ()
    kind = CONTINUOUS
    size = math.inf

    @property
    def slack(self):
        return 1e-6 * max(abs(self.low), abs(self.high))

    def snap(self, x):
        return x

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
    size = math.inf
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

    def snap(self, x):
        return x

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

    def snap(self, x):
        return namespace_of(x).round(x)

    def decode(self, x):
        _require_traceable(self, x)
        index = self.snap(x)
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
    """The integers lowest ... highest, even in the logarithm."""

    lowest: int
    highest: int
    shape: tuple[int, ...] = ()
    kind = CONTINUOUS
    slack = 1e-12  # NumPy's logarithm may differ from Python's

    @property
    def low(self):
        return math.log(self.lowest)

    @property
    def high(self):
        return math.log(self.highest)

    @property
    def size(self):
        return self.highest - self.lowest + 1

    def snap(self, x):
        xp = namespace_of(x)
        return xp.log(xp.round(xp.exp(x)))

    @property
    def traceable(self):
        return _fits_int(self.highest)

    def decode(self, x):
        _require_traceable(self, x)
        xp = namespace_of(x)
        # Clipped before too: of a rounded logarithm the exponential may lie beyond the type.
        value = xp.clip(xp.round(xp.exp(x)), self.lowest, self.highest)
        return xp.clip(value.astype(_int_dtype(x)), self.lowest, self.highest)

    def encode(self, value):
        number = _numbers(self, value)
        if np.any(number != np.round(number)):
            raise ValueError(f"{value!r} is not one of the values of {self}.")
        return _log(number)

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
        return isinstance(other, Choice) and self._identity == other._identity

    def __hash__(self):
        return hash(self._identity)

    @property
    def _identity(self):
        # Options need not be hashable, and 1 == 1.0 == True are not the same option.
        options = tuple((type(o), repr(o)) for o in self.options)
        return options, self.kind, self.shape

    @property
    def traceable(self) -> bool:
        """Whether the options are numbers, and of a size that a traced function can be given."""
        if all(isinstance(o, (int, np.integer, np.bool_)) for o in self.options):
            return _fits_int(*map(int, self.options))
        return self._holds_numbers and _fits_float(*self.options)

    @property
    def _holds_numbers(self) -> bool:
        return all(isinstance(o, (int, float, np.number, np.bool_)) for o in self.options)

    def snap(self, x):
        return namespace_of(x).round(x)

    def decode(self, x):
        if not self._holds_numbers:
            raise TypeError(
                f"{self} holds options that are no numbers, which a traced function cannot be given: pass "
                "jit=False, or choose among indices, choice(range(n)), and use lax.switch."
            )
        _require_traceable(self, x)
        xp = namespace_of(x)
        return xp.asarray(self.options)[xp.round(x).astype(np.int32)]

    def to_python(self, x):
        index = np.round(x).astype(int)
        if index.ndim == 0:
            return self.options[int(index)]
        values = np.empty(len(self.options), object)
        values[:] = self.options
        return values[index]

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
    size = 2

    @property
    def shape(self):
        return (self.n,)

    def snap(self, x):
        """Bits; of more than `max_size`, a hash of all of them chooses which stay: no index is favoured."""
        xp = namespace_of(x)
        bits = xp.round(x)
        if self.max_size == self.n:
            return bits
        is_member = bits > 0.5
        names = np.arange(self.n, dtype=np.uint32) * np.uint32(0x9E3779B9)
        together = xp.sum(
            xp.where(is_member, _scrambled(names), np.uint32(0)), -1, np.uint32, keepdims=True
        )
        places = xp.where(is_member, _scrambled(names ^ together), np.uint32(2**32 - 1))
        last = xp.sort(places, axis=-1)[..., self.max_size - 1 : self.max_size]
        return xp.where(is_member & (places <= last), bits, 0)

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
    """Integers low, low + step, ..., up to and including `high`.

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

    Beyond a million float32 does not tell the logarithms of neighbours apart, and some are left out. In a
    compiled function all integers have 32 bits, and what is computed from them may overflow: `1.0 * n`.

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
    """One of several options that have no order.

    Args:
      options: at least two, anything; numbers can be given to a traced function.
      shape: a size or a tuple of sizes, for an array of independent ones.

    Returns:
      A `Domain` of the options.

    Raises:
      TypeError: options that are no list; a string is none.
      ValueError: fewer than two options; a bad shape.

    >>> print(choice(["adam", "sgd"]))
    choice(['adam', 'sgd'])
    """
    return Choice(_options("choice", options), UNORDERED, _shape(shape))


def ordered(options: Sequence, shape: int | tuple[int, ...] = ()) -> Domain:
    """One of several options in their order: neighbours in the list are alike.

    Args:
      options: at least two, anything; numbers can be given to a traced function.
      shape: a size or a tuple of sizes, for an array of independent ones.

    Returns:
      A `Domain` of the options.

    Raises:
      TypeError: options that are no list; a string is none.
      ValueError: fewer than two options; a bad shape.

    >>> print(ordered([0.0, 0.1, 0.5]))
    ordered([0.0, 0.1, 0.5])
    """
    return Choice(_options("ordered", options), ORDERED, _shape(shape))


def subset(n: int, *, max_size: int) -> Domain:
    """Subsets of range(n) with at most `max_size` members, as boolean masks of shape (n,).

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


def _numbers(domain: Domain, value) -> np.ndarray:
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a value of {domain} must hold numbers, got {value!r}.") from error


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
    return bool(a == b)


def _x64() -> bool:
    return float_dtype() == np.float64


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
    return tuple(int(n) for n in sizes)


def _options(name: str, options) -> tuple:
    if isinstance(options, str) or not hasattr(options, "__iter__"):
        raise TypeError(f"options of {name} must be a list such as ['a', 'b'], got {options!r}.")
    options = tuple(options)
    if len(options) < 2:
        raise ValueError(f"{name} needs at least two options, got {options!r}{CONSTANT}.")
    return options


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
        raise ValueError(f"{name} needs a positive lower bound, got {low}.")


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
    bits = 53 if _x64() else 24
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
