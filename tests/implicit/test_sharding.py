"""Meshes of four host devices, each in its own process: shard_map, explicit and automatic axes."""

import subprocess
import sys

import pytest

from tests.directions._laws import ADAPTIVE, LAWS

START = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
import jax, jax.numpy as jnp, numpy as np, optax, zojax
from jax.sharding import AxisType, PartitionSpec as P
"""
SHARD_MAP = """
from tests.implicit._helpers import close, materialised, noises, normal
from zojax.implicit import evaluate, explain

mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
x = normal(0, (6, 16))


def columns(w, x):
    return jax.lax.psum(jnp.tanh(x @ w) @ w.T, "b")


def rows(w, x):
    return jnp.tanh(jax.lax.psum(x @ w, "b"))


def gathered(w, x):
    return x @ jax.lax.all_gather(w, "b", axis=0, tiled=True)


def elementwise(w, x):
    return x @ jnp.sin(w)


CASES = {
    "columns": (columns, P(None, "b"), P("a", None)),
    "rows": (rows, P("b"), P("a", "b")),
    "gathered": (gathered, P("b", None), P("a", None)),
    "elementwise": (elementwise, P(), P("a")),
}
for name, (fun, w_spec, x_spec) in CASES.items():
    check_vma = name != "gathered"  # equal on all of b, but JAX cannot prove it
    run = jax.shard_map(
        fun, mesh=mesh, in_specs=(w_spec, x_spec), out_specs=P("a"), check_vma=check_vma
    )
    w, kinds = normal(1, (16, 32)), noises((16, 32), 1)

    @jax.jit
    def both(w, s):
        implicit = {k: evaluate(run, w, z, s, x) for k, z in kinds.items()}
        return implicit, {k: run(materialised(w, z, s), x) for k, z in kinds.items()}

    close(*both(w, 0.1), 1e-5)
    for kind, z in kinds.items():
        events = explain(run, w, z, x).leaves["params"].events
        kept = [e.primitive for e in events if e.kind == "kept"]
        served = "low_rank" in kind and name != "elementwise"
        assert ("dot_general" in kept) == served, (name, kind)
        missing = any(e.kind == "missing" for e in events)
        assert missing == ("low_rank" in kind and not served), (name, kind)
"""
# Two carries: one differs between devices, the other does not.
CARRIES = """
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
w, x = jnp.cos(jnp.arange(8.0)), jnp.sin(jnp.arange(32.0)).reshape(4, 8)


def scan(step, carry):
    return jax.lax.scan(lambda carry, _: (step(carry), None), carry, length=3)[0]


def while_loop(step, carry):
    test, body = lambda carry: carry[0] < 3, lambda carry: (carry[0] + 1, step(carry[1]))
    return jax.lax.while_loop(test, body, (0, carry))[1]


for loop in (scan, while_loop):
    def body(w, x):
        h, r = loop(lambda carry: (carry[0] * w, carry[1] + jnp.sum(w**2)), (x, 0.0))
        return jax.lax.pmean(jnp.sum(h), "d") + r

    loss = jax.jit(jax.shard_map(body, mesh=mesh, in_specs=(P(), P("d")), out_specs=P()))
    for direction in (zojax.directions.rademacher(), zojax.directions.low_rank()):
        source = zojax.estimator(direction, num_directions=2, mu=0.1)
        points, asked = source.ask(0, w)
        expected = source.tell(asked, jnp.stack([loss(point, x) for point in points]))
        _, actual = jax.jit(lambda w, x: zojax.value_and_grad(loss, source)(0, w, x))(w, x)
        np.testing.assert_allclose(actual, expected, rtol=1e-3)
"""
# A float16 leaf, sharded over devices; and one on each device, each with its own key.
HALF = """
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
w = jnp.ones(8, jnp.float16)


def steps(tx, state, w, value):
    def step(carry, _):
        w, state = carry
        updates, state = tx.update(None, state, w, value_fn=value)
        return (optax.apply_updates(w, updates), state), None

    return jax.lax.scan(step, (w, state), length=3)[0]


def parts(w):
    value = lambda w: 1e6 * jax.lax.psum(jnp.sum(w.astype(jnp.float32) ** 2), "d")
    return steps(tx, tx.init(w), w, value)[1].estimator_state.clipped


tx = zojax.zeroth_order(optax.sgd(1e-9), zojax.estimator(zojax.directions.normal(), mu=0.5))
clipped = jax.jit(jax.shard_map(parts, mesh=mesh, in_specs=P("d"), out_specs=P()))(w)
assert 3 < clipped <= 24, clipped


