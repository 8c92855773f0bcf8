"""What every part shares: keys, the split of a pytree into float leaves and the rest, two protocols.

A tree called `like` describes parameters without holding them: float leaves are
`jax.ShapeDtypeStruct`s, every other leaf is `None`, so that directions see only what they perturb.
"""

import functools
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
LARGEST_COUNT = 2**31 - 1  # of int32
Schedule = Callable[[jax.Array], jax.Array]  # step count -> value


def _unlimited(like: PyTree) -> None:
    """The largest number of directions of a step without one."""
    del like


class Direction(NamedTuple):
    """Which way to step: how the directions z_0 ... z_{N-1} of one step are made and summed.

    `frame(key, num_directions, like)` makes what the directions of one step share (a seed, a basis).
    `draw(frame, index, like)` gives direction `index`: the tree `like` with a noise object
    (`zojax.noise`) for every leaf that is perturbed and `None` for every leaf that is not.
    `combine(frame, coefficients, like)` gives sum_i c_i z_i in float32 (float64 for float64 leaves).
    `max_directions(like)` is the largest number of directions a step may ask for, or None.
    `shares_products` says that directions are cheapest evaluated together.
    """

    frame: Callable[[jax.Array, int, PyTree], PyTree]
    draw: Callable[[PyTree, jax.Array, PyTree], PyTree]
    combine: Callable[[PyTree, jax.Array, PyTree], PyTree]
    max_directions: Callable[[PyTree], int | None] = _unlimited
    shares_products: bool = False


def require_seed(name: str, value) -> int:
    """The int, if it has 32 bits: without x64 JAX keeps no more of a seed."""
    seed = int(value)
    if not 0 <= seed < 2**32:
        raise ValueError(
            f"{name} must be from 0 to 2**32 - 1, got {brief(value)}; take it modulo 2**32."
        )
    return seed


def as_key(key) -> jax.Array:
    """A typed key from an int, a typed key or a legacy uint32 key.

    An int is from 0 to 2^32 - 1, with or without x64. Of a traced int, whose value is not known, JAX takes
    the last 32 bits, or 64 under x64.

    Raises:
      ValueError: an int outside of that range, or an array of keys.
      TypeError: anything else.

    >>> as_key(0) == as_key(jax.random.PRNGKey(0)) == jax.random.key(0)
    Array(True, dtype=bool)
    >>> as_key(2**32 - 1) == jax.random.key(2**32 - 1)
    Array(True, dtype=bool)
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != ():
            raise ValueError(
                f"key must be a single key, got shape {key.shape}; use jax.vmap over keys."
            )
        return key
    if isinstance(key, (jax.Array, np.ndarray)) and key.shape == (2,) and key.dtype == jnp.uint32:
        return jax.random.wrap_key_data(jnp.asarray(key))
    is_integer = (
        hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jnp.integer) and key.shape == ()
    )
    if not is_integer and (not isinstance(key, int) or isinstance(key, bool)):
        raise TypeError(
            f"key must be an int or a jax.random key, got {brief(key)}; try jax.random.key(0)."
        )
    if isinstance(key, jax.core.Tracer):
        return jax.random.key(key)
    seed = require_seed("key", key)
    if jax.config.jax_default_prng_impl == "threefry2x32":
        # The data of `jax.random.key(seed)`, which compiles two programs to make them.
        return jax.random.wrap_key_data(np.array([0, seed], np.uint32), impl="threefry2x32")
    return jax.random.key(seed)


def promoting(fun: Callable) -> Callable:
    """`fun` under JAX's default promotion; the modes that are set are for the caller's own functions."""

    @functools.wraps(fun)
    def call(*args, **kwargs):
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return fun(*args, **kwargs)

    return call


@contextmanager
def unbatchable(remedy: str):
    """Adds a remedy to the errors of functions that JAX cannot `vmap`, such as ordered callbacks."""
    try:
        yield
    except (NotImplementedError, ValueError) as error:  # the second of ordered callbacks
        if isinstance(error, NotImplementedError) or "vmap" in str(error):
            error.add_note(remedy)
        raise


def marking_nan(fun: Callable) -> Callable:
    """`fun`, which runs no loss, and in whose results NaN is a marker: `jax_debug_nans` lets it through."""

    @functools.wraps(fun)
    def call(*args, **kwargs):
        with jax.debug_nans(False):
            return fun(*args, **kwargs)

    return call


def brief(value) -> str:
    """A value, or its type where it is long, as a tree of parameters in the place of a key."""
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def is_float(leaf) -> bool:
    """Whether a leaf is perturbed: real floating point of any width."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, float)
    return jnp.issubdtype(dtype, jnp.floating)


