"""Hostile model folders and tasks: each loads, or a ValueError names the file.

A small valid folder is changed in one file a run: types swapped, keys dropped or doubled, values huge or
nested, bytes flipped, cut off or replaced by junk.
"""

import collections
import contextlib
import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from zojax import lm
from zojax.lm import llama

CONFIG = llama.Config(vocabulary=32, width=8, layers=2, heads=2, kv_heads=1, hidden=12)
TASK, INDEX = "task.jsonl", "model.safetensors.index.json"
FILES = ("config.json", "tokenizer.json", "model.safetensors", INDEX, TASK)
SWAPS = (
    *(None, True, False, 0, 1, -1, 2, 3, 10**6, 2**31, 2**63, -(2**70), 10**400, 0.5, 1e-300),
    *(1e300, "", "a", "\ud800", "0", "a" * 10**6, [], {}, [[]], [None], {"": {}}),
    *(float("nan"), float("inf")),
)


def valid(folder: Path) -> None:
    """Writes a model with an untied head, its tokenizer and index, and a task."""
    words = ["[UNK]", "</s>", "yes", "no", "good", "bad", *(f"w{i}" for i in range(26))]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=ends)
    tokenizer.enable_padding()
    draw = np.random.default_rng(0).standard_normal
    shapes = llama.shapes(CONFIG) | {"head": (CONFIG.vocabulary, CONFIG.width)}
    params = jax.tree.map(
        lambda shape: draw(shape, np.float32), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )
    lm.save(folder, lm.Model(llama, CONFIG, params, tokenizer, 1))
    header, _ = parts((folder / "model.safetensors").read_bytes())
    places = {name: "model.safetensors" for name in header if name != "__metadata__"}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    rows = [{"text": f"w{i} good", "label": ("yes", "no")[i % 2]} for i in range(12)]
    (folder / TASK).write_text("\n".join(map(json.dumps, rows)))


def parts(data: bytes) -> tuple[dict, bytes]:
    """Header and body of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def changed_bytes(rng: random.Random, data: bytes) -> bytes:
    """Cut off, flipped, with junk inside, doubled, empty, or random throughout."""
    at = rng.randrange(len(data))
    junk = rng.randbytes(rng.choice((1, 8, 64)))
    flipped = bytearray(data)
    for _ in range(rng.choice((1, 4, 32))):
        flipped[rng.randrange(len(data))] = rng.randrange(256)
    nested = rng.choice((b"[", b'{"a":')) * 10**5
    choices = (data[:at], bytes(flipped), data[:at] + junk + data[at:], data + data, b"", junk)
    return rng.choice((*choices, nested, data[:at] + nested))


def changed_tree(rng: random.Random, tree):
    """A JSON value with one node swapped, dropped, renamed or wrapped; `tree` itself may change."""
    holders = [h for h in _nodes(tree) if isinstance(h, (dict, list)) and h]
    holder = rng.choice(holders)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    how = rng.choice(("swap", "swap", "swap", "drop", "wrap", "rename", "deep"))
    if how == "drop":
        del holder[key]
    elif how == "rename" and isinstance(holder, dict):
        holder[rng.choice(("", "x", "lm_head.weight", "model_type"))] = holder.pop(key)
    elif how == "deep":
        for _ in range(500):
            holder[key] = [holder[key]]
    else:
        holder[key] = [holder[key]] if how == "wrap" else rng.choice(SWAPS)
    return tree


def _nodes(tree) -> Iterator:
    yield tree
    for child in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(child, (dict, list)):
            yield from _nodes(child)


def changed_text(rng: random.Random, data: bytes) -> bytes:
    """A JSON file with a change in its tree, or with a key twice."""
    tree = json.loads(data)
    text = json.dumps(changed_tree(rng, tree))
    if rng.random() < 0.1 and text.startswith("{") and len(tree) > 0:
        first = json.dumps(next(iter(tree)))
        text = "{" + f"{first}: {json.dumps(rng.choice(SWAPS))}, " + text[1:]
    return text.encode()


def changed_lines(rng: random.Random, data: bytes) -> bytes:
    """A JSONL file with a change in one line."""
    lines = data.split(b"\n")
    i = rng.randrange(len(lines))
    lines[i] = rng.choice((changed_text, changed_bytes))(rng, lines[i])
    return b"\n".join(lines)


def changed_tensors(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file with a change in its header, or numbers that are not finite."""
    header, body = parts(data)
    if rng.random() < 0.3:
        body = np.frombuffer(body, np.float32).copy()
        body[rng.randrange(len(body))] = rng.choice((np.nan, np.inf, -np.inf))
        body = body.tobytes()
    elif rng.random() < 0.5:
        name = rng.choice(list(header))
        header[name] |= {"dtype": rng.choice(("I32", "U32", "F16", "BF16", "F64", "F4", "C64"))}
    else:
        header = changed_tree(rng, header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


CHANGES = {
    "config.json": (changed_text, changed_text, changed_text, changed_bytes),
    "tokenizer.json": (changed_text, changed_text, changed_bytes),
    "model.safetensors": (changed_tensors, changed_tensors, changed_bytes),
    INDEX: (changed_text, changed_bytes),
    TASK: (changed_lines, changed_bytes),
}


def outcome(folder: Path, name: str) -> tuple[str, str]:
    """The outcome of loading the folder after a change in file `name`, and the message."""
    try:
        with _silent():
            task = lm.jsonl_task(folder, folder / TASK, "full", 0)
    except ValueError as error:
        message = str(error)
        named = str(folder) in message or name in message
        return ("refused" if named and len(message) < 2000 else "wrong"), message
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also a panic of Rust
        return "wrong", f"{type(error).__name__}: {error}"
    finite = all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(task.params))
    return ("accepted" if finite else "wrong"), "" if finite else "weights that are not finite"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Discards stderr, on which Rust prints the stack of a panic."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def attempts(runs: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """(file, outcome, message) of each run."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        valid(folder)
        for _ in range(runs):
            name = rng.choice(FILES)
            before = (folder / name).read_bytes()
            (folder / name).write_bytes(rng.choice(CHANGES[name])(rng, before))
            yield name, *outcome(folder, name)
            (folder / name).write_bytes(before)
        assert outcome(folder, TASK)[0] == "accepted", "the folder was not valid"


def hostile(runs: int, seed: int) -> dict[str, int]:
    """Counts of the outcomes of loading damaged folders.

    `refused` is a ValueError that names the file; `wrong` any other error, or weights that are not finite.
    """
    counts = collections.Counter()
    for name, found, message in attempts(runs, seed):
        counts[found] += 1
        if found == "wrong":
            print(f"{name}: {message[:300]}")
    return {"runs": runs, **{name: counts[name] for name in ("accepted", "refused", "wrong")}}
