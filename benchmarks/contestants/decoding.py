"""Greedy decoding of reasoning-gym prompts with drafts, beside decoding token by token, in one process.

A step is a batch of prompts. All drafts decode it in turn, so they see the same load of the machine. Each
text is compared with that of plain decoding. A member of a population has the parameters plus `mu` times
signs; "text" drafts the unperturbed model's texts, of `EARLIER` prompts before a smaller batch, too.
`members` of them are low-rank perturbations, side by side.

Each decoded batch is a line of `decoding.jsonl` in the cache folder of zojax, so the same command goes on
where it was stopped. `--rounds 4` decodes four batches, `--rounds 8` four more. Delete the file after a
change of the drafts.
"""

import itertools
import json
import time
from collections.abc import Iterator
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

import zojax
from benchmarks.contestants import Host
from benchmarks.summary import summary
from zojax import lm
from zojax.lm import assets, drafts, llama

TASKS = ("chain_sum", "letter_counting", "word_sorting", "spell_backward", "countdown")
TASKS += ("gsm_symbolic",)
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
LONGEST = 128  # tokens of a prompt; longer ones are left out
TINY = llama.Config(vocabulary=16, width=16, layers=2, heads=2, kv_heads=1, hidden=16)
SHALLOW = 10  # layers of the draft model
WINDOW = 5  # columns of lookahead's window, and phrases that it tries: a CPU pays for positions
PLAIN = "plain decoding"
EARLIER = 16  # texts of the unperturbed model, those of the batch included
DRAFTS = {  # (smaller model, unperturbed texts) -> a draft; numbers are tokens of a candidate
    PLAIN: lambda smaller, text: drafts.none(),
    "lookup 8": lambda smaller, text: drafts.lookup(8),
    "pool": lambda smaller, text: drafts.pool(),
    "lookahead": lambda smaller, text: drafts.lookahead(WINDOW, WINDOW),
    "first 10 layers": lambda smaller, text: drafts.model(smaller),
    "Ouroboros, first 10 layers": lambda smaller, text: drafts.ouroboros(
        smaller, window=WINDOW, tried=WINDOW
    ),
    **{
        f"text {size}, {second}": lambda smaller, text, size=size, second=second: drafts.text(
            text, size, second
        )
        for size, second in ((12, 3), (4, 2), (3, 0))
    },
}


