"""`search.minimize`: a whole search in one call, compiled where JAX can trace the function."""

import inspect
import math
import re
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._call import kept_with
from zojax._checks import require_count, require_flag, require_number
from zojax._failures import as_catch
from zojax._keys import as_key
from zojax._progress import progress_bar
from zojax._trees import PyTree
from zojax.search._algorithm import Algorithm, float_dtype
from zojax.search._device import on_device, type_of_values
from zojax.search._host import on_host
from zojax.search._once import OnceState, is_listed, never_twice
from zojax.search._pending import is_shut_down
from zojax.search._task import Clock, Outcome, Problem, Task, reserved
from zojax.search.asracos import asracos
from zojax.search.default import default_algorithm
from zojax.search.domains import X64
from zojax.search.spaces import Space
from zojax.search.spaces import space as as_space

LARGEST_BUDGET = 2**30  # so that int32 counts evaluations, and a batch more


@jax.tree_util.register_pytree_node_class
class History:
    """Every evaluation of a run, in order.

    Attributes:
      values: (evaluations,) float64, inf where an evaluation failed (-inf when maximizing).
      best_values: (evaluations,) float64, the best value so far.
      points: the user's pytree with a leading axis of evaluations, or None beyond 2^26 numbers.
    """

    def __init__(self, values: np.ndarray, best_values: np.ndarray, points: PyTree):
        self.values, self.best_values = values, best_values
        self._points = points

    @property
    def points(self) -> PyTree:
        # Decoded when they are read: in many coordinates that takes longer than the search.
        if isinstance(self._points, _Encoded):
            self._points = self._points.space.point(self._points.rows)
        return self._points

    def __repr__(self) -> str:
        return f"History(values={self.values}, best_values={self.best_values}, points=...)"

    def __getstate__(self) -> dict:
        return {"values": self.values, "best_values": self.best_values, "_points": self.points}

    def tree_flatten(self):
        return (self.values, self.best_values, self.points), None

    @classmethod
    def tree_unflatten(cls, aux, children) -> "History":
        return cls(*children)


class _Encoded:
    """Points of a history that nobody has read yet."""

    def __init__(self, space: Space, rows: np.ndarray):
        # Not a view of a run that had room for much more, or of all runs.
        whole = rows.base if isinstance(rows.base, np.ndarray) else rows
        self.space, self.rows = space, rows if whole.nbytes <= 2 * rows.nbytes else rows.copy()


class SearchResult(NamedTuple):
    """What a search found and what it took; of several runs, the best one.

    Attributes:
      best: the best point, as the user's pytree.
      best_value: its value. Of a noisy search, the mean of fresh evaluations of `best`.
      best_error: the standard error of that mean. None where nothing said that values are noisy; nan where
        the search ended without these evaluations, and `best_value` is what the algorithm believes.
      history: of the best run.
      evaluations: of all runs together; points of `init_values` are not counted.
      failures: evaluations that raised or were not finite.
      message: why the search ended.
      run_values: (repeats,) the best value of each run; fewer where the search was stopped before. With
        noise their least, `best_value`, is somewhat too good.
      state: the algorithm's last state (with a leading axis of runs when repeats > 1).
    """

    best: PyTree
    best_value: float
    best_error: float | None
    history: History
    evaluations: int
    failures: int
    message: str
    run_values: np.ndarray
    state: Any

    def __str__(self) -> str:
        failed = f" ({self.failures} failed)" if self.failures else ""
        ended = f"{self.evaluations} evaluations{failed}: {self.message}"
        error = "" if self.best_error is None else f" +- {self.best_error:.2g}"
        return f"best value {self.best_value:.6g}{error} at {self.best}\n{ended}"

    def plot(self, ax=None):
        """Draws values and the best so far against evaluations (needs matplotlib); returns the axes."""
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("plot() needs matplotlib: pip install matplotlib.") from error
        ax = plt.subplots(figsize=(6, 4))[1] if ax is None else ax
        count = np.arange(1, len(self.history.values) + 1)
        ax.plot(count, self.history.values, ".", ms=2, alpha=0.4, label="value")
        ax.step(count, self.history.best_values, where="post", label="best so far")
        shown = self.history.values[np.isfinite(self.history.values)]
        if len(shown) and shown.min() > 0 and shown.max() > 100 * shown.min():
            ax.set_yscale("log")
        ax.set(xlabel="evaluations", ylabel="value", title=f"best {self.best_value:.6g}")
        ax.legend(frameon=False)
        return ax


