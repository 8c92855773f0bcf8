"""The scanned model against an unrolled one, and against the reference implementation's logits."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax.lm import _smollm2, llama
from zojax.lm.huggingface._gguf import unpermute

CONFIG = llama.Config(vocabulary=50, width=24, layers=3, heads=6, kv_heads=2, hidden=40)
REFERENCE = pathlib.Path(__file__).with_name("reference_logits.npz")


@pytest.fixture(scope="module")
def params():
    params = llama.init(jax.random.key(0), CONFIG)
    gains = jax.random.split(jax.random.key(1), 5)
    for key, name in zip(gains, ("attention_norm", "mlp_norm"), strict=False):
        params["layers"][name] += 0.3 * jax.random.normal(key, (3, 24))
    for key, name in zip(gains[2:], ("attention_shift", "mlp_shift"), strict=False):
        params["layers"][name] = 0.3 * jax.random.normal(key, (3, 24))
    params["norm"] += 0.3 * jax.random.normal(gains[4], (24,))
    return params


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, 50, (2, 7))


def plain_forward(config, params, tokens):
    """One sequence, in float64 numpy: loops over layers, heads, queries and rotated pairs."""
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    size = config.width // config.heads

    def norm(x, gain):
        return x / np.sqrt((x * x).mean() + config.epsilon) * gain

    def rotate(head, position):
        out = np.empty(size)
        for i in range(size // 2):
            angle = position * config.rope_theta ** (-2 * i / size)
            rotation = np.exp(1j * angle) * (head[i] + 1j * head[i + size // 2])
            out[i], out[i + size // 2] = rotation.real, rotation.imag
        return out

    def heads(y, matrix, count):
        return (y @ matrix).reshape(len(y), count, size)

    x = params["embed"][tokens]
    for i in range(config.layers):
        layer = {name: array[i] for name, array in params["layers"].items()}
        y = np.stack([norm(row, layer["attention_norm"]) for row in x]) + layer["attention_shift"]
        query = heads(y, layer["query"], config.heads)
        key = heads(y, layer["key"], config.kv_heads)
        value = heads(y, layer["value"], config.kv_heads)
        mixed = np.zeros_like(query)
        for h in range(config.heads):
            shared = h // (config.heads // config.kv_heads)
            for t in range(len(tokens)):
                scores = [
                    rotate(query[t, h], t) @ rotate(key[s, shared], s) / np.sqrt(size)
                    for s in range(t + 1)
                ]
                weights = np.exp(scores) / np.exp(scores).sum()
                mixed[t, h] = weights @ value[: t + 1, shared]
        x = x + mixed.reshape(len(tokens), -1) @ layer["output"]
        y = np.stack([norm(row, layer["mlp_norm"]) for row in x]) + layer["mlp_shift"]
        gate = y @ layer["gate"]
        x = x + (gate / (1 + np.exp(-gate)) * (y @ layer["up"])) @ layer["down"]
    return np.stack([norm(row, params["norm"]) for row in x]) @ params["embed"].T


def test_forward_equals_an_unrolled_reference(params, tokens):
    expected = np.stack([plain_forward(CONFIG, params, row) for row in tokens])
    found = llama.forward(CONFIG, params, tokens)
    assert found.shape == (2, 7, 50) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


def test_no_position_sees_a_later_one(params, tokens):
    changed = tokens.copy()
    changed[:, 4:] += 1
    changed %= 50
    before = llama.forward(CONFIG, params, tokens)
    after = llama.forward(CONFIG, params, changed)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 0.1


def test_padding_on_the_right_changes_nothing(params, tokens):
    padded = np.pad(tokens, ((0, 0), (0, 5)), constant_values=3)
    before = llama.forward(CONFIG, params, tokens)
    after = llama.forward(CONFIG, params, padded)
    np.testing.assert_allclose(before, after[:, :7], rtol=1e-5, atol=1e-5)


def test_positions_and_rows_select_from_all_logits(params, tokens):
    whole = llama.forward(CONFIG, params, tokens)
    positions, rows = np.array([6, 2]), np.array([11, 40, 3])
    read = llama.forward(CONFIG, params, tokens, positions=positions, rows=rows)
    expected = np.stack([whole[0, 6, rows], whole[1, 2, rows]])
    np.testing.assert_allclose(read, expected, rtol=1e-5, atol=1e-5)


def test_a_stack_runs_in_parts(params, tokens):
    lower = jax.tree.map(lambda w: w[:1], params["layers"])
    upper = jax.tree.map(lambda w: w[1:], params["layers"])
    x = params["embed"][tokens]
    whole = llama.blocks(CONFIG, params["layers"], x)
    parts = llama.blocks(CONFIG, upper, llama.blocks(CONFIG, lower, x))
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_close(params, tokens):
    low = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    found = llama.forward(CONFIG, low, tokens)
    exact = llama.forward(CONFIG, jax.tree.map(lambda p: p.astype(jnp.float32), low), tokens)
    assert found.dtype == jnp.float32
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()


def test_init_has_the_documented_shapes():
    found = jax.tree.map(jnp.shape, llama.init(jax.random.key(0), CONFIG))
    assert found == llama.shapes(CONFIG)


def test_unpermute_restores_the_half_split_order():
    size, heads = 8, 2
    half_split = np.arange(heads * size, dtype=np.float32)[:, None] * np.ones(3)
    interleaved = [
        row
        for h in range(heads)
        for i in range(size // 2)
        for row in (h * size + i, h * size + i + size // 2)
    ]
    np.testing.assert_array_equal(unpermute(half_split[interleaved], heads), half_split)


@pytest.fixture(scope="module")
def smollm2():
    return _smollm2.smollm2()


@pytest.mark.slow
@pytest.mark.parametrize("prompt", [0, 1])
def test_logits_equal_those_of_transformers(smollm2, prompt):
    with np.load(REFERENCE) as reference:  # see make_reference_logits.py
        tokens, logits = reference[f"tokens_{prompt}"], reference[f"logits_{prompt}"]
        rows = reference["rows"]
    found = llama.forward(
        _smollm2.CONFIG,
        smollm2.params,
        tokens[None],
        positions=np.array([len(tokens) - 1]),
        rows=rows,
    )
    np.testing.assert_allclose(found[0], logits, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_tokens_equal_those_of_transformers(smollm2):
    prompt = "Review: It's a charming 1999 film, and often very funny.\nSentiment:"
    with np.load(REFERENCE) as reference:
        assert smollm2.tokenizer.encode(prompt).ids == reference["tokens_1"].tolist()


@pytest.mark.slow
def test_the_capital_of_france(smollm2):
    params, tokenizer = smollm2.params, smollm2.tokenizer
    tokens = np.array([tokenizer.encode("The capital of France is").ids])
    last = llama.forward(_smollm2.CONFIG, params, tokens)[0, -1]
    assert tokenizer.decode([int(last.argmax())]) == " Paris"
