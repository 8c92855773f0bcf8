"""NumPy's expression for each primitive of JAX that searches use."""

import math
import operator
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from jax import lax


class NoNumPyFormError(NotImplementedError):
    """A primitive, or a use of it, that has no form in NumPy here."""


def expression_of(eqn: Any) -> str | None:
    """The equation as an expression of Python, with braces for its operands, or None.

    Operators take less time than functions. Of scalars, Python's own take a tenth of NumPy's.
    """
    name = eqn.primitive.name
    first: Any = eqn.invars[0].aval if eqn.invars else None
    result = eqn.outvars[0].aval
    if name in SHAPED or name == "convert_element_type":
        if (first.shape, first.dtype) == (result.shape, result.dtype):
            return "{}"
        if name == "convert_element_type":
            return _conversion(first, result.dtype.name)
        if not result.shape:
            return f"{{}}[{', '.join('0' * len(first.shape))}]"
    if name == "select_n" and len(eqn.invars) == 3 and not first.shape:
        return CHOICE
    if name == "shift_right_logical" and first.dtype.kind == "u":
        return "{} >> {}"
    if not result.shape and name in OF_SCALARS:
        return OF_SCALARS[name]
    if not result.shape and name == "not" and result.dtype == bool:
        return "{} ^ true"  # faster than `~`
    return OPERATORS.get(name)


def _conversion(operand: Any, kind: str) -> str | None:
    if kind not in KINDS:
        return None
    is_flag = not operand.shape and operand.dtype == bool
    return f"{kind}_1 if {{}} else {kind}_0" if is_flag else f"{{}}.astype({kind})"


def form_of(eqn: Any) -> Callable[..., Any]:
    """A function of NumPy arrays and scalars that equals the equation.

    A scalar is a NumPy scalar: its operations take a tenth of the time of those on an array.
    """
    name = eqn.primitive.name
    if name in SIMPLE:
        return SIMPLE[name]
    if name in MADE:
        return MADE[name](eqn)
    raise NoNumPyFormError(f"the primitive {name} has no form in NumPy.")


def _shape(eqn: Any) -> tuple[int, ...]:
    return eqn.outvars[0].aval.shape


def _dtype(eqn: Any) -> np.dtype:
    return eqn.outvars[0].aval.dtype


def _platform(eqn):
    platforms = eqn.params["platforms"]
    index = next(i for i, names in enumerate(platforms) if names is None or "cpu" in names)
    return lambda: np.int32(index)


def _wrap(eqn):
    """Keys are their data: one key is an array, and several are an array of objects."""
    shape = _shape(eqn)
    if not shape:
        return lambda data: data

    def wrap(data):
        keys = np.empty(math.prod(shape), object)
        keys[:] = list(data.reshape(len(keys), -1))
        return keys.reshape(shape)

    return wrap


def _unwrap(eqn):
    shape = _shape(eqn)
    single = not eqn.invars[0].aval.shape
    return (lambda key: key) if single else (lambda keys: np.stack(list(keys.flat)).reshape(shape))


def _divide(eqn):
    dtype = _dtype(eqn)
    if np.issubdtype(dtype, np.inexact):
        return operator.truediv
    if np.issubdtype(dtype, np.unsignedinteger):
        return np.floor_divide
    if _shape(eqn):
        return lambda a, b: (a - np.fmod(a, b)) // b  # towards zero
    return lambda a, b: a // b if (a < 0) == (b < 0) else -(-a // b)


def _select(eqn):
    which, *cases = eqn.invars
    if len(cases) != 2:
        return lambda which, *cases: np.choose(which, cases)
    return lambda which, a, b: np.where(which, b, a)


def _bitcast(eqn):
    dtype, shape = np.dtype(eqn.params["new_dtype"]), _shape(eqn)
    if dtype.itemsize == eqn.invars[0].aval.dtype.itemsize:
        return lambda a: np.ascontiguousarray(a).view(dtype) if a.ndim else a.view(dtype)
    # A last axis holds the parts of an entry.
    return lambda a: np.ascontiguousarray(a).reshape(-1).view(dtype).reshape(shape)


def _reshape(eqn):
    shape = _shape(eqn)
    return lambda a: a.reshape(shape)


def _broadcast(eqn):
    shape, dims, dtype = eqn.params["shape"], eqn.params["broadcast_dimensions"], _dtype(eqn)
    inner = [1] * len(shape)
    for dim, size in zip(dims, eqn.invars[0].aval.shape, strict=True):
        inner[dim] = size
    if math.prod(shape) == math.prod(inner):
        return lambda a: a.reshape(shape)

    def filled(a):
        out = np.empty(shape, dtype)
        out[...] = a.reshape(inner)
        return out

    return filled