class SearchProgress(NamedTuple):
    """What a callback sees.

    Attributes:
      evaluations: of each run so far.
      best: the best point so far, as the user's pytree.
      best_value: its value, which luck makes too good where values are noisy.
    """

    evaluations: int
    best: PyTree
    best_value: float


def minimize(
    fun: Callable,
    space: PyTree,
    algorithm: Algorithm | None = None,
    *,
    budget: int,
    key: int | jax.Array,
    args: tuple = (),
    init_points: list | None = None,
    init_values: list | None = None,
    target: float | None = None,
    patience: int | None = None,
    time_budget: float | None = None,
    maximize: bool = False,
    repeats: int = 1,
    jit: bool | None = None,
    with_key: bool = False,
    executor: Executor | None = None,
    catch: tuple[type[Exception], ...] = (),
    callback: Callable[[SearchProgress], Any] | None = None,
    progress: bool = False,
) -> SearchResult:
    """Searches a space for the point where `fun` is least, within `budget` evaluations.

    A function that JAX can trace runs with the algorithm inside one compiled program; any other is called
    on the host, one point at a time, or as many at once as the algorithm keeps in flight
    (`search.asracos`) when an executor is given.

    An evaluation that is not finite, or raises on the host, counts as inf and is reported. It does not end
    the search, unless the first 10 evaluations (or all of fewer) raise the same type of exception or return
    no number: then that exception is raised. Pass `catch` for exceptions that belong to the function.

    A keyboard interrupt ends the search and returns the result so far. So does an executor that breaks, is
    shut down or cancels an evaluation. Any other exception, such as a callback's, is raised with an
    attribute `partial_result`, the `SearchResult` so far. A compiled search notices an interrupt where it
    has a callback, a bar or a time budget, and else loses the run that was going on.

    As under `jax.jit`, what a traced function reads besides its arguments (globals, closures) is read when
    it is traced, and not again in later searches with the same function: pass in `args` what changes.
    Methods and callable objects are traced anew by every call. A function that is not the same program
    when it is traced twice (it draws from a generator of Python's or NumPy's, reads a clock, counts its
    calls), or has arguments that are no arrays, is called on the host.

    No point of a finite space is evaluated twice, as far as a short search for another one goes, unless
    the algorithm is one for noisy functions or `with_key` is given: pass one of these where values are
    noisy. A space of up to 65,536 points ends when all of them were evaluated.

    A search counts as noisy with `with_key`, or with an algorithm for noisy functions (`snes`, `ssracos`,
    `resample`, `ponss`). From a budget of 100 on, such a search keeps 1 in 64 evaluations, 4 at least, to
    evaluate the recommended point: `best_value` is their mean, `best_error` its standard error. With any
    other algorithm a noisy function without a key is taken for one without noise.

    Algorithms are told float32 values unless x64 is enabled: subtract a large constant that they share.
    Integers of a compiled function have 32 bits then, and overflow silently. Where its values are integers,
    the best point is evaluated once more, on the host, and a warning says if the value differs: multiply
    as floats (`1.0 * n`).

    Args:
      fun: (point, *args) -> scalar. Host functions get Python scalars, options and NumPy arrays (float64).
      space: a pytree of domains (`search.uniform`, ...) or a `search.Space`.
      algorithm: `search.sracos()`, ...; if left out, `search.default_algorithm(space, budget)`, or
        `search.asracos()` where an executor is given.
      budget: evaluations of a run at most, those of `init_points` without values included.
      key: an int or a JAX key.
      args: further arguments of `fun`, a tuple; arrays or pytrees of them where it is traced.
      init_points: points to start from, each as the user's pytree.
      init_values: their values, if known already; they cost no evaluations.
      target: end a run once its best value is at least as good as this.
      patience: end a run after so many evaluations without improvement.
      time_budget: seconds after which the search ends; compiling counts. Evaluations that an executor has
        not finished by then are left behind.
      maximize: search for the largest value instead.
      repeats: independent runs, side by side in one program when compiled.
      jit: whether to trace `fun`; tried by default, with two calls beside the budget whose argument holds
        tracers: pass False where a call costs or has side effects. A traced function runs no Python per
        evaluation.
      with_key: call `fun(point, *args, key=key)`, a key of its own for every evaluation.
      executor: of `concurrent.futures`, for host functions; processes, threads, or a cluster's.
      catch: exception types that count as failed evaluations however often they are raised, on the host.
      callback: called with a `SearchProgress` some 100 times a run (host functions: after every
        evaluation); a true result ends the search, with all its runs.
      progress: show a bar (needs tqdm).

    Returns:
      A `SearchResult`.

    Raises:
      ValueError: a bad argument, with its name, its value and the remedy.
      TypeError: an argument of the wrong type; a space that holds something else than domains.
      KeyboardInterrupt: one that came before any evaluation was done.
      Exception: that of a callback, or of `fun` where all of its first 10 evaluations raised one like it.

    >>> from zojax import search
    >>> space = {"x": search.uniform(-5, 5), "kind": search.choice([1, 2, 3])}
    >>> result = search.minimize(lambda p: (p["x"] - p["kind"]) ** 2 + p["kind"], space,
    ...                          budget=300, key=0)
    >>> result.best["kind"], round(result.best["x"], 2), result.evaluations
    (1, 1.0, 300)
    """
    budget, repeats = require_count("budget", budget), require_count("repeats", repeats)
    if budget > LARGEST_BUDGET:
        raise ValueError(
            f"budget must be at most 2^30, got {budget}: time_budget or patience end a run before."
        )
    space = as_space(space)
    _require_no_tracers(key, args, init_points, init_values)
    key = as_key(key)
    _require_callables(fun, executor, callback)
    catch = as_catch(catch)
    for name, flag in (("maximize", maximize), ("with_key", with_key), ("progress", progress)):
        require_flag(name, flag)
    _require_numbers(target, patience, time_budget)
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args must be a tuple of further arguments of fun, got {args!r}.")
    sign = -1.0 if maximize else 1.0
    points = _require_list("init_points", init_points)
    known_x = _encoded(space, points)
    known_values = _known_values(init_values, len(points), sign)
    algorithm = _chosen(algorithm, space, budget, executor)
    if known_values is None and len(points) * algorithm.samples > budget:
        times = "" if algorithm.samples == 1 else f", {algorithm.samples} times each"
        raise ValueError(
            f"budget must cover the {len(points)} init_points{times}, got {budget}; "
            "pass their init_values if they are known."
        )
    # With a key, or an algorithm that repeats points, the value of a point is not known after one look.
    once = algorithm if with_key else never_twice(algorithm, space, budget)
    # Every point that is not known already, and those that were given for evaluation, each time.
    enough = space.size - len(np.unique(known_x, axis=0))
    enough += len(points) if known_values is None else 0
    exhausts = once is not algorithm and is_listed(space, budget) and enough <= budget
    jit = _is_compiled(jit, executor, fun, space, args, with_key)
    is_noisy = with_key or algorithm.repeats_points
    reserve = reserved(algorithm, budget, len(points)) if is_noisy else 0
    problem = Problem(
        fun=_traced_anew(fun) if jit else fun,
        space=space,
        algorithm=once,
        budget=int(enough) if exhausts else budget - reserve,
        runs=repeats,
        sign=sign,
        with_key=with_key,
    )
    clock = None if time_budget is None else Clock(time_budget, time.monotonic() + time_budget)
    with _Reporter(problem, callback, progress and problem.budget + reserve, clock) as report:
        task = Task(
            problem=problem,
            key=key,
            args=args,
            known_x=known_x,
            known_values=known_values,
            target=None if target is None else sign * target,
            patience=patience,
            report=report if report.is_wanted else None,
            clock=clock,
            reserve=reserve,
            catch=catch,
        )
        outcome = on_device(task) if jit else on_host(task, executor)
    if exhausts and outcome.message == "budget spent":
        outcome = outcome._replace(message=f"space exhausted: it has {space.size} points")
    result = _result(problem, outcome)
    if outcome.raised is not None:
        outcome.raised.partial_result = result
        raise outcome.raised
    if jit and not with_key:
        _warn_of_overflow(problem, args, result)
    return result


