"""shardes: mirrored members, rank one or regenerated normals, without its shaping; Python 3.12 and newer.

Low rank needs a model that is written with its `dense`, so the MLP is written again here; weights are
transposed, as `dense` wants them.
"""

import jax
import jax.numpy as jnp

from benchmarks.models import classification_loss
from benchmarks.rivals import Program


def _mlp(params, batch):
    from shardes.nn import dense

    x = batch["x"]
    for i, (w, b) in enumerate(params):
        x = dense(x, w) + b
        x = jax.nn.relu(x) if i + 1 < len(params) else x
    return classification_loss(x, batch["y"])


def build(work, strategy):
    import shardes

    low_rank = strategy == "LowRank"
    if low_rank and work.name != "mlp":
        raise ValueError(f"{work.name} is not written with shardes.nn.dense.")
    perturbation = shardes.LowRank(r=1) if low_rank else shardes.SeedRegenerated()
    es = shardes.ShardedES(
        shardes.Mirrored(perturbation),
        n=work.evaluations,
        sigma=work.mu,
        lr=1e-6,
        mesh=shardes.make_mesh(1),
        shaping=shardes.shaping.none,
    )
    model = _mlp if low_rank else work.loss

    def start(params):
        params = [(w.T, b) for w, b in params] if low_rank else params
        # What `init` gives, which cannot be traced: it looks at sigma.
        return shardes.State(params, jnp.float32(work.mu), jax.random.key(0), jnp.int32(0))

    def step(state, batch):
        perturbed, state = es.ask(state)
        values = es.apply(model, state, perturbed)(batch)
        return es.tell(state, perturbed, values)

    return Program(step, start)