def island(key, w):
    tx = zojax.zeroth_order(optax.sgd(1e-9), zojax.estimator(mu=0.5), key[0])
    _, state = tx.update(None, tx.init(w), w, value_fn=lambda w: 1e6 * w[0].astype(jnp.float32))
    return state.estimator_state.clipped[None]


run = jax.shard_map(island, mesh=mesh, in_specs=(P("d"), P()), out_specs=P("d"))
assert jax.jit(run)(jax.random.split(jax.random.key(0), 4), w).tolist() == [8] * 4
"""
# A key for every device, parameters and data for all.
ISLANDS = """
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
x, w = jnp.sin(jnp.arange(128.0)).reshape(16, 8), jnp.cos(jnp.arange(32.0)).reshape(8, 4)
keys = jax.random.split(jax.random.key(0), 4)
of = zojax.directions
for direction in (of.rademacher(), of.coordinate(), of.hadamard(), of.low_rank()):
    for n in (1, 2):
        source = zojax.estimator(direction, num_directions=n, mu=0.1)

        def update(key):
            tx = zojax.zeroth_order(optax.sgd(0.1, momentum=0.9), source, key)
            updates, _ = tx.update(
                None, tx.init(w), w, value_fn=lambda w: jnp.mean((x @ w) ** 2)
            )
            return updates

        islands = jax.shard_map(
            lambda key: jax.lax.pmean(update(key[0]), "d"),
            mesh=mesh, in_specs=P("d"), out_specs=P(),
        )
        alone = jax.jit(update)
        expected = np.mean([alone(key) for key in keys], axis=0)
        np.testing.assert_allclose(jax.jit(islands)(keys), expected, atol=1e-5)
"""
# A sum of many directions has the bits of one device, and no device stores a whole leaf on its way.
MANY = """
from tests.directions._laws import ADAPTIVE, LAWS

values, w = jnp.sin(jnp.arange(18.0)), jnp.cos(jnp.arange(2.0**20)).reshape(1024, 1024)
for name in NAMES:
    adaptive = name in ADAPTIVE
    direction = ADAPTIVE[name].adaptive if adaptive else LAWS[name].direction
    source = zojax.estimator(direction, num_directions=18)
    state = source.init(w) if adaptive else None  # an argument: a program would store its zeros
    combine = jax.jit(lambda w, state: source.combine(0, w, values, state=state))
    alone = combine(w, state)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((8,), ("d",), axis_types=(kind,))
        for spec in (P("d"), P(None, "d")):
            sharded = jax.device_put(w, jax.NamedSharding(mesh, spec))
            with jax.set_mesh(mesh):
                state = source.init(sharded) if adaptive else None
                compiled = combine.lower(sharded, state).compile()
                summed = compiled(sharded, state)
            np.testing.assert_array_equal(summed, alone)
            assert summed.sharding.is_equivalent_to(sharded.sharding, 2)
            temporaries = compiled.memory_analysis().temp_size_in_bytes
            assert temporaries < 2 * w.nbytes / 8, (name, kind, spec, temporaries / w.nbytes)
"""
EXPLICIT = """
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
x, w = jnp.sin(jnp.arange(1024.0)).reshape(16, 64), jnp.cos(jnp.arange(4096.0)).reshape(64, 64)
loss = lambda w, x: jnp.mean((x @ w) ** 2)


def step(w, x, batch_size):
    source = zojax.estimator(num_directions=4, batch_size=batch_size, mu=0.1)
    tx = zojax.zeroth_order(optax.adam(0.1), source)
    return tx.update(None, tx.init(w), w, value_fn=loss, x=x)[0]


expected = step(w, x, 1)
source, values = zojax.estimator(num_directions=24), jnp.sin(jnp.arange(48.0))
alone = source.tell(source.ask(0, w)[1], values)
for spec in (P("d"), P(None, "d")):
    sharded = jax.device_put(w, jax.NamedSharding(mesh, spec))
    told = source.tell(source.ask(0, sharded)[1], values)
    np.testing.assert_array_equal(told, alone)
    assert told.sharding.is_equivalent_to(sharded.sharding, 2)
with jax.set_mesh(mesh):
    for of_w, of_x in ((P(), P("d")), (P("d"), P()), (P(None, "d"), P())):
        for batch_size in (1, 4):
            sharded = jax.device_put(w, of_w)
            run = step if of_w == P("d") else jax.jit(step, static_argnums=2)  # eager and compiled
            actual = run(sharded, jax.device_put(x, of_x), batch_size)
            np.testing.assert_allclose(actual, expected, atol=1e-3)
            assert actual.sharding.is_equivalent_to(sharded.sharding, 2), actual.sharding
