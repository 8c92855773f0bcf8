"""Greedy decoding of reasoning-gym prompts with drafts, beside decoding token by token, in one process.

A step is a batch of prompts. All drafts decode it in turn, so they see the same load of the machine. Each
text is compared with that of plain decoding. A member of a population has the parameters plus `mu` times
signs; "text" drafts the unperturbed model's texts, of `EARLIER` prompts before a smaller batch, too.
`members` of them are low-rank perturbations, side by side; with drafts, finished members leave.

A *replayed* step runs no model: its choice at each place is the next token of the stored plain text. A
draft needs the same forward passes as with the model, since it changes no text.

Each decoded batch is a line of `decoding.jsonl` in the cache folder of zojax, so the same command goes on
where it was stopped. `--rounds 4` decodes four batches, `--rounds 8` four more. Delete the file after a
change of the drafts.
"""

import itertools
import json
import time
from collections.abc import Iterator
from functools import cache, partial
from types import SimpleNamespace

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
# Prompts of a stored batch, and texts of the unperturbed model, those of the batch included.
EARLIER = 16
KEY = "sorted", "new", "batch", "members", "i", "mu", "draft"  # of a stored line
STAY = {8: (6, 3), 64: (48, 24)}  # members that stay when others are finished
SIZES = 0, 1, 3  # of "auto text 8", beside 8
# Processor seconds of a round on 2 cores: of one position; else of the weights, a position, and a row.
ONE, WEIGHTS, POSITION, ROW = 0.045, 0.1, 0.0034, 0.0007


def _seconds(rows: int, size: int) -> float:
    if rows * (1 + size) == 1:
        return ONE
    return WEIGHTS + rows * (ROW + POSITION * (1 + size))


def _auto(text, rows: int) -> drafts.Draft:
    costs = [_seconds(rows, size) / _seconds(rows, 0) for size in (*SIZES, 8)]
    return drafts.auto(drafts.text(text, 8, 0), costs, SIZES)


DRAFTS = {  # (smaller model, unperturbed texts, rows) -> a draft; numbers are tokens of a candidate
    PLAIN: lambda smaller, text, rows: drafts.none(),
    "lookup 8": lambda smaller, text, rows: drafts.lookup(8),
    "pool": lambda smaller, text, rows: drafts.pool(),
    "lookahead": lambda smaller, text, rows: drafts.lookahead(WINDOW, WINDOW),
    "first 10 layers": lambda smaller, text, rows: drafts.model(smaller),
    "Ouroboros, first 10 layers": lambda smaller, text, rows: drafts.ouroboros(
        smaller, window=WINDOW, tried=WINDOW
    ),
    "text 12, 3": lambda smaller, text, rows: drafts.text(text, 12, 3),
    "text 3, 0": lambda smaller, text, rows: drafts.text(text, 3, 0),
    "auto text 8": lambda smaller, text, rows: _auto(text, rows),
}


def build(work):
    """Facts: `drafts`, a summary of each."""
    texts, batches = _Texts(work), itertools.count()
    lines: dict[str, list[dict]] = {name: [] for name in work.names}

    def run():
        i = next(batches)
        text = texts.to_draft(i)
        for name, line in texts.batch(i, text).items():
            lines[name].append(line)

    def facts():
        plain = None if work.replayed else lines[PLAIN]
        return {"drafts": [_summed(name, work.new, lines[name], plain) for name in work.names]}

    return Host(run, facts=facts)