def _iota(eqn):
    shape, dim = eqn.params["shape"], eqn.params["dimension"]
    inner = [n if i == dim else 1 for i, n in enumerate(shape)]
    values = np.broadcast_to(np.arange(shape[dim], dtype=_dtype(eqn)).reshape(inner), shape)
    return lambda: values


def _slice(eqn):
    strides = eqn.params["strides"] or [1] * len(eqn.params["start_indices"])
    ends = zip(eqn.params["start_indices"], eqn.params["limit_indices"], strides, strict=True)
    index = tuple(slice(*end) for end in ends)
    return lambda a: a[index]


def _dynamic_slice(eqn):
    sizes = eqn.params["slice_sizes"]
    if len(sizes) == 1:
        size = sizes[0]
        return lambda a, i: a[i : i + size]
    return lambda a, *starts: a[_window(starts, sizes)]


def _dynamic_update_slice(eqn):
    sizes = eqn.invars[1].aval.shape

    def update(a, new, *starts):
        a = a.copy()
        a[_window(starts, sizes)] = new
        return a

    return update


def _window(starts, sizes) -> tuple[slice, ...]:
    return tuple([slice(i, i + k) for i, k in zip(starts, sizes, strict=True)])


class _Windows:
    """The windows of a gather or scatter: where each entry of the result or update lies in the array."""

    def __init__(self, shape, sizes, rank, window_axes, dropped, mapped, batched):
        self.window_axes, self.mapped = tuple(window_axes), mapped
        self.last_call: tuple[Any, Any] = None, None  # often, the starts are a constant
        self.last = [n - size for n, size in zip(shape, sizes, strict=True)]
        inner = iter(window_axes)
        self.offsets = []
        for axis, size in enumerate(sizes):
            along = [1] * rank
            if axis not in dropped:
                along[next(inner)] = size
            self.offsets.append(np.arange(size).reshape(along))
        for axis, place in batched:  # of the array, and among the starts
            along = [1] * (rank - len(self.window_axes))
            along[place] = shape[axis]
            starts = np.arange(shape[axis]).reshape(along)
            self.offsets[axis] = np.expand_dims(starts, self.window_axes)

    def __call__(self, starts) -> tuple[tuple, Any]:
        """(index, inside): the index of all entries, and which windows lie inside the array."""
        earlier, result = self.last_call
        if earlier is starts:
            return result
        places, inside = list(self.offsets), np.True_
        for j, axis in enumerate(self.mapped):
            start = np.expand_dims(starts[..., j], self.window_axes)
            inside = inside & (start >= 0) & (start <= self.last[axis])
            places[axis] = places[axis] + np.clip(start, 0, self.last[axis])
        self.last_call = starts, (tuple(places), inside)
        return self.last_call[1]


def _pairs(a, b) -> list[tuple]:
    return list(zip(a, b, strict=True))


def _gather(eqn):
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    array = eqn.invars[0].aval
    windows = _Windows(
        array.shape,
        sizes,
        len(_shape(eqn)),
        numbers.offset_dims,
        numbers.collapsed_slice_dims + numbers.operand_batching_dims,
        numbers.start_index_map,
        _pairs(numbers.operand_batching_dims, numbers.start_indices_batching_dims),
    )
    if eqn.params["mode"] != lax.GatherScatterMode.FILL_OR_DROP:
        return _rows_or(lambda a, starts: a[windows(starts)[0]], eqn)
    fill = eqn.params["fill_value"]
    if fill is None and not np.issubdtype(array.dtype, np.inexact):
        raise NoNumPyFormError("a gather that fills integers has no form in NumPy.")

    def filled(a, starts):
        places, inside = windows(starts)
        return np.where(inside, a[places], a.dtype.type(np.nan if fill is None else fill))

    return _rows_or(filled, eqn)


def _rows_or(general: Callable, eqn: Any) -> Callable:
    """A gather; where it takes whole rows from inside the array, by plain indexing."""
    (array, starts), numbers = (v.aval for v in eqn.invars), eqn.params["dimension_numbers"]
    whole = numbers.collapsed_slice_dims == numbers.start_index_map == (0,)
    whole &= eqn.params["slice_sizes"][1:] == array.shape[1:] and not numbers.operand_batching_dims
    batch = starts.ndim - 1
    if (
        not whole
        or not starts.size
        or numbers.offset_dims != tuple(range(batch, batch + array.ndim - 1))
    ):
        return general

    def rows(a, starts):
        places = starts[..., 0]
        inside = places.min() >= 0 and places.max() < len(a)
        return a[places] if inside else general(a, starts)

    return rows