# A direction that remembers gradients takes steps, inside of `jax.set_mesh` and outside.
source = zojax.estimator(zojax.directions.guided(2), mu=0.1)
tx, sharded = zojax.zeroth_order(optax.sgd(0.1), source), jax.device_put(w, jax.NamedSharding(mesh, P("d")))
update, state = lambda state: tx.update(None, state, sharded, value_fn=jnp.sum), tx.init(sharded)
updates, state = update(state)
with jax.set_mesh(mesh):
    updates, state = update(state)
assert updates.sharding.is_equivalent_to(sharded.sharding, 2), updates.sharding
"""
# What a direction remembers of each weight lies with the weight, from the first state on.
MEMORIES = """
from tests.directions._laws import ADAPTIVE

w = jnp.cos(jnp.arange(256.0)).reshape(16, 16)
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
sharded = jax.device_put(w, jax.NamedSharding(mesh, P("d")))


@jax.jit(static_argnums=0)
def steps(tx, w, state):
    def step(carry, _):
        updates, state = tx.update(None, carry[1], carry[0], value_fn=lambda w: jnp.sum(w**2))
        return (optax.apply_updates(carry[0], updates), state), None

    return jax.lax.scan(step, (w, state), length=3)[0]


for name in ("cone", "curvature", "guided", "separable"):
    law = ADAPTIVE[name]
    source = zojax.estimator(law.adaptive, num_directions=law.num_directions, mu=0.1)
    tx = zojax.zeroth_order(optax.sgd(1e-3), source, key=0)
    expected, _ = steps(tx, w, tx.init(w))
    first = tx.init(sharded)
    with jax.set_mesh(mesh):
        found, last = steps(tx, sharded, first)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for state in (first, last):
        (memory,) = jax.tree.leaves(state.estimator_state.direction)
        assert memory.sharding.shard_shape(memory.shape)[-2:] == (4, 16), (name, memory.sharding)
"""
AUTOMATIC = """
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
places = {"w": P("d"), "v": P(None, "d"), "b": P(), "n": P()}
params = {"w": jnp.ones((64, 32)), "v": jnp.ones((32, 8)), "b": jnp.ones(8), "n": jnp.arange(3)}
x = jnp.sin(jnp.arange(1024.0)).reshape(16, 64)
put = lambda spec, leaf: jax.device_put(leaf, jax.NamedSharding(mesh, spec))
sharded = {name: put(places[name], leaf) for name, leaf in params.items()}
at = put(P(), x)
loss = lambda p, x: jnp.mean((jnp.tanh(x @ p["w"]) @ p["v"] + p["b"]) ** 2)
of = zojax.directions
for n, direction in ((1, of.rademacher()), (4, of.low_rank()), (20, of.normal())):
    source = zojax.estimator(direction, num_directions=n)
    tx = zojax.zeroth_order(optax.adam(0.1), source, key=0)
    update = lambda p, x: tx.update(None, tx.init(p), p, value_fn=loss, x=x)[0]
    grad = zojax.grad(loss, source)
    for found in (grad(0, sharded, at), jax.jit(grad)(0, sharded, at), update(sharded, at)):
        for name in ("w", "v", "b"):
            assert found[name].sharding.is_equivalent_to(sharded[name].sharding, found[name].ndim)
    points, asked = source.ask(0, sharded)
    values = jnp.cos(jnp.arange(source.evaluations))
    told, alone = source.tell(asked, values), source.tell(source.ask(0, params)[1], values)
    jax.tree.map(np.testing.assert_array_equal, told, alone)
    for name in ("w", "v", "b"):
        assert told[name].sharding.is_equivalent_to(sharded[name].sharding, told[name].ndim)
    c = jnp.sin(jnp.arange(n) + 1.0)
    one, many = source.combine(3, params, c), source.combine(3, sharded, c)
    jax.tree.map(np.testing.assert_array_equal, one, many)
    assert many["w"].sharding.is_equivalent_to(sharded["w"].sharding, 2)
"""
# Noise and its weighted sum have the bits of one device, and the sharding of their parameter.
EVERY = """
from tests.directions._laws import ADAPTIVE, LAWS

