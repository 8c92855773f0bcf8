"""shardes: mirrored members, rank one or regenerated normals, without its shaping; Python 3.12 and newer.

Low rank needs a model in terms of its `dense` and `embed`, and perturbs vectors densely. So this file has
the MLP and the transformer again, with transposed weights and a list of layers. shardes has no convolution.
"""

import jax
import jax.numpy as jnp

from benchmarks import models
from benchmarks.contestants import Program


def _mlp(settings):
    from shardes.nn import dense

    def loss(params, batch):
        x = batch["x"]
        for i, (w, b) in enumerate(params):
            x = dense(x, w) + b
            x = jax.nn.relu(x) if i + 1 < len(params) else x
        return models.classification_loss(x, batch["y"])

    return loss, lambda params: [(w.T, b) for w, b in params]


def _transformer(settings):
    from shardes.nn import dense, embed

    heads = settings.get("heads", models.HEADS)

    def loss(params, batch):
        x = embed(params["embed"], batch["tokens"])
        for p in params["layers"]:
            mixed = models.attention(heads, dense(models.rms_norm(x, p["norm1"]), p["qkv"]))
            x = x + dense(mixed, p["out"])
            up = dense(models.rms_norm(x, p["norm2"]), p["up"])
            x = x + dense(jax.nn.gelu(up), p["down"])
        logits = dense(models.rms_norm(x, params["norm"]), params["embed"])
        return models.next_token_loss(logits, batch["tokens"])

    def rewritten(params):
        stack = params["layers"]
        layers = [{k: x[i].T for k, x in stack.items()} for i in range(len(stack["qkv"]))]
        return params | {"layers": layers}

    return loss, rewritten


WRITTEN = {"mlp": _mlp, "transformer": _transformer, "model M": _transformer}


def build(work, strategy):
    """Low rank: the loss of this file, on the rewritten parameters of the work."""
    import shardes

    model, rewritten = work.loss, lambda params: params
    if strategy == "LowRank":
        if work.name not in WRITTEN:
            raise ValueError(f"shardes.nn has dense and embed alone; {work.name} needs more.")
        model, rewritten = WRITTEN[work.name](work.settings)
    perturbation = shardes.LowRank(r=1) if strategy == "LowRank" else shardes.SeedRegenerated()
    settings = dict(n=work.evaluations, sigma=work.mu, lr=1e-6, shaping=shardes.shaping.none)
    mirrored = shardes.Mirrored(perturbation)
    es = shardes.ShardedES(mirrored, mesh=shardes.make_mesh(1), **settings)

    def start(params):
        # The result of `init`, which cannot be traced since it looks at sigma.
        sigma, key, count = jnp.float32(work.mu), jax.random.key(0), jnp.int32(0)
        return shardes.State(rewritten(params), sigma, key, count)

    def step(state, batch):
        perturbed, state = es.ask(state)
        values = es.apply(model, state, perturbed)(batch)
        return es.tell(state, perturbed, values)

    return Program(step, start)
