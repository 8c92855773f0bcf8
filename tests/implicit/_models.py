"""Small models of every library and shape, each as (loss, parameters).

Each library's model has an embedding, a convolution, attention, a dense layer and a norm. They are
imported where they are used, so that a library that is not installed skips its own test only.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.implicit._helpers import normal

TOKENS = np.array([[1, 5, 2, 7, 3, 3], [0, 4, 4, 6, 2, 1]], np.int32)
VOCABULARY, WIDTH, HEADS, LAYERS = 11, 8, 2, 3


def flax_linen():
    from flax import linen as nn

    class Model(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            embed = nn.Embed(VOCABULARY, WIDTH)
            x = embed(tokens)
            x = x + nn.Conv(WIDTH, (3,))(x)
            x = x + nn.MultiHeadDotProductAttention(HEADS)(nn.LayerNorm()(x))
            x = x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(2 * WIDTH)(x)))
            return embed.attend(x)

    model = Model()
    params = _filled(jax.eval_shape(model.init, jax.random.key(0), TOKENS))
    return lambda p: _cross_entropy(model.apply(p, TOKENS)), params


def flax_nnx():
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
            self.conv = nnx.Conv(WIDTH, WIDTH, (3,), rngs=rngs)
            self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
            self.dense = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

        def __call__(self, tokens):
            x = self.embed(tokens)
            x = x + self.conv(x)
            x = x + self.attention(self.norm(x))
            return self.embed.attend(x + nnx.gelu(self.dense(x)))

    model = nnx.jit(lambda: Model(nnx.Rngs(0)))()  # one program, not one for each initialiser
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return lambda p: _cross_entropy(nnx.merge(graph, p, rest)(TOKENS)), params


def equinox():
    import equinox as eqx

    class Model(eqx.Module):
        embed: eqx.nn.Embedding
        conv: eqx.nn.Conv1d
        attention: eqx.nn.MultiheadAttention
        norm: eqx.nn.LayerNorm
        mlp: eqx.nn.MLP

        def __init__(self, key):
            keys = jax.random.split(key, 4)
            self.embed = eqx.nn.Embedding(VOCABULARY, WIDTH, key=keys[0])
            self.conv = eqx.nn.Conv1d(WIDTH, WIDTH, 3, padding=1, key=keys[1])
            self.attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=keys[2])
            self.norm = eqx.nn.LayerNorm(WIDTH)
            self.mlp = eqx.nn.MLP(WIDTH, VOCABULARY, 16, 1, key=keys[3])

        def __call__(self, tokens):
            x = jax.vmap(self.embed)(tokens)
            x = x + self.conv(x.T).T
            h = jax.vmap(self.norm)(x)
            return jax.vmap(self.mlp)(x + self.attention(h, h, h))

    model = _filled(eqx.filter_eval_shape(Model, jax.random.key(0)))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    return lambda p: _cross_entropy(jax.vmap(eqx.combine(p, static))(TOKENS)), params


def haiku():
    import haiku as hk

    def forward(tokens):
        embed = hk.Embed(VOCABULARY, WIDTH)
        x = embed(tokens)
        x = x + hk.Conv1D(WIDTH, 3)(x)
        h = hk.LayerNorm(-1, True, True)(x)
        x = x + hk.MultiHeadAttention(HEADS, 4, w_init=hk.initializers.VarianceScaling())(h, h, h)
        x = x + hk.nets.MLP([16, WIDTH])(x)
        return x @ embed.embeddings.T

    model = hk.without_apply_rng(hk.transform(forward))
    params = _filled(jax.eval_shape(model.init, jax.random.key(0), TOKENS))
    return lambda p: _cross_entropy(model.apply(p, TOKENS)), params


def gpt2(unrolled=False):
    """Learned positions, LayerNorm, a fused qkv projection that is split, tied output."""
    shapes = {
        "ln1": (2, WIDTH), "qkv": (WIDTH, 3 * WIDTH), "qkv_b": (3 * WIDTH,), "out": (WIDTH, WIDTH),
        "ln2": (2, WIDTH), "up": (WIDTH, 4 * WIDTH), "up_b": (4 * WIDTH,),
        "down": (4 * WIDTH, WIDTH),
    }  # fmt: skip
    params = {
        "wte": normal(0, (VOCABULARY, WIDTH)),
        "wpe": normal(1, (16, WIDTH)),
        "blocks": {k: normal(i + 2, (LAYERS, *s)) / 2 for i, (k, s) in enumerate(shapes.items())},
        "ln": normal(20, (2, WIDTH)),
    }

    def norm(x, p):
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * p[0] + p[1]

    def block(x, p):
        q, k, v = jnp.split(norm(x, p["ln1"]) @ p["qkv"] + p["qkv_b"], 3, axis=-1)
        x = x + _attention(q, k, v) @ p["out"]
        return x + jax.nn.gelu(norm(x, p["ln2"]) @ p["up"] + p["up_b"]) @ p["down"]

    def loss(params):
        x = params["wte"][TOKENS] + params["wpe"][: TOKENS.shape[1]]
        x = _layers(block, x, params["blocks"], unrolled)
        return _cross_entropy(norm(x, params["ln"]) @ params["wte"].T)

    return loss, params


def llama(unrolled=False):
    """RMSNorm, SwiGLU, per-head projections by einsum, an output layer of its own."""
    half = WIDTH // HEADS
    shapes = {
        "n1": (WIDTH,), "q": (WIDTH, HEADS, half), "k": (WIDTH, HEADS, half),
        "v": (WIDTH, HEADS, half), "o": (HEADS, half, WIDTH),
        "n2": (WIDTH,), "gate": (WIDTH, 12), "up": (WIDTH, 12), "down": (12, WIDTH),
    }  # fmt: skip
    params = {
        "embed": normal(0, (VOCABULARY, WIDTH)),
        "blocks": {k: normal(i + 2, (LAYERS, *s)) / 2 for i, (k, s) in enumerate(shapes.items())},
        "norm": normal(20, (WIDTH,)),
        "head": normal(21, (VOCABULARY, WIDTH)),
    }

    def norm(x, g):
        return x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * g

    @jax.checkpoint
    def block(x, p):
        h = norm(x, p["n1"])
        q, k, v = (jnp.einsum("btd,dhk->bthk", h, p[n]) for n in "qkv")
        scores = jnp.einsum("bthk,bshk->bhts", q, k) / half**0.5
        scores = jnp.where(np.tri(q.shape[1], dtype=bool), scores, -jnp.inf)
        mixed = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(scores), v)
        x = x + jnp.einsum("bthk,hkd->btd", mixed, p["o"])
        h = norm(x, p["n2"])
        return x + (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"]

    def loss(params):
        x = jnp.take(params["embed"], TOKENS, axis=0)
        x = _layers(block, x, params["blocks"], unrolled)
        return _cross_entropy(jnp.einsum("btd,vd->btv", norm(x, params["norm"]), params["head"]))

    return loss, params


def lstm():
    """Weights that every iteration of a scan reads."""
    params = {
        "embed": normal(0, (VOCABULARY, WIDTH)),
        "wx": normal(1, (WIDTH, 4 * WIDTH)),
        "wh": normal(2, (WIDTH, 4 * WIDTH)) / 3,
        "b": normal(3, (4 * WIDTH,)),
        "out": normal(4, (WIDTH, VOCABULARY)),
    }

    def loss(p):
        def step(state, x):
            h, c = state
            i, f, g, o = jnp.split(x @ p["wx"] + h @ p["wh"] + p["b"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((2, WIDTH), p["b"].dtype)
        _, hs = lax.scan(step, (zero, zero), p["embed"][TOKENS.T])
        return _cross_entropy(hs @ p["out"])

    return loss, params


def mixture():
    """Experts by one batched product each way, behind a softmax router."""
    params = {
        "router": normal(0, (WIDTH, 3)),
        "up": normal(1, (3, WIDTH, 12)),
        "down": normal(2, (3, 12, VOCABULARY)),
    }
    x = normal(3, (5, WIDTH))

    def loss(p):
        gates = jax.nn.softmax(x @ p["router"])
        hidden = jax.nn.relu(jnp.einsum("bd,edf->ebf", x, p["up"]))
        return _cross_entropy(jnp.einsum("ebf,efv,be->bv", hidden, p["down"], gates))

    return loss, params


def _filled(shapes):
    """Random numbers in place of the shapes: the initialisers would cost many small programs."""
    leaves, treedef = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    return treedef.unflatten(
        [
            jnp.asarray(rng.standard_normal(x.shape) / 2, x.dtype)
            if isinstance(x, jax.ShapeDtypeStruct)
            else x
            for x in leaves
        ]
    )


def _attention(q, k, v):
    q, k, v = (x.reshape(*x.shape[:-1], HEADS, -1) for x in (q, k, v))
    mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return mixed.reshape(*mixed.shape[:2], -1)


def _layers(block, x, stack, unrolled):
    if not unrolled:
        return lax.scan(lambda x, p: (block(x, p), None), x, stack)[0]
    for i in range(LAYERS):
        x = block(x, jax.tree.map(lambda p: p[i], stack))  # noqa: B023, used at once
    return x


def _cross_entropy(logits):
    return -jnp.mean(jax.nn.log_softmax(logits)[..., 3])


MODELS = {
    "flax_linen": flax_linen,
    "flax_nnx": flax_nnx,
    "equinox": equinox,
    "haiku": haiku,
    "gpt2": gpt2,
    "gpt2_unrolled": lambda: gpt2(unrolled=True),
    "llama": llama,
    "llama_unrolled": lambda: llama(unrolled=True),
    "lstm": lstm,
    "mixture": mixture,
}
