"""Directions over an axis of a mesh of eight host devices, in processes of their own."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import zojax

START = r"""
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
import collections, re, tempfile
import jax, jax.numpy as jnp, numpy as np, optax, zojax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

kind = AxisType.Auto
mesh = jax.make_mesh((4, 2), ("pop", "model"), axis_types=(kind,) * 2)
specs = {"up": P(None, "model"), "down": P("model"), "skip": P()}
shapes = {"up": (64, 128), "down": (128, 64), "skip": (128, 64)}
leaves = zip(shapes.items(), jax.random.split(jax.random.key(0), 3))
alone = {name: jax.random.normal(key, shape, jnp.bfloat16) / 8 for (name, shape), key in leaves}
params = {name: jax.device_put(w, NamedSharding(mesh, specs[name])) for name, w in alone.items()}
x = jnp.sin(jnp.arange(512.0)).reshape(8, 64).astype(jnp.bfloat16)
at = jax.device_put(x, NamedSharding(mesh, P()))


def loss(p, x):
    h = jnp.tanh(x @ p["up"])
    return jnp.mean((h @ p["down"] + h @ p["skip"] - x).astype(jnp.float32) ** 2)


def equal(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), a, b)


OPERATION = r"= (\w+)\[([\d,]*)\]\S* (all-reduce|all-gather|all-to-all|collective-permute)\("


def collectives(compiled):
    # How many there are of each operation, dtype and number of entries.
    size = lambda shape: np.prod([int(n) for n in shape.split(",") if n], dtype=int)
    found = re.findall(OPERATION, compiled.as_text())
    return collections.Counter((name, dtype, size(shape)) for dtype, shape, name in found)
"""
# Weights of equal shape differ in sharding. A step has the bits of one device, the updates lie as they do.
STEPS = """
found = {}
for update in ("scalars", "sliced"):
    source = zojax.estimator(num_directions=4, batch_size=1, axis_name="pop", update=update)
    tx = zojax.zeroth_order(optax.sgd(0.1, momentum=0.9), source, inner_dtype=jnp.float32)
    step = jax.jit(lambda p, x: tx.update(None, tx.init(p), p, value_fn=loss, x=x))
    compiled = step.lower(params, at).compile()
    updates, state = compiled(params, at)
    one, state_of_one = tx.replay(tx.init(alone), alone, state.coefficients)
    equal(updates, one)
    equal(state.inner_state, state_of_one.inner_state)
    for name, spec in specs.items():
        assert updates[name].sharding.is_equivalent_to(params[name].sharding, 2), (name, updates[name])
    moments = [m.sharding.shard_shape(m.shape) for m in jax.tree.leaves(state.inner_state) if m.ndim]
    sizes = {np.prod(shape) for shape in moments}
    assert sizes == ({4096, 8192} if update == "scalars" else {1024, 2048}), sizes
    found[update] = collectives(compiled)
# One gather of each leaf, in the two bytes of bfloat16. Moments that are settled add single numbers.
added = {k: n for k, n in (found["sliced"] - found["scalars"]).items() if k[2] > 1}
assert added == {("all-gather", "u16", 4096): 2, ("all-gather", "u16", 8192): 1}, added
assert not found["scalars"] - found["sliced"]
values = {("all-gather", "f32", 8): 1}
assert {k: n for k, n in found["scalars"].items() if k[0] == "all-gather"} == values
"""
# Keys and data of directions, aux, ranks, a value at x and a schedule, over an axis and without.
OPTIONS = """
def noisy(p, x, *, key):
    value = jnp.sum(jnp.sin(p * x)) + jax.random.normal(key)
    return value, (x[0], jnp.sum(p))


def estimate(axis_name, p, batch):
    source = zojax.estimator(
        stencil=zojax.stencils.forward(),
        shaping=zojax.shaping.centered_ranks(),
        mu=lambda step: 0.1 / (1 + step),
        num_directions=8,
        in_axes=(None, 0),
        with_key=True,
        axis_name=axis_name,
    )
    return source.estimate(3, noisy, p, (batch,), step=2, has_aux=True)


p, batch = jnp.ones(8), jnp.cos(jnp.arange(64.0)).reshape(8, 8)
with jax.set_mesh(mesh):
    over = jax.jit(estimate, static_argnums=0)("pop", p, batch)
