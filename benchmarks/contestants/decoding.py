"""Greedy decoding of reasoning-gym prompts with and without drafts; the time of a step is that of a batch.

A member of a population has the parameters plus `mu` times signs. Its drafts may come from the unperturbed
model's text. Every text is compared with that of plain decoding.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contestants import Host
from zojax import lm
from zojax.lm import drafts, llama

TASKS = (
    "chain_sum",
    "letter_counting",
    "word_sorting",
    "spell_backward",
    "countdown",
    "gsm_symbolic",
)
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
TINY = llama.Config(vocabulary=16, width=16, layers=2, heads=2, kv_heads=1, hidden=16)
SHALLOW = 10  # layers of the draft model


def build(work, draft):
    make = _tiny if work.tiny else _smollm2
    model, tokens, lengths = make(work.batch)
    decode = partial(model.decode, tokens=tokens, lengths=lengths, new=work.new)
    start = jax.tree.map(jnp.asarray, model.params)
    params = _moved(start, work.mu) if work.mu else start
    plain = jax.jit(lambda params: decode(params).tokens)
    unperturbed, expected = plain(start), plain(params)
    size = work.size

    def run(params, start, text):
        smaller = drafts.first_layers(
            model._replace(params=start), min(SHALLOW, model.config.layers)
        )
        made = {
            "none": lambda: None,
            "lookup": lambda: drafts.lookup(size),
            "pool": lambda: drafts.pool(size=size),
            "first layers": lambda: drafts.model(smaller),
            "text": lambda: drafts.text(text, size),
            "text, lookup": lambda: drafts.union(drafts.text(text, size), drafts.lookup(size)),
            "all": lambda: drafts.union(
                drafts.text(text, size), drafts.lookup(size), drafts.pool(size=size)
            ),
        }[draft]()
        if made is not None:
            shapes.update(nodes=1 + made.candidates * made.size)
        return decode(params, draft=made)._replace(draft=None)

    shapes = {"nodes": 1}  # known once the function is traced
    compiled = jax.jit(run)
    last = compiled(params, start, unperturbed)

    def facts():
        rounds, said = int(last.forwards.sum()) - len(lengths), work.new * len(lengths)
        said -= len(lengths)  # the first token comes from the prompt's forward pass
        differ = int((np.asarray(last.tokens) != np.asarray(expected)).any(axis=1).sum())
        return {
            "tokens a forward": said / rounds,
            "positions a token": shapes["nodes"] * rounds / said,
            "texts that differ": differ,
        }

    return Host(
        lambda: jax.block_until_ready(compiled(params, start, unperturbed)), work.new, facts
    )


def _moved(params, mu):
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    signs = (jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True))
    return treedef.unflatten([x + mu * z for x, z in zip(leaves, signs, strict=True)])


def _smollm2(batch):
    import reasoning_gym

    model = lm.smollm2()
    sets = [reasoning_gym.create_dataset(task, size=batch, seed=0) for task in TASKS]
    prompts = [sets[i % len(sets)][i // len(sets)]["question"] for i in range(batch)]
    rows = [e.ids for e in model.tokenizer.encode_batch([CHAT.format(p) for p in prompts])]
    lengths = np.array([len(row) for row in rows])
    tokens = np.array([row + [0] * (lengths.max() - len(row)) for row in rows])
    return model, tokens, lengths


def _tiny(batch):
    model = lm.Model(llama, TINY, llama.init(jax.random.key(0), TINY))
    tokens = np.random.default_rng(0).integers(0, 16, (batch, 8))
    return model, tokens, np.full(batch, 8)