class _Texts:
    """Decoded batches of a work, a JSON line each."""

    def __init__(self, work):
        self.work, self.stored = work, work.batch if work.tiny or work.sorted else EARLIER
        self.path = assets.cache_dir() / ("decoding-tiny.jsonl" if work.tiny else "decoding.jsonl")
        self.lines: dict[tuple, dict] = {}
        self.rows: Iterator[list[int]] | None = None
        self.read: list[list[int]] = []
        if work.tiny:
            self.path.unlink(missing_ok=True)
        for text in self.path.read_text().splitlines() if self.path.exists() else ():
            line = json.loads(text)
            self.lines[tuple(line.get(name) for name in KEY)] = line

    @cache  # noqa: B019, as long as the process
    def model(self) -> lm.Model:
        if self.work.tiny:
            return lm.Model(llama, TINY, llama.init(jax.random.key(0), TINY))
        return lm.smollm2()

    @cache  # noqa: B019
    def programs(self):
        return _Programs(self.model(), self.work.new)

    def prompts(self, batch: int, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens `(batch, width)` and lengths. Sorted prompts halve the width `LONGEST` while they fit."""
        if self.rows is None:
            self.rows = _tiny_prompts() if self.work.tiny else _gym_prompts(self.model().tokenizer)
            if self.work.sorted:
                self.rows = iter(sorted(itertools.islice(self.rows, self.work.sorted), key=len))
        more = (i + 1) * batch - len(self.read)
        self.read += itertools.islice(self.rows, max(more, 0))
        some, width = self.read[i * batch : (i + 1) * batch], LONGEST
        while self.work.sorted and max(map(len, some)) <= width // 2:
            width //= 2
        tokens = np.array([row + [0] * (width - len(row)) for row in some], np.int32)
        return tokens, np.array([len(row) for row in some], np.int32)

    def named(self, batch, members, i, mu, draft) -> tuple:
        return self.work.sorted, self.work.new, batch, members, i, mu, draft

    def line(self, batch, members, i, mu, draft, text=None) -> dict:
        named = self.named(batch, members, i, mu, draft)
        if named not in self.lines:
            if text is None:
                text = np.zeros((max(self.stored, batch), self.work.new), np.int32)
            made = self.programs().run(mu, draft, members, *self.prompts(batch, i), text)
            self.lines[named] = line = dict(zip(KEY, named, strict=True)) | made
            with self.path.open("a") as file:
                print(json.dumps(line), file=file)
        return self.lines[named]

    def batch(self, i: int, text: np.ndarray) -> dict[str, dict]:
        """A line of each draft. If one is missing, all decode: times of two runs are not compared."""
        names, about = self.work.names, (self.work.batch, self.work.members, i, self.work.mu)
        if self.work.replayed:
            return {name: self.replayed(i, name, text) for name in names}
        if not all(self.named(*about, name) in self.lines for name in names):
            for name in names:
                self.lines.pop(self.named(*about, name), None)
        return {name: self.line(*about, name, text) for name in names}

    def plain(self, mu: float, numbers: list[int]) -> np.ndarray:
        """`(N, new)`, the plain texts of these prompts, which are stored in larger batches."""
        places = [divmod(number, self.stored) for number in numbers]
        return np.array([self.line(self.stored, 0, i, mu, PLAIN)["tokens"][k] for i, k in places])

    def to_draft(self, i: int) -> np.ndarray:
        """The unperturbed model's texts of batch i, and of prompts before it; -1 if there is none."""
        batch, first = self.work.batch, i * self.work.batch
        rows = max(self.stored, batch)
        numbers = [*range(first, first + batch), *range(first - 1, -1, -1)][:rows]
        text = np.full((rows, self.work.new), -1, np.int32)
        text[: len(numbers)] = self.plain(0.0, numbers)
        return text

    def replayed(self, i: int, name: str, text: np.ndarray) -> dict:
        batch, members, mu = self.work.batch, self.work.members, self.work.mu
        if members:
            said = np.array(self.line(batch, members, i, mu, PLAIN)["tokens"])
        else:
            said = self.plain(mu, range(i * batch, (i + 1) * batch))[None]
        found = _replayed(name, *self.prompts(batch, i), text, said)
        return {"forwards": np.array(found.forwards), "positions": np.array(found.positions)}


@partial(jax.jit, static_argnums=0)
def _replayed(name, tokens, lengths, text, said):
    """Drafts on models that say `said` `(members, B, new)`."""
    draft = DRAFTS[name](None, text, said.shape[0] * said.shape[1])

    def extend(whole, config, params, new, *, past=None, start=0, tree=None):
        """A choice in place of a residual stream; the cache is empty."""
        del config, params, past
        seen = np.tri(new.shape[1], dtype=bool) if tree is None else tree
        after = jnp.broadcast_to(start, len(new))[:, None] + seen.sum(axis=1)
        choices = jnp.take_along_axis(whole, jnp.minimum(after, whole.shape[1] - 1), axis=1)
        x = jnp.stack([choices, -jnp.ones_like(choices)], axis=-1).astype(jnp.float32)
        return x, jnp.zeros((1, *new.shape, 1))

    def one(said):
        places = lengths[:, None] + np.arange(said.shape[1])
        whole = jnp.pad(tokens, ((0, 0), (0, said.shape[1])))
        whole = whole.at[np.arange(len(whole))[:, None], places].set(said)
        module = SimpleNamespace(
            extend=partial(extend, whole),
            logits=lambda config, params, x: x,
            limit=lambda config: None,
        )
        model = lm.Model(module, None, {"layers": {}})
        options = {"draft": draft, "choose": lambda key, logits: logits[0]}
        found = model.decode(model.params, tokens, lengths, said.shape[1], **options)
        return found._replace(draft=None)

    return jax.vmap(one)(said)


class _Programs:
    """Compiled decodings; one is `(mu, draft)`, with members alone different for each `mu`."""

    def __init__(self, model, new):
        self.model, self.new, self.compiled = model, new, {}
        self.params = jax.tree.map(jnp.asarray, model.params)

    @cache  # noqa: B019, as long as the process
    def moved(self, mu):
        return _moved(self.params, mu)

    def run(self, mu, name, members, tokens, lengths, text) -> dict:
        """The outcome of a batch, with its seconds by clock and of the processor."""
        given = self.moved(mu) if mu and not members else self.params
        given = given, self.params, *(jnp.asarray(a) for a in (tokens, lengths, text))
        key = name, members, tokens.shape, mu if members else 0.0
        if key not in self.compiled:
            run = partial(self._decode, name, mu, members)
            self.compiled[key] = jax.jit(run).lower(*given).compile()
        begin, cpu = time.perf_counter(), time.process_time()
        found = jax.block_until_ready(self.compiled[key](*given))
        seconds = time.perf_counter() - begin, time.process_time() - cpu
        found, small = jax.tree.map(lambda a: np.asarray(a).tolist(), found)
        line = {"tokens": found.tokens, "forwards": found.forwards, "positions": found.positions}
        line |= {"near": found.near_ties, "small": small}
        return line | {"seconds": seconds[0], "cpu": seconds[1]}

    def _decode(self, name, mu, members, params, start, tokens, lengths, text):
        whole = self.model._replace(params=start)
        smaller = drafts.first_layers(whole, min(SHALLOW, whole.config.layers))
        draft = DRAFTS[name](smaller, text, max(members, 1) * len(tokens))
        if not members:
            found = self.model.decode(params, tokens, lengths, self.new, draft=draft)
            own = getattr(found.draft, "own", None)
            small = jnp.zeros_like(found.forwards) if own is None else own.forwards
            return found._replace(draft=None), small
        direction = zojax.directions.low_rank()
        frame = direction.frame(jax.random.key(1), members, start)

        def evaluate(fun, i, *arrays):
            return zojax.implicit.evaluate(fun, start, direction.draw(frame, i, start), mu, *arrays)

        found = lm.decode_members(
            self.model.module,
            self.model.config,
            evaluate,
            members,
            tokens,
            lengths,
            self.new,
            stay=() if name == PLAIN else STAY[members],
            draft=draft,
        )
        return found, jnp.zeros_like(found.forwards)


def _summed(name: str, new: int, lines: list[dict], plain: list[dict] | None) -> dict:
    """Counts over all batches; beside plain decoding, times batch by batch, and texts."""

    def all_of(key, lines=lines):
        return np.array([line[key] for line in lines])

    rounds = all_of("forwards") - 1  # the first token comes from the prompt's forward pass
    made = rounds.size * (new - 1)
    counts = {
        "draft": name,
        "texts": rounds.size,
        "tokens a forward": made / int(rounds.sum()),
        "positions a token": int(all_of("positions").sum()) / made,
    }
    if plain is None:
        return counts
    differs = (all_of("tokens") != all_of("tokens", plain)).any(axis=-1)
    near = all_of("near", plain) > 0
    times = {
        name: summary([a[key] / b[key] for a, b in zip(lines, plain, strict=True)])
        for name, key in (("time", "seconds"), ("processor time", "cpu"))
    }
    beside = {
        "draft model's forwards a token": int(all_of("small").sum()) / made,
        "texts that differ": int(differs.sum()),
        "of these with a near-tie": int((differs & near).sum()),
        "texts with a near-tie": int(near.sum()),
    }
    return counts | times | beside


def _moved(params, mu):
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    signs = (jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True))
    return treedef.unflatten([x + mu * z for x, z in zip(leaves, signs, strict=True)])


def _gym_prompts(tokenizer) -> Iterator[list[int]]:
    """Tokens of prompts; the tasks take turns."""
    import reasoning_gym

    sets = [reasoning_gym.create_dataset(task, size=1000, seed=0) for task in TASKS]
    prompts = (each[i]["question"] for i in range(1000) for each in sets)
    rows = (tokenizer.encode(CHAT.format(prompt)).ids for prompt in prompts)
    return (row for row in rows if len(row) <= LONGEST)


def _tiny_prompts() -> Iterator[list[int]]:
    rng = np.random.default_rng(0)
    while True:
        yield rng.integers(0, 16, 8).tolist()