def _result(problem: Problem, outcome: Outcome) -> SearchResult:
    space, sign = problem.space, problem.sign
    best = int(np.argmin(outcome.value))
    values = outcome.values[best]
    evaluations = sum(len(v) for v in outcome.values)
    failures = sum(int(np.sum(~np.isfinite(v))) for v in outcome.values)
    message = outcome.message
    if failures == evaluations > 0:
        message += "; no evaluation succeeded"
        message += f": {outcome.failure}" if outcome.failure else ""
    return SearchResult(
        best=space.point(outcome.x[best]),
        best_value=float(sign * outcome.value[best]),
        best_error=None if outcome.value_error is None else float(outcome.value_error[best]),
        history=History(
            values=sign * values,
            best_values=sign * np.minimum.accumulate(values),
            points=None if outcome.points is None else _Encoded(space, outcome.points[best]),
        ),
        evaluations=evaluations,
        failures=failures,
        message=message,
        run_values=sign * outcome.value,
        state=outcome.state.inner if isinstance(outcome.state, OnceState) else outcome.state,
    )


def _warn_of_overflow(problem: Problem, args, result: SearchResult) -> None:
    """Warns where the best value is an integer that is another one without the limits of 32 bits."""
    best, value = result.best, result.best_value
    if not value.is_integer() or value not in result.history.values:  # a known value, or none
        return
    dtype = type_of_values(problem, args)
    if not jnp.issubdtype(dtype, jnp.integer) or dtype.itemsize == 8:
        return
    try:
        with jax.enable_x64(True):
            exact = np.asarray(problem.fun(best, *args)).item()
    except ArithmeticError as error:  # Python's integers are not divided by 0
        exact = repr(error)
    except Exception:  # written for JAX's arrays alone
        return
    if isinstance(exact, str) or not math.isclose(exact, value, rel_tol=1e-6):
        warnings.warn(
            f"at {best} the compiled fun returned {value:.0f}, in integers of 32 bits, and on the host, in "
            f"wider ones, {exact}: multiply as floats (1.0 * n), pass jit=False, or {X64}.",
            stacklevel=3,
        )