def _scatter(eqn):
    numbers, updates = eqn.params["dimension_numbers"], eqn.invars[2].aval.shape
    shape = eqn.invars[0].aval.shape
    window = iter(updates[axis] for axis in numbers.update_window_dims)
    dropped = numbers.inserted_window_dims + numbers.operand_batching_dims
    windows = _Windows(
        shape,
        [1 if axis in dropped else next(window) for axis in range(len(shape))],
        len(updates),
        numbers.update_window_dims,
        dropped,
        numbers.scatter_dims_to_operand_dims,
        _pairs(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims),
    )
    clips = eqn.params["mode"] == lax.GatherScatterMode.CLIP

    def scatter(a, starts, new):
        places, inside = windows(starts)
        inside = np.broadcast_to(inside | clips, new.shape)
        a = a.copy()
        a[tuple(np.broadcast_to(place, new.shape)[inside] for place in places)] = new[inside]
        return a

    return scatter


def _split(eqn):
    ends, axis = np.cumsum(eqn.params["sizes"])[:-1], eqn.params["axis"]
    return lambda a: np.split(a, ends, axis)


def _pad(eqn):
    widths = eqn.params["padding_config"]
    if any(low < 0 or high < 0 or between for low, high, between in widths):
        raise NoNumPyFormError("padding below zero or between entries has no form in NumPy.")
    inner = tuple(
        slice(w[0], w[0] + n) for w, n in zip(widths, eqn.invars[0].aval.shape, strict=True)
    )
    shape, dtype = _shape(eqn), _dtype(eqn)

    def pad(a, value):
        out = np.full(shape, value, dtype)
        out[inner] = a
        return out

    return pad