def structure_of(params: PyTree, name: str = "params") -> PyTree:
    """A ShapeDtypeStruct for every leaf, with a sharding where that is part of its type.

    Raises TypeError for a leaf that is no array.
    """
    require_arrays(name, params)

    def describe(leaf):
        sharding = jax.typeof(leaf).sharding if is_sharded(leaf) else None
        return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf), sharding=sharding)

    return jax.tree.map(describe, params)


def require_arrays(name: str, tree: PyTree) -> None:
    """Raises TypeError for a leaf that is no array or number of JAX."""
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array) and not _has_dtype_of_jax(leaf):
            raise _not_an_array(name, tree, leaf)


def require_floats(structure: PyTree) -> None:
    """Raises ValueError unless a leaf is floating point."""
    if not total_size(floats_only(structure)):
        dtypes = [str(leaf.dtype) for leaf in jax.tree.leaves(structure)]
        raise ValueError(
            f"params has no float leaf to perturb, got leaves of dtype {dtypes}; "
            "cast what should be trained to a floating dtype."
        )


def require_dtypes(name: str, tree: PyTree) -> None:
    """Raises TypeError for an array of a dtype that JAX lacks, or in a wrapper. Others may be static."""
    for leaf in jax.tree.leaves(tree):
        is_array = isinstance(leaf, (np.ndarray, np.generic)) or hasattr(leaf, "__jax_array__")
        if is_array and not _has_dtype_of_jax(leaf):
            raise _not_an_array(name, tree, leaf)


def _has_dtype_of_jax(leaf) -> bool:
    """Whether a leaf, no array of JAX, can be made one. A wrapper that can is none: it may be mutable."""
    if isinstance(leaf, (str, type)) or callable(getattr(leaf, "__jax_array__", None)):
        return False
    try:
        dtype = jnp.result_type(leaf)
    except TypeError:
        return False
    return any(jnp.issubdtype(dtype, kind) for kind in (np.number, np.bool_, jax.dtypes.extended))


def _not_an_array(name: str, tree: PyTree, leaf) -> TypeError:
    paths = jax.tree_util.tree_leaves_with_path(tree)
    path = next(path for path, x in paths if x is leaf)
    dtype = getattr(leaf, "dtype", None)
    got = f"{brief(leaf)} of dtype {dtype}"
    if not isinstance(leaf, (np.ndarray, np.generic)):
        got = brief(leaf)
        remedy = (
            "split functions, settings and variables from the arrays first "
            "(equinox.partition, nnx.split, penzai's pz.unbind_params)"
        )
    elif not dtype.isnative:
        remedy = "swap its bytes with x.astype(x.dtype.newbyteorder('='))"
    else:
        remedy = "JAX lacks this dtype: cast it, as with x.astype(np.float32), or leave it out"
    return TypeError(
        f"{name}{jax.tree_util.keystr(path)} must be an array or a number, got {got}; {remedy}."
    )


def is_sharded(x) -> bool:
    """Whether an axis of an array is sharded by its type, in a mesh with explicit axes."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def floats_only(params: PyTree) -> PyTree:
    """`params` with None in place of every leaf that is not floating point."""
    return jax.tree.map(lambda x: x if is_float(x) else None, params)


def replace_floats(params: PyTree, floats: PyTree, other: Callable = lambda leaf: leaf) -> PyTree:
    """`floats` at the float leaves of `params`, `other(leaf)` at all others."""
    return jax.tree.map(lambda old, new: new if is_float(old) else other(old), params, floats)


def float_dtype() -> jnp.dtype:
    """float64 where it is enabled, else float32."""
    return jax.dtypes.canonicalize_dtype(float)


def warn_of_resolution(values) -> None:
    """Warns of host values that differ by less than the floats resolve to which they will be rounded."""
    if any(isinstance(x, jax.Array) for x in jax.tree.leaves(values)):  # rounded already, or traced
        return
    values = np.asarray(values)
    if values.dtype.kind not in "iuf":
        return
    finite = values[np.isfinite(values)]
    dtype = float_dtype()
    close = 10 * np.finfo(dtype).eps * np.max(np.abs(finite), initial=0)
    if len(finite) > 1 and 0 < np.ptp(finite) < close:
        warnings.warn(
            f"values near {finite[0]:g} differ by less than {dtype} resolves: subtract a constant in fun, "
            "or enable x64: jax.config.update('jax_enable_x64', True).",
            stacklevel=3,
        )


def no_update(leaf) -> jax.Array | None:
    """The update of a leaf that is not perturbed: zeros, or None for keys, which cannot be added."""
    dtype = jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return None
    return jnp.zeros(jnp.shape(leaf), dtype)


def varying_axes(x) -> frozenset:
    """The axes of a `shard_map` along which an array may differ between devices."""
    return jax.typeof(x).mat.varying


def varying_like(x, tree):
    """`x`, which may differ between the devices of a `shard_map` where the arrays of a tree do."""
    axes = [varying_axes(leaf) for leaf in jax.tree.leaves(tree)]
    new = frozenset().union(*axes) - varying_axes(x)
    return jax.lax.pcast(x, tuple(new), to="varying") if new else x


def accumulator_dtype(dtype) -> jnp.dtype:
    """float64 for float64, else float32: sums never run in less."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def at_least(dtype, least) -> jnp.dtype:
    """A float dtype, or `least` where that is given and has more bits.

    >>> at_least(jnp.float16, jnp.float32), at_least(jnp.float64, jnp.float32), at_least(jnp.float16, None)
    (dtype('float32'), dtype('float64'), dtype('float16'))
    """
    is_wide = least is None or jnp.finfo(least).bits <= jnp.finfo(dtype).bits
    return jnp.dtype(dtype if is_wide else least)