class _Reporter:
    """Tells callback and bar (of so many evaluations) how a search goes, and whether its time is over."""

    def __init__(self, problem: Problem, callback, bar: int, clock: Clock | None):
        self.problem, self.callback, self.clock = problem, callback, clock
        self.bar = progress_bar(bar, "evaluation") if bar else None
        self.is_wanted = bar > 0 or callback is not None or clock is not None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def __call__(self, evaluations: int, x: np.ndarray, value: float) -> str | None:
        value = self.problem.sign * value
        if self.bar is not None:
            self.bar.set_postfix(best=f"{value:.6g}", refresh=False)
            self.bar.update(evaluations - self.bar.n)
        if self.callback is not None:
            if self.callback(SearchProgress(evaluations, self.problem.space.point(x), value)):
                return "stopped by callback"
        return None if self.clock is None else self.clock.why_stop()


def _chosen(algorithm, space: Space, budget: int, executor) -> Algorithm:
    """The user's algorithm, or what to use without one."""
    if algorithm is None:
        algorithm = default_algorithm(space, budget) if executor is None else asracos()
    if not isinstance(algorithm, Algorithm):
        raise TypeError(
            f"algorithm must be one of zojax.search, such as sracos(), got {algorithm!r}."
        )
    if executor is not None and algorithm.batch_size * algorithm.in_flight == 1:
        warnings.warn(
            "executor has one evaluation to run at a time: this algorithm waits for each value. "
            "Pass search.asracos(in_flight=...), or one with batches, such as search.random_search(8).",
            stacklevel=3,
        )
    return algorithm


def _is_compiled(jit, executor, fun: Callable, space: Space, args, with_key: bool) -> bool:
    """Whether the search is to be one program, as the user says or as `fun` allows."""
    if jit is None:
        jit = executor is None and _is_traceable(fun, space, args, with_key)
    require_flag("jit", jit)
    if jit and executor is not None:
        raise ValueError("executor is for functions on the host: pass jit=False with it.")
    if jit:
        _require_arrays(args)
    return jit


@kept_with
def _found(fun: Callable[[], Callable]) -> dict:
    """Where `_is_traceable` remembers what it tried with a function."""
    return {}


def _is_traceable(fun: Callable, space: Space, args: tuple, with_key: bool) -> bool:
    """Whether `_try_to_trace` succeeds, tried once for a function, a space and types of args."""
    if _traced_anew(fun) is not fun:
        return _try_to_trace(fun, space, args, with_key)
    try:
        leaves, treedef = jax.tree.flatten(args)
        types = tuple((type(x), jnp.shape(x), jnp.result_type(x)) for x in leaves)
        found, tried = _found(fun), (space, with_key, float_dtype(), treedef, types)
        if tried not in found:
            found[tried] = _try_to_trace(fun, space, args, with_key)
    except TypeError:  # args that are no arrays, a function or a space that cannot be remembered
        return _try_to_trace(fun, space, args, with_key)
    return found[tried]


