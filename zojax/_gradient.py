"""Drop-ins for `jax.value_and_grad` and `jax.grad`: the key first, then the loss's own arguments."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np

from zojax._call import compiled_call
from zojax._checks import brief, require_flag
from zojax._estimator import Estimator
from zojax._estimator import estimator as make_estimator
from zojax._estimator.arguments import InAxes
from zojax._kept import Same, kept_with
from zojax._keys import as_key
from zojax._trees import PyTree, require_arrays, require_dtypes

P = ParamSpec("P")
Aux = TypeVar("Aux")
Key = int | jax.Array
Scalar = float | jax.Array | np.ndarray | np.generic
_DEFAULT = make_estimator()


def mean_aux(aux: PyTree) -> PyTree:
    """The mean of floats over evaluations, the leading axis; of counts, flags and keys the last."""

    def reduce(a):
        return jnp.mean(a, axis=0) if jnp.issubdtype(a.dtype, jnp.inexact) else a[-1]

    return jax.tree.map(reduce, aux)


@overload
def value_and_grad(
    fun: Callable[P, Scalar],
    estimator: Estimator | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: Literal[False] = False,
    reduce_aux: Callable[[PyTree], PyTree] | None = ...,
) -> Callable[Concatenate[Key, P], tuple[jax.Array, PyTree]]: ...


@overload
def value_and_grad(
    fun: Callable[P, tuple[Scalar, Aux]],
    estimator: Estimator | None = None,
    argnums: int | Sequence[int] = 0,
    *,
    has_aux: Literal[True],
    reduce_aux: Callable[[PyTree], PyTree] | None = ...,
) -> Callable[Concatenate[Key, P], tuple[tuple[jax.Array, Aux], PyTree]]: ...


@overload
def value_and_grad(
    fun: Callable[P, Any],
    estimator: Estimator | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    reduce_aux: Callable[[PyTree], PyTree] | None = ...,
) -> Callable[Concatenate[Key, P], tuple[Any, PyTree]]: ...


def value_and_grad(
    fun: Callable,
    estimator: Estimator | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    reduce_aux: Callable[[PyTree], PyTree] | None = mean_aux,
) -> Callable[..., tuple[Any, PyTree]]:
    """A function `(key, /, *args, **kwargs) -> (value, grads)` that never differentiates `fun`.

    Pass the key by position: a keyword `key=` goes to the loss.

    Args:
      fun: a traceable loss `fun(*args, **kwargs) -> scalar`, or `(scalar, aux)`.
      estimator: how to estimate; `zojax.estimator()` by default.
      argnums: the positional arguments to estimate the gradient of, as in `jax.grad`.
      has_aux: whether `fun` returns `(value, aux)`; the result is then `((value, aux), grads)`.
      reduce_aux: maps the aux of all evaluations, stacked on a leading axis, to the returned aux. The
        point x comes first if the stencil visits it, then each direction's points. By default the mean of
        floats and the last of anything else, so that dtypes stay; None returns the stack.

    Returns:
      The function. value: as in `Estimate`. grads: the structure, shapes and dtypes of the
      arguments; zeros for integer and bool leaves, None for keys. In float16 and float8 a larger entry
      is clipped to the range (65,504 in float16), and a norm of such gradients may overflow.
      `Estimator.estimate(..., dtype=jnp.float32)` clips nothing, and `Estimate.clipped` counts.

    Raises:
      TypeError, ValueError: a loss that is not a real scalar, no float leaf, argnums out of range,
        a schedule for mu (there is no step count here: use `zeroth_order`).

    Outside `jit` the call compiles once for each structure of the arguments and each value of static
    ones: pass an int that changes as `jnp.asarray(n)`. As under `jax.jit`, `fun` reads its globals and its
    closure when it is traced. A callable object, or a method's object, is traced again when one of its
    attributes changes.

    >>> import jax, jax.numpy as jnp, zojax
    >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
    >>> value, grads = zojax.value_and_grad(loss)(jax.random.key(0), jnp.ones(3), jnp.ones((4, 3)))
    >>> print(round(float(value), 2), grads.shape)
    9.0 (3,)
    """
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {fun!r}.")
    estimator = _DEFAULT if estimator is None else estimator
    if not isinstance(estimator, Estimator):
        raise TypeError(f"estimator must be a zojax.estimator(...), got {estimator!r}.")
    if estimator.scheduled:
        raise ValueError(
            "mu is a schedule, and value_and_grad has no step count: pass a number, "
            "or use zojax.zeroth_order."
        )
    require_flag("has_aux", has_aux)
    if reduce_aux is not None and not callable(reduce_aux):
        raise TypeError(f"reduce_aux must be a function of the aux or None, got {reduce_aux!r}.")
    numbers, single = _numbers(argnums)
    in_axes, slicing = Same(estimator.in_axes), Same(estimator.slicing)
    options = _Options(numbers, single, has_aux, in_axes, slicing, Same(reduce_aux))
    return partial(_estimated, fun, estimator, options)


def _estimated(fun: Callable, estimator: Estimator, options: "_Options", key, /, *args, **kwargs):
    for i in _places(options.numbers, len(args)):
        require_arrays(f"args[{i}]", args[i])
    require_dtypes("args", args)
    require_dtypes("kwargs", kwargs)
    # One program for all calls, so that `value_and_grad(fun, estimator)(...)` in a loop compiles once.
    return _compiled(estimator.estimate)(fun, options, as_key(key), args, kwargs)


@dataclass(frozen=True)
class _Options:
    """The arguments of `value_and_grad`; not a pytree, so that they are compared as a whole."""

    numbers: tuple[int, ...]
    single: bool
    has_aux: bool
    in_axes: Same
    slicing: Same
    reduce_aux: Same


def _evaluate(estimate: Callable[[], Callable], fun, options: _Options, key, args, kwargs):
    reduce_aux = options.reduce_aux.value
    places, single = _places(options.numbers, len(args)), options.single
    params = tuple(args[i] for i in places)
    # A single argument is not wrapped: masks and predicates see its own structure.
    params = params[0] if single else params
    rest = tuple(x for i, x in enumerate(args) if i not in places)

    def loss(params, *rest, **kwargs):
        params = (params,) if single else params
        return fun(*_merge(places, params, rest), **kwargs)

    out = estimate()(
        key,
        loss,
        params,
        rest,
        kwargs,
        has_aux=options.has_aux,
        in_axes=_reorder(options.in_axes.value, places, len(args)),
    )
    slicing = options.slicing.value(params)
    grads = out.grads if slicing is None else slicing.gathered(out.grads, params)
    if not options.has_aux:
        return out.value, grads
    aux = out.aux if reduce_aux is None else reduce_aux(out.aux)
    return (out.value, aux), grads


@kept_with
def _compiled(estimate: Callable[[], Callable]) -> Callable:
    return compiled_call(partial(_evaluate, estimate))


@overload
def grad(
    fun: Callable[P, Scalar],
    estimator: Estimator | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: Literal[False] = False,
    reduce_aux: Callable[[PyTree], PyTree] | None = ...,
) -> Callable[Concatenate[Key, P], PyTree]: ...


@overload
def grad(
    fun: Callable[P, tuple[Scalar, Aux]],
    estimator: Estimator | None = None,
    argnums: int | Sequence[int] = 0,
    *,
    has_aux: Literal[True],
    reduce_aux: Callable[[PyTree], PyTree] | None = ...,
) -> Callable[Concatenate[Key, P], tuple[PyTree, Aux]]: ...


@overload
def grad(
    fun: Callable[P, Any],
    estimator: Estimator | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    reduce_aux: Callable[[PyTree], PyTree] | None = ...,
) -> Callable[Concatenate[Key, P], Any]: ...


def grad(
    fun: Callable,
    estimator: Estimator | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    reduce_aux: Callable[[PyTree], PyTree] | None = mean_aux,
) -> Callable[..., Any]:
    """`value_and_grad` without the value: `(key, /, *args, **kwargs) -> grads`, or `(grads, aux)`.

    >>> import jax.numpy as jnp, zojax
    >>> estimator = zojax.estimator(zojax.directions.coordinate(), num_directions=2, mu=0.1)
    >>> grads = zojax.grad(lambda x: 3 * x[0] - x[1], estimator)(0, jnp.zeros(2))
    >>> bool(jnp.allclose(grads, jnp.array([3.0, -1.0]), atol=1e-5))
    True
    """
    return partial(_grad, value_and_grad(fun, estimator, argnums, has_aux, reduce_aux), has_aux)


def _grad(value_and_grad_fn: Callable, has_aux: bool, key, /, *args, **kwargs):
    value, grads = value_and_grad_fn(key, *args, **kwargs)
    return (grads, value[1]) if has_aux else grads


def _numbers(argnums) -> tuple[tuple[int, ...], bool]:
    """(argnums as a tuple of ints, whether it was a single int)."""
    single = not isinstance(argnums, Iterable)
    numbers = (argnums,) if single else tuple(argnums)
    for number in numbers:
        if not isinstance(number, (int, np.integer)) or isinstance(number, bool):
            raise TypeError(f"argnums must be an int or a sequence of ints, got {brief(argnums)}.")
    return tuple(map(int, numbers)), single


def _places(numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    for i in numbers:
        if not -count <= i < count:
            raise ValueError(
                f"argnums {numbers} is out of range for a loss called with {count} arguments."
            )
    places = tuple(i % count for i in numbers)
    if len(set(places)) < len(places):
        raise ValueError(f"argnums {numbers} names an argument twice.")
    return places


def _merge(places: tuple[int, ...], params: tuple, rest: tuple) -> list:
    chosen, others = dict(zip(places, params, strict=True)), iter(rest)
    return [chosen[i] if i in chosen else next(others) for i in range(len(params) + len(rest))]


def _reorder(in_axes: InAxes, places: tuple[int, ...], count: int) -> InAxes:
    """in_axes of the loss, reordered for (params, *rest)."""
    if not isinstance(in_axes, (tuple, list)):
        return in_axes
    in_axes = tuple(in_axes)
    if len(in_axes) != count or any(in_axes[i] is not None for i in places):
        raise ValueError(
            "in_axes must have one entry per positional argument of the loss, None for the "
            f"parameters; got {in_axes} for {count} arguments with argnums {places}."
        )
    return (None, *(axis for i, axis in enumerate(in_axes) if i not in places))