direction = LAWS[NAME].direction if NAME in LAWS else ADAPTIVE[NAME].adaptive
source = zojax.estimator(direction, num_directions=4)
w, c = 1e-3 * jnp.cos(jnp.arange(256.0)).reshape(16, 16), jnp.sin(jnp.arange(4) + 1.0)
params = {"rows": w, "columns": 2 * w, "b": jnp.ones(8)}  # so small that points show each bit of noise
specs = {"rows": P("d"), "columns": P(None, "d"), "b": P()}
both = jax.jit(lambda p: (source.combine(3, p, c), source.ask(3, p)[0]))
alone = both(params)
for kind in (AxisType.Auto, AxisType.Explicit):
    for count in (2, 4, 8):
        mesh = jax.make_mesh((count,), ("d",), (kind,), devices=jax.devices()[:count])
        place = lambda x, spec: jax.device_put(x, jax.NamedSharding(mesh, spec))
        sharded = jax.tree.map(place, params, specs)
        with jax.set_mesh(mesh):
            found = both(sharded)
        jax.tree.map(np.testing.assert_array_equal, alone, found)
        for name, leaf in found[0].items():
            assert leaf.sharding.is_equivalent_to(sharded[name].sharding, leaf.ndim), (kind, count)
"""
# A step has the collectives of a forward pass, however many directions: barriers and moments add none.
COLLECTIVES = """
import collections, re

OPERATION = r"= \\(?(\\w+)\\[([\\d,]*)\\][^=]* "
OPERATION += r"(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\\("


def collectives(fun, *arguments):
    text = jax.jit(fun).lower(*arguments).compile().as_text()
    return collections.Counter((k, d, s) for d, s, k in re.findall(OPERATION, text))


def of_step(loss, params, data, direction, inner, **options):
    source = zojax.estimator(direction, **options)
    tx = zojax.zeroth_order(inner, source)
    update = lambda p, x: tx.update(None, tx.init(p), p, value_fn=loss, x=x)
    return collectives(update, params, data)


of = zojax.directions
"""
PERCEPTRON = (
    COLLECTIVES
    + """
mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
shape = lambda *s, spec: jax.ShapeDtypeStruct(
    s, jnp.float32, sharding=jax.NamedSharding(mesh, spec)
)
params = {"up": shape(64, 128, spec=P(None, "model")), "down": shape(128, 64, spec=P("model"))}
x = shape(16, 64, spec=P("data"))
loss = lambda p, x: jnp.mean((jnp.tanh(x @ p["up"]) @ p["down"]) ** 2)
forward = collectives(loss, params, x)
assert forward
for direction, inner in ((of.rademacher(), optax.adam(0.1)), (of.orthogonal(), optax.sgd(0.1))):
    found = of_step(loss, params, x, direction, inner, num_directions=4, batch_size=1)
    assert found == forward, found
found = of_step(loss, params, x, of.low_rank(), optax.sgd(0.1), num_directions=8)
assert sum(found.values()) <= sum(forward.values()) + 2, found  # of x A, where a contraction is sharded
"""
)
# Embedding, norm, attention and perceptron; tensor parallel or FSDP, automatic or explicit axes.
TRANSFORMER = (
    COLLECTIVES
    + """
def block(kind, layout):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))
    explicit, parallel = kind == AxisType.Explicit, layout == "tensor parallel"
    shape = lambda *s, spec, dtype=jnp.float32: jax.ShapeDtypeStruct(
        s, dtype, sharding=jax.NamedSharding(mesh, spec)
    )
    # Tensor parallel: columns, then rows. FSDP: the first axis of each matrix, gathered before its use.
    columns, rows = (P(None, "d"), P("d")) if parallel else (P("d"), P("d"))
    params = {
        "embed": shape(64, 32, spec=P(None, "d")),
        "gain": shape(32, spec=P()),
        "qkv": [shape(32, 4, 8, spec=columns) for _ in range(3)],
        "out": shape(4, 8, 32, spec=rows),
        "up": shape(32, 128, spec=columns),
        "down": shape(128, 32, spec=rows),
    }
    stream = P() if parallel else P("d")  # of activations: (batch, time, width)
    inner = P(None, None, "d") if parallel else P("d")
    tokens = shape(8, 16, spec=P() if parallel else P("d"), dtype=jnp.int32)

    def put(x, spec):
        if explicit:
            return jax.sharding.reshard(x, spec)
        return jax.lax.with_sharding_constraint(x, jax.NamedSharding(mesh, spec))

    def dot(formula, x, w, spec):
        w = w if parallel else put(w, P())
        out = {"out_sharding": spec} if explicit else {}
        return put(jnp.einsum(formula, x, w, **out), spec)

    def norm(x, gain):
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * gain

    def loss(p, x):
        if explicit:  # JAX gathers from such an array inside of a mesh with automatic axes
            h = dot("btv,vd->btd", jax.nn.one_hot(x, 64), p["embed"], inner)
        else:
            h = (p["embed"] if parallel else put(p["embed"], P()))[x]
        h = put(h, stream)
        q, k, v = (dot("btd,dhk->bthk", norm(h, p["gain"]), w, inner) for w in p["qkv"])
        scores = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k), axis=-1)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", scores, v)
        h = h + dot("bthk,hkd->btd", mixed, p["out"], stream)
        up = jax.nn.gelu(dot("btd,df->btf", norm(h, p["gain"]), p["up"], inner))
        return jnp.mean((h + dot("btf,fd->btd", up, p["down"], stream)) ** 2)

    return mesh, loss, params, tokens


