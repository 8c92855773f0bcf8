"""Reports on the use of every parameter in an evaluation, and the errors of a strict evaluation."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from zojax._direction import Adaptive, Direction
from zojax._trees import PyTree, Split, floats_only, structure_of
from zojax.implicit import _compat, _registry
from zojax.implicit._budget import Budget
from zojax.implicit._inputs import Inputs
from zojax.implicit._perturbed import Perturbed
from zojax.implicit._program import held_bytes, require_noise, run
from zojax.implicit._report import Event, Leaf, Report
from zojax.implicit._walk import Context


def explain(
    fun: Callable,
    params: PyTree,
    noise: Direction | PyTree,
    *args,
    hold_in_loops: bool | None = None,
    **kwargs,
) -> Report:
    """The use of each parameter in `evaluate(fun, params, noise, scale, *args, **kwargs)`.

    Nothing is computed, so arrays may be `jax.ShapeDtypeStruct`s. The printed report is a table of uses,
    sorted by bytes:

    - `part in use by ...`: one operation materialises this part while it reads it;
    - `HELD over a loop`: the same once before a loop, which keeps the copy (see `hold_in_loops`);
    - `vector for ...`: a vector, or a small part that is broadcast;
    - `NO RULE for ...`: materialised, because the primitive cannot use low-rank noise, or only moves the
      part (a pad, a carry, an output);
    - `looked up or broadcast`: materialised, of the size of activations;
    - `kept through ...`: these primitives keep the noise in its own form.

    Each row has the line of the function and, where there is one, a remedy. The last lines add up the parts
    that may be in memory together. They hold for any batch size.

    Args:
      fun: the function, as for `evaluate`.
      params: pytree of arrays.
      noise: a direction, adaptive or not, or the tree of `params` with a noise object, or None, at each
        leaf.
      *args, **kwargs: passed on to `fun`.
      hold_in_loops: as for `evaluate`.

    Returns:
      A `Report`: `leaves` by name, `missing` (uses without a rule); in bytes `largest_slice`, `together`,
      `held` and `factors`. `plot()` draws it.

    Raises:
      TypeError: for a `noise` that is neither, or a `hold_in_loops` that is no bool.

    >>> import jax, jax.numpy as jnp, zojax
    >>> params = {"w": jnp.ones((3, 4)), "b": jnp.ones(4)}
    >>> loss = lambda p, x: x @ p["w"] + p["b"]
    >>> report = zojax.implicit.explain(loss, params, zojax.directions.low_rank(), jnp.ones(3))
    >>> report.missing, report.largest_slice
    ([], 16)
    """
    if isinstance(noise, (Direction, Adaptive)):
        noise = _drawn(noise, lambda p: fun(p, *args, **kwargs), params)
    require_noise(noise)
    found = _Findings()
    context = Context(
        on_perturbed=found.perturbed,
        on_kept=found.kept,
        on_materialise=found.materialised,
        on_call=found.calls.append,
        on_evaluated=found.evaluated,
        held_bytes=held_bytes(hold_in_loops),
    )
    arrays, fill = _compat.partition((params, noise, args, kwargs), _has_shape)

    def evaluation(arrays):
        params, noise, args, kwargs = fill(arrays)
        return run(context, fun, params, noise, jnp.float32(1), args, kwargs)

    jax.eval_shape(evaluation, arrays)
    total = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params) if _has_shape(x))
    budget = found.budget
    return Report(found.leaves, total, budget.most(), budget.most(held=True), found.factors)


@dataclass
class _Findings:
    """What the interpreter reports: the uses of each leaf, and the budget; `calls` are being evaluated."""

    leaves: dict[str, Leaf] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    calls: list[JaxprEqn] = field(default_factory=list)
    factors: int = 0  # their bytes

    def perturbed(self, x: Perturbed) -> None:
        if x.is_factored:
            self.factors += sum(f.size * f.dtype.itemsize for f in x.factors)
        noise = "low rank" if x.is_factored else "dense"
        noise += "" if x.whole is None else (", masked" if x.join else ", stored")
        self.leaves[x.name] = Leaf(x.name, x.shape, str(x.base.dtype), noise)

    def kept(self, x: Perturbed, eqn: JaxprEqn) -> None:
        self._record("kept", x, eqn)

    def materialised(self, x: Perturbed, eqn: JaxprEqn | None, since: int) -> None:
        kind = _kind(x, eqn)
        self._record(kind, x, eqn)
        if kind != "activation":
            self.budget.add(x, since)

    def evaluated(self, eqn: JaxprEqn, now: int) -> None:
        if self.calls and self.calls[-1] is eqn:
            self.calls.pop()
        self.budget.evaluated(eqn, now)

    def _record(self, kind: str, x: Perturbed, eqn: JaxprEqn | None) -> None:
        # Equations inside of JAX's own functions have no line of the user's, but their calls have.
        eqns = [] if eqn is None else [eqn, *reversed(self.calls)]
        where = next(filter(None, map(_compat.source_line, eqns)), "")
        event = Event(kind, _name(eqn), where, x.base.shape, x.nbytes, _remedy(kind, x, eqn))
        events = self.leaves[x.name].events
        if event not in events:
            events.append(event)


def _has_shape(x) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _name(eqn: JaxprEqn | None) -> str:
    return "output" if eqn is None else eqn.primitive.name


def _drawn(direction: Direction | Adaptive, fun: Callable, params: PyTree) -> PyTree:
    """The shapes of one direction; of an adaptive one, that of a first step."""
    like, split = floats_only(structure_of(params)), Split.of(params)

    def draw(key, floats):
        of_step, number = direction, 1
        if isinstance(of_step, Adaptive):
            inputs = Inputs(lambda x: fun(split.join(split.places_in(x))), floats)
            of_step = of_step.of_step(of_step.init(like), key, floats, inputs)[1]
            number = 2  # some take pairs
        return of_step.draw(of_step.frame(key, number, like), 0, like)

    return jax.eval_shape(draw, jax.random.key(0), like)


def strict_context() -> Context:
    """Raises NotImplementedError at each use of kind "missing"."""

    def check(x: Perturbed, eqn: JaxprEqn | None, since: int) -> None:
        del since
        if _kind(x, eqn) != "missing":
            return
        where = "" if eqn is None else f" at {_compat.source_line(eqn)}"
        raise NotImplementedError(
            f"{x.name} (a view of shape {x.shape}) would be materialised by {_name(eqn)!r}{where}, which "
            'has no rule for its noise; use on_missing="materialise", a rule of your own '
            "(zojax.implicit.rule), or a direction without this parameter (zojax.directions.masked)."
        )

    return Context(on_materialise=check)


def _kind(x: Perturbed, eqn: JaxprEqn | None) -> str:
    known = _registry.lookup(_name(eqn))
    is_broadcast = (
        eqn is not None and known.broadcasts and _compat.output_type(eqn).size > x.base.size
    )
    if x.is_activation:
        return "activation"
    if x.is_vector or is_broadcast:
        return "elementwise"
    if x.is_factored or eqn is None or known.moves:
        return "missing"
    return "slice" if x.held_by is None else "held"


def _remedy(kind: str, x: Perturbed, eqn: JaxprEqn | None) -> str:
    """The call or argument of zojax that keeps the noise implicit."""
    if kind == "held":
        return "hold_in_loops=False, or directions.low_rank()"
    if kind == "missing":
        return f'implicit.rule("{_name(eqn)}")' if eqn is not None else ""
    keeps = _registry.lookup(_name(eqn)).rule is not None
    is_product = kind == "slice" and keeps and eqn is not None and not _registry.is_elementwise(eqn)
    return "directions.low_rank()" if is_product else ""
