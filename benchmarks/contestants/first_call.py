"""A first call in a new process: processor seconds to trace, lower, compile and run it.

They are counted after the imports and a program of JAX alone, without a compilation cache. An interpreter
imports everything once, before JAX starts a thread. Each call runs in a fork of it.
"""

import os
import subprocess
import sys

from benchmarks.contestants import Host

CODE = """
import os, sys, time
import jax, jax.numpy as jnp, numpy as np, optax
import zojax

zojax.mezo, zojax.minimize, zojax.value_and_grad, zojax.directions, zojax.search
for _ in sys.stdin:
    if os.fork() == 0:
        break
    if os.wait()[1]:
        sys.exit("the call failed")
else:
    sys.exit()

jax.block_until_ready(jax.jit(lambda key: jax.random.split(key))(jax.random.key(1)))
rng = np.random.default_rng(0)
x, y = rng.standard_normal((4, 3), np.float32), np.ones(4, np.float32)
params = jax.block_until_ready({{"w": jnp.ones(3), "b": jnp.zeros(())}})

def loss(p):
    return jnp.mean((x @ p["w"] + p["b"] - y) ** 2)

def by_hand(key, params):
    leaves, treedef = jax.tree.flatten(params)
    def one(key):
        keys = jax.random.split(key, len(leaves))
        z = [jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, leaves)]
        at = lambda mu: loss(treedef.unflatten([x + mu * z for x, z in zip(leaves, z)]))
        c = (at(1e-3) - at(-1e-3)) / 2e-3
        return treedef.unflatten([x - 1e-6 * c * z for x, z in zip(leaves, z)])
    if {n} == 1:
        return one(key)
    return jax.tree.map(lambda x: x.mean(0), jax.vmap(one)(jax.random.split(key, {n})))

def estimate(direction):
    estimator = zojax.estimator(direction, num_directions={n})
    return zojax.value_and_grad(loss, estimator)(0, params)

def mezo_step():
    tx = zojax.mezo(num_directions={n})
    @jax.jit
    def step(params, state):
        updates, state = tx.update(None, state, params, value_fn=loss)
        return optax.apply_updates(params, updates), state
    return step(params, tx.init(params))

def search():
    def valley(x):
        return float(np.sum((x - 0.3) ** 2))
    return zojax.search.minimize(valley, zojax.search.uniform(-1, 1, (10,)), budget=100, key=0).best

begin = time.process_time()
jax.block_until_ready({call})
print(time.process_time() - begin)
"""
CALLS = {
    "jax.grad": "jax.jit(jax.grad(loss))(params)",
    "SPSA by hand": "jax.jit(by_hand)(jax.random.key(0), params)",
    "value_and_grad": "estimate(None)",
    "value_and_grad, low rank": "estimate(zojax.directions.low_rank())",
    "mezo": "mezo_step()",
    "search of a host function": "search()",
    "minimize": "zojax.minimize(loss, params, zojax.mezo(num_directions={n}), 5).params",
}


def build(work, call):
    code = CODE.format(n=work.directions, call=CALLS[call].format(n=work.directions))
    variables = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    pipe, spent = subprocess.PIPE, 0.0
    command = [sys.executable, "-W", "ignore", "-c", code]
    forks = subprocess.Popen(command, env=variables, stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def run():
        nonlocal spent
        forks.stdin.write("\n")
        spent += float(forks.stdout.readline())

    return Host(run, clock=lambda: spent)
