"""The interpreter: walks through a traced function, some of whose inputs are perturbed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from zojax._barriers import stored_once
from zojax._jaxpr import inner_jaxprs
from zojax._sharding import varying_axes
from zojax.implicit import _compat, _registry
from zojax.implicit._materialise import materialise
from zojax.implicit._perturbed import Perturbed

HELD_BYTES = 2**26  # of weights that a loop holds by default: copying them costs little memory


def _ignore(*_: Any) -> None:
    pass


class Known(NamedTuple):
    """What an evaluation knows beforehand of a program, see `Context.known_of`.

    Attributes:
      done: the numbers of equations that no perturbation reaches.
      values: their outputs.
      inner: by equation number, the same of a call, or of a loop `(first iteration, carry)`.
    """

    done: set[int]
    values: dict[Any, Any]
    inner: dict[int, Any]


@dataclass(frozen=True)
class Context:
    """One evaluation, as rules see it: they ask for arrays and report what they keep.

    Rules use `kept`, `plain`, `fallback`, `interpret` and `interpret_body`.
    """

    on_perturbed: Callable[[Perturbed], None] = _ignore
    on_kept: Callable[[Perturbed, Any], None] = _ignore
    # A perturbed array, its reader, and the array that its noise waits for, by its number in `sources`.
    on_materialise: Callable[[Perturbed, Any, int], None] = _ignore
    # A call, before its body.
    on_call: Callable[[JaxprEqn], None] = _ignore
    # An equation, and the number of its first output.
    on_evaluated: Callable[[JaxprEqn, int], None] = _ignore
    held_bytes: float = HELD_BYTES  # of weights that a loop may hold
    begun: int = -1  # the last array made before the current body
    is_body: bool = False  # of a loop or a branch
    is_low_rank: bool = False  # some noise, so that directions share products
    # id(array) -> (array, kept alive so that the id stays unique; creation order; the stored array from
    # which it derives elementwise; its equation and operands).
    sources: dict[int, tuple] = field(default_factory=dict)
    # id(array) -> an array that no perturbation reaches.
    fixed: dict[int, Any] = field(default_factory=dict)
    # Results of operations that XLA does not fuse, in order, which a perturbation reaches. Noise without
    # such a neighbour waits for the last.
    milestones: list[jax.Array] = field(default_factory=list)
    # id(long vector) -> (the vector, its array, which all readers share). No kernel makes the noise of a
    # long vector inside of its reader, so making it again would save no memory.
    vectors: dict[int, tuple] = field(default_factory=dict)
    # id(sum) -> (the sum, its terms): products, each an array of the size of the sum.
    sums: dict[int, tuple] = field(default_factory=dict)
    # Of the program or the loop that is evaluated.
    known: Any = None

    def kept(self, x, eqn: JaxprEqn) -> None:
        """Reports that `eqn` keeps the noise of `x` implicit."""
        if isinstance(x, Perturbed):
            self.on_kept(x, eqn)

    def plain(self, x, eqn: JaxprEqn | None, beside: Sequence = ()) -> jax.Array:
        """`x` as an array, for `eqn` (None: as an output), whose other operands are `beside`."""
        if not isinstance(x, Perturbed):
            return x
        if id(x) in self.vectors:
            return self.vectors[id(x)][1]
        awaited = self._awaited(x, beside)
        since = self.begun if awaited is None else self._source(awaited, self.begun)[0]
        self.on_materialise(x, eqn, since)
        array = materialise(x if awaited is None else x.after(awaited))
        if x.is_long_vector:
            self.vectors[id(x)] = x, array
        return array

    def unflat(self, x):
        """`x` as an array, if it is flat (`Perturbed.flat`)."""
        return self.plain(x, x.flat) if isinstance(x, Perturbed) and x.flat else x

    def fallback(self, eqn: JaxprEqn, *operands, beside: Sequence | None = None) -> list:
        """The outputs of `eqn` on materialised operands; noise waits for arrays `beside`, or for them."""
        arrays: dict[int, jax.Array] = {}  # by identity: both operands of x * x are one array
        for x in operands:
            if id(x) not in arrays:
                arrays[id(x)] = self.plain(x, eqn, beside=beside or operands)
        return _compat.bind(eqn, *(arrays[id(x)] for x in operands))

    def stored(self, array: jax.Array, order: Sequence[int] | None = None) -> jax.Array:
        """`array`, its axes in this order, for two products: without it XLA would repeat cheap arithmetic
        for each, and store both results."""
        source, eqn = self._source(array)[1], self.origin(array)[0]
        is_elementwise = eqn is not None and _registry.is_elementwise(eqn)
        moves = order is not None and [*order] != sorted(order)
        array = array if order is None else lax.transpose(array, tuple(order))
        if not (is_elementwise or moves) or not _is_computed(array) or not _is_computed(source):
            return array
        return stored_once(array, source)

    def waiting(self, x: Perturbed, beside: Sequence) -> Perturbed:
        """`x`, whose noise waits for an array beside it. XLA would otherwise make all noise at once."""
        awaited = self._awaited(x, beside)
        return x if awaited is None else x.after(awaited)

    def _awaited(self, x: Perturbed, beside: Sequence) -> jax.Array | None:
        # Wait for the stored source of a neighbour: an entry of the neighbour itself would be a second
        # computation, with parts of the array stored for it.
        pairs = [(y, self._source(y)[1]) for y in beside if _is_computed(y)]
        arrays = [source if _is_computed(source) else y for y, source in pairs]
        # The compiler may make early what no perturbation reaches.
        arrays += self.milestones[-1:]
        arrays.sort(key=self.is_fixed)
        # Under shard_map, an array that varies over more mesh axes than `x` would make `x` vary too.
        fits = (y for y in arrays if varying_axes(y) <= varying_axes(x.base))
        # A scale differs between offsets: else XLA would make a low-rank sum before the loop over them.
        return next(fits, x.scale if x.is_factored and not x.is_activation else None)

    def _source(self, array, unknown: int | None = None) -> tuple[int, Any]:
        """The creation order and the stored array from which `array` derives elementwise."""
        time = len(self.sources) if unknown is None else unknown
        return self.sources.get(id(array), (array, time, array))[1:3]

    def origin(self, array) -> tuple[JaxprEqn | None, Sequence]:
        """The equation that made an array, and its operands; (None, ()) if unknown."""
        return self.sources[id(array)][3:] if id(array) in self.sources else (None, ())

    def is_fixed(self, *operands) -> bool:
        """Whether arrays are known to be the same for all directions."""
        return all(
            id(x) in self.fixed if isinstance(x, jax.core.Tracer) else not isinstance(x, Perturbed)
            for x in operands
        )

    def made_by(self, x: Perturbed, eqn: JaxprEqn, operands: Sequence) -> None:
        """Records the origin of a perturbed result, which a rule may use in its place."""
        self.sources[id(x)] = x, *self._source(x), eqn, operands

    def _note(self, eqn: JaxprEqn, operands: Sequence, outs: Sequence) -> None:
        """Records the source of each output: of an elementwise operation, its latest source.

        Also of a concatenation, whose first entry is in its first part, and of a pad.
        """
        derives = _registry.is_elementwise(eqn) or eqn.primitive.name in ("concatenate", "pad")
        arrays = [x for x in operands if isinstance(x, jax.core.Tracer)]
        latest = None
        if arrays and derives:
            arrays = [x for x in arrays if not self.is_fixed(x)] or arrays
            latest = max((self._source(x) for x in arrays), key=lambda source: source[0])
        is_fixed = self.is_fixed(*operands)
        for out in outs:
            if isinstance(out, jax.core.Tracer):
                if is_fixed:
                    self.fixed[id(out)] = out
                time, source = latest or (len(self.sources), out)
                inner = self.origin(out)  # of an equation inside a call
                origin = (eqn, operands) if inner[0] is None else inner
                self.sources[id(out)] = out, time, source, *origin
                if _is_computed(out) and not derives and not is_fixed:
                    self.milestones.append(out)

    def interpret(self, jaxpr, consts: Sequence, args: Sequence) -> list:
        """The outputs of `jaxpr`, arrays or perturbed arrays."""
        values = dict(zip(jaxpr.constvars, consts, strict=True))
        self.fixed.update((id(x), x) for x in consts)
        values |= dict(zip(jaxpr.invars, args, strict=True))
        known = self.known or Known(set(), {}, {})
        values |= known.values
        for i, eqn in enumerate(jaxpr.eqns):
            if i in known.done:
                continue
            operands = [_compat.read(values, v) for v in eqn.invars]
            context = replace(self, known=known.inner.get(i)) if self.known else self
            with _compat.context_of(eqn):
                outs = context._evaluate(eqn, operands)
            self.on_evaluated(eqn, len(self.sources))
            self._note(eqn, operands, outs)
            values.update(zip(eqn.outvars, outs, strict=True))
        return [_compat.read(values, v) for v in jaxpr.outvars]

    def known_of(self, jaxpr, consts: Sequence, args: Sequence) -> Known:
        """The values that are the same at all points of a direction; a perturbed argument is unknown."""
        known = Known(set(), {}, {})
        values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
        for i, eqn in enumerate(jaxpr.eqns):
            operands = [_compat.read(values, v) for v in eqn.invars]
            values.update(dict.fromkeys(eqn.outvars))  # until they are known
            if not any(x is None or isinstance(x, Perturbed) for x in operands):
                with _compat.context_of(eqn):
                    outs = _compat.bind(eqn, *operands)
                known.done.add(i)
                new = dict(zip(eqn.outvars, outs, strict=True))
                known.values.update(new)
                values.update(new)
            elif (found := _registry.lookup(eqn.primitive.name).known) is not None:
                with _compat.context_of(eqn):
                    known.inner[i] = found(self, eqn, *operands)
        return known

    def _evaluate(self, eqn: JaxprEqn, operands: Sequence) -> Sequence:
        if not any(isinstance(x, Perturbed) for x in operands):
            if _keeps_most(eqn) and id(operands[0]) in self.sums:
                # XLA moves a slice into a product, but not past a sum: it would store product and slice.
                _, *terms = self.sums[id(operands[0])]
                first, *rest = (_compat.bind(eqn, term)[0] for term in terms)
                return [sum(rest, first)]
            rule = _registry.lookup(eqn.primitive.name).rule
            if rule is not None and _needs_rule(eqn):
                return rule(self, eqn, *operands)
            if eqn.primitive.name == "dot_general" and self.is_low_rank:
                # A perturbed weight may read the same activation as a fixed one: an adapter does.
                pairs = zip(operands, operands[::-1], strict=True)
                operands = [self.stored(x) if self.is_fixed(other) else x for x, other in pairs]
            return _compat.bind(eqn, *operands)
        known = _registry.lookup(eqn.primitive.name)
        if not known.flat:
            operands = [self.unflat(x) for x in operands]
        if known.rule is not None and not known.deferred:
            operands = [self._settled(x, eqn) for x in operands]
        if known.rule is None or not any(isinstance(x, Perturbed) for x in operands):
            return self.fallback(eqn, *operands)
        return known.rule(self, eqn, *operands)

    def _settled(self, x, eqn: JaxprEqn):
        """`x` without multipliers and squares."""
        if not isinstance(x, Perturbed) or not (x.multipliers or x.is_squared):
            return x
        folded = None if x.is_squared else x.folded()
        return self.plain(x, eqn) if folded is None else folded

    def interpret_body(
        self, eqn: JaxprEqn, jaxpr, consts: Sequence, args: Sequence, changing: Sequence = ()
    ) -> list[jax.Array]:
        """The outputs, as arrays, of a body with a trace of its own, from which no array escapes.

        `changing` are arrays that change in each iteration. Noise without a neighbour waits for one.
        """
        milestones = [x for x in changing if _is_computed(x)][:1]
        begun = len(self.sources) - 1
        inner = replace(
            self, vectors={}, milestones=milestones, begun=begun, known=None, is_body=True
        )
        for x in args:  # older than all that the body computes
            if isinstance(x, jax.core.Tracer):
                self.sources.setdefault(id(x), (x, len(self.sources), x, None, ()))
        return [inner.plain(x, eqn) for x in inner.interpret(jaxpr, consts, args)]


def _needs_rule(eqn: JaxprEqn) -> bool:
    """Whether JAX cannot batch the equation, or one inside of it."""
    if _registry.lookup(eqn.primitive.name).batches:
        return True
    return any(_needs_rule(inner) for program in inner_jaxprs(eqn) for inner in program.eqns)


def _keeps_most(eqn: JaxprEqn) -> bool:
    """Whether this is a slice with most entries of its operand."""
    is_slice = eqn.primitive.name == "slice"
    return is_slice and 2 * _compat.output_type(eqn).size > _compat.operand_type(eqn).size


def _is_computed(x) -> bool:
    is_array = isinstance(x, jax.core.Tracer) and isinstance(jax.typeof(x), jax.core.ShapedArray)
    return is_array and x.size > 0 and jnp.issubdtype(x.dtype, jnp.floating)  # and no reference