def mean_of(table: jax.Array, valid: jax.Array, axis: int | None = None) -> jax.Array:
    """The mean over the rows of a table that are valid, of all columns or, with axis 0, of each; else 0.

    No sum is infinite on the way: entries are scaled by a power of two, which rounds nothing.
    """
    share = 2.0 ** -table.size.bit_length()
    total = jnp.sum(jnp.where(valid[:, None], share * table, 0), axis=axis)
    columns = table.shape[1] if axis is None else 1
    count = jnp.maximum(jnp.sum(valid), 1).astype(table.dtype)
    return total / (share * columns * count)


def total_size(like: PyTree) -> int:
    """The number d of perturbed coordinates (a Python int: it may exceed 2**31)."""
    return sum(leaf.size for leaf in jax.tree.leaves(like))


def require_kind(name: str, value, kind: type) -> None:
    """Raises TypeError unless `value` is of a class whose factory may have been forgotten to be called."""
    if not isinstance(value, kind):
        hint = f"; did you forget to call it, {name}=...()?" if callable(value) else "."
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise TypeError(f"{name} must be {article} {kind.__name__}, got {value!r}{hint}")


def require_number(name: str, value) -> None:
    """Raises TypeError for an optional argument that is given and no number."""
    if np.ndim(value) or np.asarray(value).dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a number, got {value!r}; leave it out to have none.")


def require_positive(name: str, value) -> None:
    """Raises unless `value` is a positive number, not a schedule; traced values are let through."""
    if isinstance(value, jax.core.Tracer):
        return
    require_no_schedule(name, value)
    number = np.asarray(value)
    if number.shape or number.dtype.kind not in "iuf" and not is_float(number):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not (number > 0 and np.isfinite(number)):
        raise ValueError(f"{name} must be positive and finite, got {value}.")
    with np.errstate(over="ignore"):
        single = np.float32(number)
    if not 0 < single < np.inf:
        raise ValueError(
            f"{name} must be positive and finite in float32 too, where {value} is {single:g}."
        )


def require_fraction(name: str, value) -> float:
    """A static number in (0, 1], as a float."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} must be a static number, got a traced value; "
            f"under optax.inject_hyperparams pass static_args={name!r}."
        )
    require_no_schedule(name, value)
    require_rate(name, value)
    if not 0 < float(value) <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value}.")
    return float(value)


def require_no_schedule(name: str, value) -> None:
    """Raises TypeError for a function."""
    if callable(value):
        raise TypeError(f"{name} must be a number, got {brief(value)}; it has no schedule.")


def require_rate(name: str, value) -> None:
    """Raises unless `value` is a number and not negative; traced values and schedules are let through."""
    if isinstance(value, jax.core.Tracer) or callable(value):
        return
    is_number = isinstance(value, (int, float, np.generic, np.ndarray, jax.Array))
    if not is_number or np.ndim(value):
        raise TypeError(f"{name} must be a number or a schedule, got {brief(value)}.")
    if not 0 <= float(value) < np.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}.")
    if float(value) > np.finfo(np.float32).max:
        raise ValueError(f"{name} must be finite in float32, got {value}.")
    if isinstance(value, int) and value > LARGEST_COUNT:
        raise ValueError(f"{name} must be a float above 2^31 - 1, got the int {value}.")


def require_count(name: str, value, most: float = LARGEST_COUNT) -> int:
    """A positive static int up to `most`, or an error that says how to make it one."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} must be a static int, got a traced value; "
            f"under optax.inject_hyperparams pass static_args={name!r}."
        )
    if (
        isinstance(value, (jax.Array, np.ndarray))
        and value.shape == ()
        and value.dtype.kind in "iu"
    ):
        value = int(value)
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
    if value > most:
        raise ValueError(f"{name} must be at most 2^31 - 1, got {value}.")
    return int(value)


def require_flag(name: str, value) -> None:
    """Raises TypeError unless `value` is a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {brief(value)}.")