def _rows_of_one_thread(left, right) -> int:
    """The rows of a product that OpenBLAS does in one thread; 0 for all.

    It wakes a thread for each core beyond 2^18 multiplications, 2^13 with a vector. On a busy machine
    each call then waits for its turn.
    """
    most = 2**18 if len(right) == 2 else 2**13
    rows = max(1, most // max(1, math.prod(right)))
    return rows if rows < left[0] <= 100 * rows else 0


def _dot_by_rows(a, b, rows: int) -> np.ndarray:
    return np.concatenate([np.dot(a[i : i + rows], b) for i in range(0, len(a), rows)])


def _dot(eqn):
    (left, right), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    ranks, dtype = [v.aval.ndim for v in eqn.invars], _dtype(eqn)
    if (tuple(left), tuple(right)) == ((ranks[0] - 1,), (0,)) and ranks[1] <= 2 and not left_batch:
        if ranks[0] == 2 and (rows := _rows_of_one_thread(*(v.aval.shape for v in eqn.invars))):
            return lambda a, b: _dot_by_rows(a, b, rows).astype(dtype, copy=False)
        if all(v.aval.dtype == dtype for v in eqn.invars):
            return np.dot
        return lambda a, b: np.dot(a, b).astype(dtype, copy=False)
    axes = list(range(ranks[0])), list(range(ranks[0], sum(ranks)))
    for a, b in zip((*left_batch, *left), (*right_batch, *right), strict=True):
        axes[1][b] = axes[0][a]
    free = [
        [axis for i, axis in enumerate(axes[side]) if i not in (*batch, *summed)]
        for side, batch, summed in ((0, left_batch, left), (1, right_batch, right))
    ]
    out = [axes[0][i] for i in left_batch] + free[0] + free[1]
    return lambda a, b: np.einsum(a, axes[0], b, axes[1], out).astype(dtype, copy=False)


def _sort(eqn):
    axis, keys = eqn.params["dimension"], eqn.params["num_keys"]
    if keys != 1:
        raise NoNumPyFormError("a sort by several keys has no form in NumPy.")

    def sort_vectors(*arrays):
        order = arrays[0].argsort(kind="stable")
        return [a[order] for a in arrays]

    def sort(*arrays):
        order = np.argsort(arrays[0], axis=axis, kind="stable")
        return [np.take_along_axis(a, order, axis) for a in arrays]

    if len(eqn.invars) == 1:
        return lambda a: [np.sort(a, axis=axis)]
    return sort_vectors if eqn.invars[0].aval.ndim == 1 else sort


def _reduced(function, eqn):
    axes, dtype = tuple(eqn.params["axes"]), _dtype(eqn)
    reduce = function.reduce
    return lambda a: reduce(a, axes, dtype)


def _index(function, eqn):
    (axis,), dtype = eqn.params["axes"], eqn.params["index_dtype"]
    return lambda a: function(a, axis).astype(dtype)


def _cumulated(function, eqn):
    axis, dtype, accumulate = eqn.params["axis"], _dtype(eqn), function.accumulate
    if not eqn.params["reverse"]:
        return lambda a: accumulate(a, axis, dtype)
    return lambda a: np.flip(accumulate(np.flip(a, axis), axis, dtype), axis)


def _stack(eqn):
    shape, dtype, before = _shape(eqn), _dtype(eqn), (slice(None),) * eqn.params["axis"]

    def stack(*parts):
        out = np.empty(shape, dtype)
        for i, part in enumerate(parts):
            out[(*before, i)] = part
        return out

    return stack


def _round(eqn):
    if eqn.params["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN:
        return np.rint
    return lambda a: np.trunc(a + np.copysign(a.dtype.type(0.5), a))


def _cholesky(a):
    try:
        return np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return np.full_like(a, np.nan)


MIDDLE = range(
    26, 100
)  # rows for which LAPACK wakes threads for eigenvectors, but not for inverses


def _symmetric_root(c):
    """C^(1/2), as `zojax.search.algorithms._root` defines it."""
    c, eps = (c + c.T) / 2, np.finfo(c.dtype).eps
    with suppress(np.linalg.LinAlgError):
        if len(c) in MIDDLE:
            return _polar_root(
                c + eps * np.abs(c).sum(axis=0).max() * np.eye(len(c), dtype=c.dtype)
            )
        values, basis = np.linalg.eigh(c)
        return (basis * np.sqrt(np.maximum(values, values[-1] * eps))) @ basis.T
    return np.full_like(c, np.nan)


def _polar_root(c):
    """H of the polar decomposition L' = U H, where C = L L': then C = H H.

    Newton's method (Higham 1986) takes inverses instead of eigenvectors.
    """
    start = x = np.linalg.cholesky(c).T
    for _ in range(MOST_STEPS):
        inverse = np.linalg.inv(x).T
        scale = np.sqrt(np.linalg.norm(inverse) / np.linalg.norm(x))
        old, x = x, (scale * x + inverse / scale) / 2
        if np.linalg.norm(x - old) <= np.sqrt(np.finfo(c.dtype).eps) * np.linalg.norm(x):
            break
    root = _dot_by_rows(x.T, start, _rows_of_one_thread(x.shape, x.shape) or len(x))
    return (root + root.T) / 2


def _of_each(function, a):
    return np.fromiter(map(function, a.ravel().tolist()), a.dtype, a.size).reshape(a.shape)[()]


def _horner(x, *coefficients):
    *rest, total = coefficients
    for c in reversed(rest):
        total = total * x + c
    return total


def _erf_inv(eqn):
    from scipy.special import erfinv  # the import takes as long as all of zojax.search

    return erfinv


BLOCK = 32  # rows of a triangular solve
MOST_STEPS = 20  # of Newton's method: ten at condition numbers of 1e14


def _triangular_solve(eqn):
    """By blocks. SciPy's solver wakes a thread for each core, which takes 10 ms on a busy machine."""
    given, rank = eqn.params, eqn.invars[1].aval.ndim
    if not given["left_side"] or rank != 2 or given["unit_diagonal"]:
        raise NoNumPyFormError("this triangular solve has no form in NumPy.")
    is_lower = given["lower"] != given["transpose_a"]
    n = eqn.invars[0].aval.shape[0]
    starts = range(0, n, BLOCK) if is_lower else reversed(range(0, n, BLOCK))
    steps = [
        (slice(i, i + BLOCK), slice(i + BLOCK, n) if is_lower else slice(0, i)) for i in starts
    ]
    triangle = np.tri(BLOCK, dtype=bool) if is_lower else np.tri(BLOCK, dtype=bool).T

    def solve(a, b):
        a, x = a.T if given["transpose_a"] else a, b.copy()
        for own, rest in steps:
            block = a[own, own]
            block = np.where(triangle[: len(block), : len(block)], block, 0)
            x[own] = np.linalg.inv(block) @ x[own]
            x[rest] -= a[rest, own] @ x[own]
        return x

    return solve


OPERATORS = {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "neg": "-{}"}
OPERATORS |= {"and": "{} & {}", "or": "{} | {}", "xor": "{} ^ {}", "not": "~{}"}
OPERATORS |= {"lt": "{} < {}", "le": "{} <= {}", "gt": "{} > {}", "ge": "{} >= {}"}
OPERATORS |= {"eq": "{} == {}", "ne": "{} != {}", "abs": "abs({})", "square": "{0} * {0}"}
SAME = "copy copy_p stop_gradient random_clone settle row_major written no_zero"
OPERATORS |= dict.fromkeys(SAME.split(), "{}")
OF_SCALARS = {
    "max": "{0} if {0} >= {1} or {0} != {0} else {1}",
    "min": "{0} if {0} <= {1} or {0} != {0} else {1}",
    "clamp": "{0} if {1} < {0} else {2} if {1} > {2} else {1}",
    "is_finite": "{0} - {0} == 0",
    "rem": "{0} % {1} if {0} >= 0 and {1} > 0 else fmod({0}, {1})",
}
CHOICE = "{2} if {0} else {1}"
KINDS = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
NAMES = {kind: np.dtype(kind) for kind in KINDS} | {"true": np.True_, "fmod": np.fmod}
NAMES |= {f"{kind}_{n}": np.dtype(kind).type(n) for kind in KINDS for n in (0, 1)}
# The same entries in another shape.
SHAPED = "reshape squeeze expand_dims broadcast_in_dim".split()
ELEMENTWISE = "add sub mul div max min and or xor lt le gt ge eq ne rem pow select_n".split()
ELEMENTWISE += ["shift_right_logical"]
# NumPy's, too; log2 with jax >= 0.12.
FUNCTIONS = "sign floor ceil exp exp2 expm1 log log1p log2 sqrt sin cos tan tanh nextafter".split()
SIMPLE: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in FUNCTIONS},
    "shift_left": operator.lshift,
    "shift_right_arithmetic": operator.rshift,
    "rem": np.fmod,
    "one_minus_square": lambda a: (1 + a) * (1 - a),  # jax >= 0.12
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "logistic": lambda a: 1 / (1 + np.exp(-a)),
    "erf": partial(_of_each, math.erf),  # SciPy takes .2 s to import
    "erfc": partial(_of_each, math.erfc),
    "is_finite": np.isfinite,
    "population_count": np.bitwise_count,
    "clamp": lambda low, a, high: np.minimum(np.maximum(a, low), high),
    "zero_from": lambda a: np.uint32(0),
    "cholesky": _cholesky,
    "symmetric_root": _symmetric_root,
}
MADE: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "platform_index": _platform,
    "random_wrap": _wrap,
    "random_unwrap": _unwrap,
    "div": _divide,
    "select_n": _select,
    "bitcast_convert_type": _bitcast,
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
    "broadcast_in_dim": _broadcast,
    "iota": _iota,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "scatter": _scatter,
    "split": _split,
    "pad": _pad,
    "dot_general": _dot,
    "sort": _sort,
    "round": _round,
    "integer_pow": lambda eqn: lambda a: a ** eqn.params["y"],
    "transpose": lambda eqn: lambda a: np.transpose(a, eqn.params["permutation"]),
    "rev": lambda eqn: lambda a: np.flip(a, eqn.params["dimensions"]),
    "concatenate": lambda eqn: lambda *a: np.concatenate(a, eqn.params["dimension"]),
    "stack": _stack,
    "tile": lambda eqn: lambda a: np.tile(a, eqn.params["reps"]),
    "polynomial": lambda eqn: _horner,  # jax >= 0.12
    "optimization_barrier": lambda eqn: lambda *a: a,
    "unstack": lambda eqn: lambda a: [*np.moveaxis(a, eqn.params["axis"], 0)],  # jax >= 0.11
    "triangular_solve": _triangular_solve,
    "erf_inv": _erf_inv,
    "eigh": lambda eqn: lambda a: np.linalg.eigh((a + a.T) / 2)[::-1],
    "reduce_or": partial(_reduced, np.logical_or),
    "reduce_and": partial(_reduced, np.logical_and),
    "argmax": partial(_index, np.ndarray.argmax),
    "argmin": partial(_index, np.ndarray.argmin),
}
FOLDS = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}
MADE |= {f"reduce_{name}": partial(_reduced, fold) for name, fold in FOLDS.items()}
MADE |= {f"cum{name}": partial(_cumulated, fold) for name, fold in FOLDS.items()}