def check(kind, layout, direction, extra):
    mesh, loss, params, tokens = block(kind, layout)
    with jax.set_mesh(mesh):
        forward = collectives(loss, params, tokens)
        found = of_step(loss, params, tokens, direction, optax.sgd(0.1), num_directions=4, batch_size=1)
    assert forward
    added = sum(found.values()) - sum(forward.values())
    assert added <= extra, (kind, layout, direction, forward, found - forward)


for kind in (AxisType.Auto, AxisType.Explicit):
    for layout in ("tensor parallel", "FSDP"):
        check(kind, layout, DIRECTION)
"""
)


DIRECTIONS = [name for name in (*LAWS, *ADAPTIVE) if name != "input_span"]  # which reads a loss


def many(*names, marks=()):
    return pytest.param(MANY.replace("NAMES", repr(names)), id=f"many {names[0]}", marks=marks)


def every(name):
    return pytest.param(EVERY.replace("NAME", repr(name)), id=name, marks=pytest.mark.slow)


def transformer(direction):
    return pytest.param(
        TRANSFORMER.replace("DIRECTION", direction), id=direction, marks=pytest.mark.slow
    )


@pytest.mark.parametrize(
    "program",
    [
        *(SHARD_MAP, CARRIES, HALF, ISLANDS, EXPLICIT, MEMORIES, AUTOMATIC, PERCEPTRON),
        *map(every, DIRECTIONS),
        many("sphere", "coordinate"),
        # `orthogonal` stores its directions.
        *(many(n, marks=pytest.mark.slow) for n in DIRECTIONS if n != "orthogonal"),
        # Low rank: the sums over ranks of three products with a sharded contraction.
        *map(transformer, ("of.rademacher(), 0", "of.normal(), 0", "of.sphere(), 0")),
        *map(transformer, ("of.sparse(0.2), 0", "of.orthogonal(), 0", "of.low_rank(), 3")),
    ],
)
def test_a_mesh(program):
    program = START + program + 'print("sharded")'
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("sharded\n"), done.stderr[-3000:]


# On shapes alone, on eight devices of the host or of a TPU that need not be present.
LLAMA = """
from benchmarks.worker import prepare


def counted(name):
    work = {"name": "mesh", "settings": {"layout": LAYOUT, "tiny": False}}
    host = prepare(f"{name}, on a mesh", work, "cpu", target=TARGET).host
    host.run()
    return host.facts()


forward, step = counted("forward"), counted("rademacher")
for count in ("collectives", "tiny", "largest"):
    assert step[count] == forward[count], (forward, step)
assert 0 < step["temporaries"] <= 1.05 * forward["temporaries"], (forward, step)
"""
# Low rank: sums over ranks, and no activations.
FACTORS = """
step = counted("low_rank")
assert 0 < step["temporaries"] <= 1.05 * forward["temporaries"], (forward, step)
if not TARGET:
    assert step["largest"] == forward["largest"], (forward, step)
    assert step["gathered"] <= 1.01 * forward["gathered"], (forward, step)
if LAYOUT == "tensor parallel":  # a TPU sums over ranks and over contractions one after the other
    assert step["collectives"] <= forward["collectives"] + (3 if TARGET else 0), (forward, step)
"""


HOST, TPU = "", "tpu-v5e"


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["tensor parallel", "FSDP"])
@pytest.mark.parametrize("target", [HOST, TPU])
def test_a_llama(layout, target):
    if target:
        pytest.importorskip("libtpu")
    program = LLAMA + FACTORS
    test_a_mesh(program.replace("LAYOUT", repr(layout)).replace("TARGET", repr(target)))