single = jax.jit(estimate, static_argnums=0)(None, p, batch)
equal(over.coefficients, single.coefficients)
equal(over.grads, single.grads)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), over.aux, single.aux)
"""
# The work of a device falls with the number of groups.
FLOPS = """
flops = {}
for groups in (1, 8):
    mesh = jax.make_mesh((groups,), ("pop",), devices=jax.devices()[:groups], axis_types=(kind,))
    source = zojax.estimator(zojax.directions.low_rank(), num_directions=16, batch_size=16, axis_name="pop")
    with jax.set_mesh(mesh):
        run = jax.jit(lambda p, x: source.evaluate(0, loss, p, (x,)))
        flops[groups] = run.lower(alone, x).compile().cost_analysis()["flops"]
assert 0.95 < 8 * flops[8] / flops[1] < 1.1, flops
"""
# A run over an axis is replayed on one device; an update that sums over a leaf is refused by name.
LOGS = """
wide = jax.tree.map(lambda w: w.astype(jnp.float32), (alone, params))  # a rounding hides no norm
for inner, same, (start, sharded) in (
    (optax.sgd(0.1, momentum=0.9), True, (alone, params)), (optax.lamb(0.1), False, wide)
):
    source = zojax.estimator(num_directions=8, axis_name="pop", update="sliced")
    tx, path = zojax.zeroth_order(inner, source), tempfile.mkdtemp() + "/run.log"
    with zojax.trajectory.Recorder(path, tx, sharded) as recorder:
        run = zojax.minimize(lambda p: loss(p, at), sharded, tx, 20, callback=recorder.callback)
    assert run.params["up"].sharding.is_equivalent_to(params["up"].sharding, 2)
    log = zojax.trajectory.load(path)
    if same:
        equal(zojax.trajectory.replay(start, tx, log), run.params)
        continue
    try:
        zojax.trajectory.replay(start, tx, log)
    except ValueError as error:
        assert "on mesh (pop=4, model=2); this is" in str(error) and "one device" in str(error)
    else:
        raise AssertionError("the norms of lamb had the same bits on one device")
"""
EXPLICIT = """
mesh = jax.make_mesh((4, 2), ("pop", "model"), axis_types=(AxisType.Explicit,) * 2)
w = jnp.cos(jnp.arange(4096.0)).reshape(64, 64)
sharded = jax.device_put(w, NamedSharding(mesh, P(None, "model")))
quadratic = lambda w: jnp.mean(w**2)
for update in ("scalars", "sliced"):
    source = zojax.estimator(num_directions=8, mu=0.1, axis_name="pop", update=update)
    tx = zojax.zeroth_order(optax.sgd(0.1, momentum=0.9), source)
    updates, state = tx.update(None, tx.init(sharded), sharded, value_fn=quadratic)
    equal(updates, tx.replay(tx.init(w), w, state.coefficients)[0])
    assert updates.sharding.is_equivalent_to(sharded.sharding, 2), updates.sharding
    grad = zojax.grad(quadratic, source)(0, sharded)
    assert grad.sharding.is_equivalent_to(sharded.sharding, 2), grad.sharding
"""


@pytest.mark.parametrize(
    "program",
    [
        STEPS,
        pytest.param(OPTIONS + FLOPS, id="options and flops"),
        pytest.param(LOGS, marks=pytest.mark.slow),
        pytest.param(EXPLICIT, marks=pytest.mark.slow),
    ],
)
def test_directions_over_a_mesh_axis(program):
    program = START + program + 'print("spread")'
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("spread\n"), done.stderr[-3000:]


def of_mesh(groups):
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((groups,), ("pop",)))


def test_an_axis_that_no_mesh_has_is_refused():
    source = zojax.estimator(axis_name="pop")
    with pytest.raises(ValueError, match=r"axis_name='pop' .* jax.set_mesh\(mesh\)"):
        source.evaluate(0, jnp.sum, jnp.ones(3))


def test_the_axis_divides_the_directions():
    source = zojax.estimator(num_directions=6, axis_name="pop")
    message = "num_directions must be a multiple of 4, the size of the mesh axis 'pop', got 6."
    key, x = jax.random.key(0), jnp.ones(3)
    with of_mesh(4), pytest.raises(ValueError, match=re.escape(message)):
        jax.eval_shape(lambda key, x: source.evaluate(key, jnp.sum, x), key, x)


@pytest.mark.parametrize(
    "options, error",
    [
        ({"axis_name": 3}, TypeError),
        ({"update": "sliced"}, ValueError),
        ({"axis_name": "pop", "update": "mean"}, ValueError),
    ],
)
def test_unusable_options_are_refused(options, error):
    with pytest.raises(error, match="axis_name|update"):
        zojax.estimator(**options)
