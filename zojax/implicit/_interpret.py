"""The interpreter: runs a traced function with some inputs perturbed."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from zojax._barriers import stored_once
from zojax._sharding import varying_axes, varying_like
from zojax._trees import PyTree
from zojax.implicit import _compat
from zojax.implicit._control import CONTROL
from zojax.implicit._perturbed import Perturbed, perturb
from zojax.implicit._rules import RULES, fallback

_ALL_RULES = RULES | CONTROL


@dataclass(frozen=True)
class Context:
    """One evaluation, and who is told of what it does with perturbed arrays."""

    on_perturbed: Callable[[Perturbed], None] = lambda perturbed: None
    on_kept: Callable[[Perturbed, Any], None] = lambda perturbed, eqn: None
    on_materialise: Callable[[Perturbed, Any], None] = lambda perturbed, eqn: None
    # id of an array: itself (which keeps the id its own), a time, and the array it is computed from
    # entry by entry, which exists by then.
    sources: dict = field(default_factory=dict)
    # What is not computed entry by entry, in order: noise that is beside no array waits for the last.
    milestones: list = field(default_factory=list)
    # id of a long vector: itself and the array that all its readers share. Noise of one is never made
    # inside of what reads it, so that to make it again would save no memory.
    vectors: dict = field(default_factory=dict)

    def kept(self, x, eqn) -> None:
        if isinstance(x, Perturbed):
            self.on_kept(x, eqn)

    def plain(self, x, eqn, beside=()):
        """`x` as an array, for `eqn` that cannot use its noise otherwise (None: as an output)."""
        if not isinstance(x, Perturbed):
            return x
        if id(x) in self.vectors:
            return self.vectors[id(x)][1]
        self.on_materialise(x, eqn)
        array = self.waiting(x, beside).materialise()
        if x.is_long_vector:
            self.vectors[id(x)] = x, array
        return array

    def stored(self, array):
        """`array`, which two products read: XLA would make arithmetic again for each, and store both."""
        source = self.source(array)[1]
        if source is array or not _is_computed(array) or not _is_computed(source):
            return array
        return stored_once(array, source)

    def waiting(self, x, beside):
        """`x`, whose noise waits for an array `beside` it, or before: XLA would make all noise at once."""
        if not isinstance(x, Perturbed):
            return x
        # An entry of the array itself would be computed apart, and parts of the array be stored for it.
        pairs = [(y, self.source(y)[1]) for y in beside if _is_computed(y)]
        arrays = [source if _is_computed(source) else y for y, source in pairs]
        arrays += self.milestones[-1:]
        # One that differs between devices where `x` does not would make `x` differ.
        array = next((y for y in arrays if varying_axes(y) <= varying_axes(x.base)), None)
        return x if array is None else x.after(array)

    def source(self, array) -> tuple[int, Any]:
        _, time, source = self.sources.get(id(array), (array, len(self.sources), array))
        return time, source

    def note(self, eqn, operands, outs) -> None:
        """Remembers what each output waits for: of an elementwise operation its latest source."""
        arrays = [x for x in operands if isinstance(x, jax.core.Tracer)]
        latest = None
        if arrays and _compat.is_elementwise(eqn):
            latest = max((self.source(x) for x in arrays), key=lambda source: source[0])
        for out in outs:
            if isinstance(out, jax.core.Tracer):
                time, source = latest or (len(self.sources), out)
                self.sources[id(out)] = out, time, source
                if _is_computed(out) and not _compat.is_elementwise(eqn):
                    self.milestones.append(out)

    def interpret(self, jaxpr, consts, args) -> list:
        """The outputs of `jaxpr`, arrays or perturbed arrays."""
        values = dict(zip(jaxpr.constvars, consts, strict=True))
        values |= dict(zip(jaxpr.invars, args, strict=True))

        def read(atom):
            return atom.val if isinstance(atom, Literal) else values[atom]

        for eqn in jaxpr.eqns:
            operands = [read(v) for v in eqn.invars]
            with _compat.context_of(eqn):
                if any(isinstance(x, Perturbed) for x in operands):
                    rule = _ALL_RULES.get(eqn.primitive.name, fallback)
                    outs = rule(self, eqn, *operands)
                else:
                    outs = _compat.bind(eqn, *operands)
            self.note(eqn, operands, outs)
            values.update(zip(eqn.outvars, outs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def interpret_body(self, eqn, jaxpr, consts, args) -> list[jax.Array]:
        """The outputs, as arrays, of a body that is traced apart: nothing made there is read outside."""
        inner = replace(self, vectors={}, milestones=[])
        return [inner.plain(x, eqn) for x in inner.interpret(jaxpr, consts, args)]


def _is_computed(x) -> bool:
    is_array = isinstance(x, jax.core.Tracer) and isinstance(jax.typeof(x), jax.core.ShapedArray)
    return is_array and x.size > 0 and jnp.issubdtype(x.dtype, jnp.floating)  # and no reference


def require_noise(noise: PyTree) -> None:
    """Raises TypeError for what is no tree of noise objects."""

    def is_noise(z):
        return hasattr(z, "dense")

    for z in jax.tree.leaves(noise, is_leaf=is_noise):
        if not is_noise(z):
            hint = "; did you forget to call the direction?" if callable(z) else "."
            raise TypeError(
                "noise must be a direction (of explain) or a tree of zojax.noise objects, "
                f"got a {type(z).__name__}{hint}"
            )


def run(context: Context, fun, params: PyTree, noise: PyTree, scale, args, kwargs):
    """fun(params + scale * noise, *args, **kwargs) under `context`."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(params)
    leaves = [leaf for _, leaf in paths]
    noises = treedef.flatten_up_to(noise)
    chosen = [i for i, z in enumerate(noises) if z is not None]
    # What is perturbed differs where the perturbation does, also to the trace.
    bases = [varying_like(jnp.asarray(leaves[i]), (noise, scale)) for i in chosen]
    other_outputs: dict[int, Any] = {}

    def traced(arrays):
        """Everything but the perturbed leaves is captured, and stays as static as it was."""
        filled = list(leaves)
        for i, array in zip(chosen, arrays, strict=True):
            filled[i] = array
        outs, structure = jax.tree.flatten(fun(treedef.unflatten(filled), *args, **kwargs))
        other_outputs.update({i: x for i, x in enumerate(outs) if not _compat.is_array(x)})
        return [x for x in outs if _compat.is_array(x)], structure

    closed, structure = _compat.trace(traced, bases)
    scale = jnp.asarray(scale)
    perturbed = [
        perturb(f"params{jax.tree_util.keystr(paths[i][0])}", base, scale, noises[i])
        for i, base in zip(chosen, bases, strict=True)
    ]
    for x in perturbed:
        context.on_perturbed(x)
    arrays = iter(context.interpret(closed.jaxpr, closed.consts, perturbed))
    count = structure.num_leaves
    outs = [
        other_outputs[i] if i in other_outputs else context.plain(next(arrays), None)
        for i in range(count)
    ]
    return structure.unflatten(outs)