def build(work):
    """Facts: `drafts`, a summary of each."""
    kept, batches = _Kept(work), itertools.count()

    @cache  # only if a batch is missing
    def loaded():
        model, prompts = (_tiny if work.tiny else _smollm2)(work.batch)
        return _Programs(model, work), prompts

    def decoded(i, mu, name, text):
        if (line := kept.get(i, mu, name)) is None:
            programs, prompts = loaded()
            tokens, lengths = next(itertools.islice(prompts(), i, None))
            line = programs.run(mu, name, tokens, lengths, text)
            kept.add(i, mu, name, line)
        return line

    def unperturbed(i):
        line = decoded(i, 0.0, PLAIN, np.zeros((rows, work.new), np.int32))
        return np.array(line["tokens"], np.int32).reshape(-1, work.batch, work.new)[0]

    rows = max(EARLIER, work.batch)

    def run():
        i = next(batches)
        some = [unperturbed(k) for k in range(i, max(-1, i - rows // work.batch), -1)]
        text = np.full((rows, work.new), -1, np.int32)
        text[: work.batch * len(some)] = np.concatenate(some)
        for name in work.names:
            decoded(i, work.mu, name, text)

    return Host(run, facts=lambda: {"drafts": [kept.summed(work.mu, n) for n in work.names]})


class _Programs:
    """Compiled decodings; one is `(mu, draft)`, with members alone different for each `mu`."""

    def __init__(self, model, work):
        self.model, self.work, self.compiled, self.nodes = model, work, {}, {}
        self.params = jax.tree.map(jnp.asarray, model.params)

    @cache  # noqa: B019, as long as the process
    def moved(self, mu):
        return _moved(self.params, mu) if mu and not self.work.members else self.params

    def run(self, mu, name, tokens, lengths, text) -> dict:
        """The outcome of a batch, with its seconds by clock and of the processor."""
        arrays = (jnp.asarray(a) for a in (tokens, lengths, text))
        given = self.moved(mu), self.params, *arrays
        key = name, mu if self.work.members else 0.0
        if key not in self.compiled:
            run = partial(self._decode, name, mu)
            self.compiled[key] = jax.jit(run).lower(*given).compile()
        begin, cpu = time.perf_counter(), time.process_time()
        found = jax.block_until_ready(self.compiled[key](*given))
        seconds = time.perf_counter() - begin, time.process_time() - cpu
        found, small = jax.tree.map(lambda a: np.asarray(a).tolist(), found)
        line = {"tokens": found.tokens, "forwards": found.forwards, "near": found.near_ties}
        nodes = self.nodes[name]
        return line | {"small": small, "nodes": nodes, "seconds": seconds[0], "cpu": seconds[1]}

    def _decode(self, name, mu, params, start, tokens, lengths, text):
        def one(params):
            whole = self.model._replace(params=start)
            smaller = drafts.first_layers(whole, min(SHALLOW, whole.config.layers))
            draft = DRAFTS[name](smaller, text)
            self.nodes[name] = 1 + len(draft.tree.asked)
            found = self.model.decode(params, tokens, lengths, self.work.new, draft=draft)
            own = getattr(found.draft, "own", None)
            small = jnp.zeros_like(found.forwards) if own is None else own.forwards
            return found._replace(draft=None), small

        if not self.work.members:
            return one(params)
        direction = zojax.directions.low_rank()
        frame = direction.frame(jax.random.key(1), self.work.members, start)

        def member(i):
            return zojax.implicit.evaluate(one, start, direction.draw(frame, i, start), mu)

        return jax.vmap(member)(jnp.arange(self.work.members))


class _Kept:
    """The outcomes of batches, a JSON line each."""

    def __init__(self, work):
        self.path = assets.cache_dir() / ("decoding-tiny.jsonl" if work.tiny else "decoding.jsonl")
        self.of = {"batch": work.batch, "new": work.new, "members": work.members}
        self.lines: dict[tuple, dict] = {}
        if work.tiny:
            self.path.unlink(missing_ok=True)
        for text in self.path.read_text().splitlines() if self.path.exists() else ():
            line = json.loads(text)
            if line["of"] == self.of:
                self.lines[line["i"], line["mu"], line["draft"]] = line

    def get(self, i: int, mu: float, name: str) -> dict | None:
        return self.lines.get((i, mu, name))

    def add(self, i: int, mu: float, name: str, line: dict) -> None:
        self.lines[i, mu, name] = line = {"of": self.of, "i": i, "mu": mu, "draft": name} | line
        with self.path.open("a") as file:
            print(json.dumps(line), file=file)

    def summed(self, mu: float, name: str) -> dict:
        """Counts over all batches; times over those of plain decoding, batch by batch."""
        lines = [line for (_, *of), line in sorted(self.lines.items()) if of == [mu, name]]
        pairs = [(line, self.lines[line["i"], mu, PLAIN]) for line in lines]
        said, plain = (np.array([pair[k]["tokens"] for pair in pairs]) for k in (0, 1))
        near = np.array([pair[1]["near"] for pair in pairs])
        rounds = np.array([line["forwards"] for line in lines]) - 1
        made = rounds.size * (said.shape[-1] - 1)  # the first comes from the prompt's forward pass
        differs = (said != plain).any(axis=-1)
        return {
            **{"draft": name, "texts": rounds.size},
            "tokens a forward": made / int(rounds.sum()),
            "positions a token": lines[0]["nodes"] * int(rounds.sum()) / made,
            "draft model's forwards a token": int(np.sum([line["small"] for line in lines])) / made,
            "texts that differ": int(differs.sum()),
            "of these with a near-tie": int((differs & (near > 0)).sum()),
            "texts with a near-tie": int((near > 0).sum()),
            "time": summary([a["seconds"] / b["seconds"] for a, b in pairs]),
            "processor time": summary([a["cpu"] / b["cpu"] for a, b in pairs]),
        }


def _moved(params, mu):
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    signs = (jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True))
    return treedef.unflatten([x + mu * z for x, z in zip(leaves, signs, strict=True)])


def _smollm2(batch):
    model = lm.smollm2()
    return model, partial(_batches, model.tokenizer, batch)


def _batches(tokenizer, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens `(batch, LONGEST)` and lengths; the tasks take turns."""
    import reasoning_gym

    sets = [reasoning_gym.create_dataset(task, size=1000, seed=0) for task in TASKS]
    prompts = (each[i]["question"] for i in range(1000) for each in sets)
    rows = (tokenizer.encode(CHAT.format(prompt)).ids for prompt in prompts)
    short = (row for row in rows if len(row) <= LONGEST)
    while True:
        some = [next(short) for _ in range(batch)]
        tokens = np.array([row + [0] * (LONGEST - len(row)) for row in some], np.int32)
        yield tokens, np.array([len(row) for row in some], np.int32)


def _tiny(batch):
    model = lm.Model(llama, TINY, llama.init(jax.random.key(0), TINY))

    def prompts():
        rng = np.random.default_rng(0)
        while True:
            yield rng.integers(0, 16, (batch, 8)), np.full(batch, 8)

    return model, prompts