def _try_to_trace(fun: Callable, space: Space, args: tuple, with_key: bool) -> bool:
    """Whether JAX can trace `fun` at a point of the space, and its value depends on the point.

    Traced twice: what differs, such as a draw from a generator of Python's or NumPy's, a clock or a
    counter, would be a constant of the program.
    """
    if not all(d.traceable for d in space.domains):
        return False

    def attempt(x, args, key):
        value = fun(space.decode(x), *args, **({"key": key} if with_key else {}))
        is_number = jnp.shape(value) == () and not jnp.iscomplexobj(value)
        if not (isinstance(value, jax.core.Tracer) and is_number):
            raise TypeError("the value is no number that depends on the point")
        return value

    def traced():
        # A new function each time, which JAX does not find in its caches.
        program = jax.make_jaxpr(lambda *inputs: attempt(*inputs))
        return program(space.low.astype(float_dtype()), args, as_key(0))

    try:
        return _is_same(traced(), traced())
    except Exception:  # whatever it was: called on the host it shows, and counts as a failure
        return False


def _is_same(first, second) -> bool:
    """Whether two programs are equal, but for the addresses of Python's objects."""
    texts = [re.sub(r"0x[0-9a-f]+", "", str(program.jaxpr)) for program in (first, second)]
    return texts[0] == texts[1] and all(map(_is_equal, first.consts, second.consts))


def _is_equal(a, b) -> bool:
    """Whether two constants of programs are."""
    if a is b:  # the user's own array, which may be large
        return True
    if jnp.issubdtype(jnp.result_type(a), jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _traced_anew(fun: Callable) -> Callable:
    """`fun`; where it belongs to an object, which may change between searches, a new function each time."""
    return partial(fun) if inspect.ismethod(fun) or inspect.ismethod(fun.__call__) else fun


def _require_no_tracers(*inputs) -> None:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(inputs)):
        raise TypeError(
            "minimize cannot be called inside jax.jit, jax.vmap or another transformation: pass repeats= "
            "for several runs, or write the loop by hand, with the algorithm's init, ask and tell."
        )


def _require_callables(fun, executor, callback) -> None:
    if not callable(fun):
        raise TypeError(f"fun must be a function of a point, got {fun!r}.")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of a SearchProgress, got {callback!r}.")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(
            "executor must be one of concurrent.futures, such as ThreadPoolExecutor(4), "
            f"got {executor!r}."
        )
    if is_shut_down(executor):
        raise ValueError(
            f"executor must take evaluations, got {executor!r}, which was shut down: keep it open "
            "until the search returns."
        )


def _require_numbers(target, patience, time_budget) -> None:
    for name, value in (("target", target), ("time_budget", time_budget)):
        if value is None:
            continue
        require_number(name, value)
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}; leave it out to have none.")
    if time_budget is not None and time_budget <= 0:
        raise ValueError(f"time_budget must be positive seconds, got {time_budget}.")
    if patience is not None:
        require_count("patience", patience, most=math.inf)


def _require_list(name: str, value) -> list:
    """A list, tuple or array as a list; None is empty."""
    if value is None:
        return []
    is_list = isinstance(value, (list, tuple, np.ndarray, jax.Array))
    if not is_list or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name} must be a list, one entry a point, got {value!r}.")
    return list(value)


def _encoded(space: Space, points: list) -> np.ndarray:
    """The init_points as rows."""
    rows = np.zeros((len(points), space.dimension))
    for i, point in enumerate(points):
        try:
            rows[i] = space.encode(point)
        except (TypeError, ValueError) as error:
            error.add_note(f"This is init_points[{i}].")
            raise
    return rows


def _known_values(init_values, count: int, sign: float) -> np.ndarray | None:
    """What `minimize` is to know already, lower is better; failures are inf."""
    if init_values is None:
        return None
    values = _require_list("init_values", init_values)
    if len(values) != count:
        raise ValueError(
            f"init_values must hold one value for each of the {count} init_points, "
            f"got {len(values)}."
        )
    try:
        values = sign * np.reshape(np.asarray(values, float), count)
    except (TypeError, ValueError) as error:
        raise TypeError(f"init_values must be numbers, got {init_values!r}.") from error
    return np.where(np.isfinite(values), values, np.inf)


def _require_arrays(args) -> None:
    for leaf in jax.tree.leaves(args):
        try:
            jnp.result_type(leaf)
        except TypeError as error:
            raise TypeError(
                f"args of a traced function must be arrays, got {leaf!r}: pass jit=False, or bind it, "
                "functools.partial(fun, ...)."
            ) from error
