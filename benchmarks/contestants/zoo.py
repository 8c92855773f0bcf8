"""A model of another package under zojax: values, peaks and times beside its own forwards, and `explain`.

One step is all of it, in one process, since many models and programs take part. The programs take turns.
"""

import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from optax.tree import random_like

from benchmarks import harness, summary, worker, works, zoo
from benchmarks.contestants import Host, Program, inference, once
from zojax import directions, implicit
from zojax._trees import floats_only, structure_of

KINDS = {"signs": directions.rademacher, "low rank": directions.low_rank}
MU, DRAWS, ROUNDS = 1e-2, 4, 3
# The compiler does not count the buffers of YNNPACK.
COUNTED = {"xla_cpu_experimental_ynn_fusion_type": ""}


def build(work):
    """Facts of a kind are its error, peaks, times and what `explain` says, or a failure."""
    model = zoo.make(work.model)
    programs = {"signs": _signs(works.work(model, 1))}
    programs["low rank"] = _low_rank(works.work(model, work.directions))

    def run():
        size = sum(x.size for x in jax.tree.leaves(floats_only(model.params)))
        found = {"about": zoo.about(work.model), "size": size}
        base, expected = at_materialised(model)
        for kind in KINDS:
            found[kind] = explained(model, kind)
            try:
                distance = jnp.max(jnp.abs(implicitly(model, kind) - expected[kind]))
                found[kind]["error"] = float(distance / jnp.max(jnp.abs(expected[kind] - base)))
                found[kind] |= beside_forward(programs[kind], works.work(model, 1))
            except Exception as failure:  # a row of the table says so
                found[kind]["failed"] = worker.reason_of(failure)
        return found

    return once(run)


# --- values -------------------------------------------------------------------------------------------


def at_materialised(model):
    """The loss at params, and for each kind the losses at params + mu * noise, built as arrays."""

    def losses(params):
        points = [jax.tree.map(lambda x: x[None], params)]
        for kind in KINDS:
            draw = _draw(kind, DRAWS, jax.random.key(1), params)
            points.append(lax.map(lambda i, draw=draw: _moved(params, draw(i)), jnp.arange(DRAWS)))
        stacked = jax.tree.map(lambda *xs: jnp.concatenate(xs), *points)
        return lax.map(lambda point: model.loss(point, **model.batch), stacked)

    base, *values = jax.jit(losses)(model.params)
    return base, dict(zip(KINDS, jnp.split(jnp.stack(values), len(KINDS)), strict=True))


def _moved(params, noise):
    """The arrays params + MU * noise."""
    leaves, treedef = jax.tree.flatten(params)
    pairs = zip(leaves, treedef.flatten_up_to(noise), strict=True)
    return treedef.unflatten([p if z is None else p + MU * z.dense() for p, z in pairs])


def implicitly(model, kind: str) -> jax.Array:
    """The same losses by zojax; low-rank directions side by side, since they share their products."""

    def losses(params):
        draw = _draw(kind, DRAWS, jax.random.key(1), params)
        one = lambda i: implicit.evaluate(model.loss, params, draw(i), MU, **model.batch)  # noqa: E731
        layout = jax.vmap if kind == "low rank" else partial(partial, lax.map)
        return layout(one)(jnp.arange(DRAWS))

    return jax.jit(losses)(model.params)


def _draw(kind: str, count: int, key, params):
    """`index -> noise`, of so many directions."""
    direction, like = KINDS[kind](), floats_only(structure_of(params))
    frame = direction.frame(key, count, like)
    return lambda index: direction.draw(frame, index, like)


def explained(model, kind: str) -> dict:
    """Each primitive that materialises a leaf for want of a rule, with the shapes that it reads; and the
    bytes of perturbed parts that may be in memory together."""
    report = implicit.explain(model.loss, model.params, KINDS[kind](), **model.batch)
    uses: dict[str, dict] = {}
    for _, event in report.missing:
        uses.setdefault(event.primitive, {})[event.shape] = None
    missing = [f"{name} {', '.join(map(str, shapes))}" for name, shapes in uses.items()]
    return {"no rule": missing, "together": report.together}


# --- peaks and times ----------------------------------------------------------------------------------


def _signs(work) -> dict[str, Program]:
    """A forward, at materialised parameters, and by zojax."""

    def at_materialised(params, key, batch):
        z = random_like(key, params)
        return work.loss(jax.tree.map(lambda p, u: p + MU * u, params, z), batch)

    def by_zojax(params, key, batch):
        noise = _draw("signs", 1, key, params)(0)
        return implicit.evaluate(work.loss, params, noise, MU, batch)

    made = {"naive": _program(at_materialised), "zojax": _program(by_zojax)}
    return {"forward": inference.build(work, "once")} | made


def _low_rank(work) -> dict[str, Program]:
    """All directions at once: plain forwards, at materialised parameters, and by zojax.

    Losses without a batch form run in a loop.
    """

    def at_materialised(params, key, batch):
        draw = _draw("low rank", work.evaluations, key, params)
        one = lambda i: work.loss(_moved(params, draw(i)), batch)  # noqa: E731
        return layout(one)(jnp.arange(work.evaluations))

    def by_zojax(params, key, batch):
        draw = _draw("low rank", work.evaluations, key, params)
        one = lambda i: implicit.evaluate(work.loss, params, draw(i), MU, batch)  # noqa: E731
        return jax.vmap(one)(jnp.arange(work.evaluations))

    forward, layout = inference.build(work, "vmapped"), jax.vmap
    try:
        jax.eval_shape(forward.step, jax.eval_shape(forward.start, work.params), work.batch)
    except NotImplementedError:
        forward, layout = inference.build(work, "inference"), partial(partial, lax.map)
    made = {"naive": _program(at_materialised), "zojax": _program(by_zojax)}
    return {"forward": forward} | made


def _program(evaluation) -> Program:
    """An evaluation with a new key at each step."""

    def step(carry, batch):
        params, key, _ = carry
        key, now = jax.random.split(key)
        return params, key, jnp.mean(evaluation(params, now, batch))

    return Program(step, lambda params: (params, jax.random.key(0), jnp.zeros(())))


def beside_forward(programs: dict[str, Program], work) -> dict:
    """Peaks of all programs in bytes, and the processor time of zojax's over that of the forward."""
    ready = {n: worker.compiled(p, work, True, options=COUNTED) for n, p in programs.items()}
    seconds = cpu_seconds({name: ready[name].step for name in ("forward", "zojax")}, ROUNDS)
    peaks = {name: one.peak for name, one in ready.items()}
    return {"peaks": peaks, "time": summary.ratio(seconds["zojax"], seconds["forward"])}


def cpu_seconds(steps: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of steps that take turns."""
    clock = Host(lambda: None, clock=time.process_time)
    timers = {
        name: partial(harness.often, partial(worker.timed, worker.Ready(step, clock)))
        for name, step in steps.items()
    }
    return harness.in_turn(timers, dict.fromkeys(timers, rounds))
