"""GGUF files, as llama.cpp writes them, against the weights that they were made from."""

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import lm
from zojax.lm import llama

CONFIG = llama.Config(64, 64, 2, 2, 1, 32, rope_theta=5e4, epsilon=1e-6)
WORDS = [*map(chr, range(33, 93)), "Ġ", "BA", "<s>", "</s>"]
NAMES = {"query": "attn_q", "key": "attn_k", "value": "attn_v", "output": "attn_output"}
NAMES |= {"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
NAMES |= {"attention_norm": "attn_norm", "mlp_norm": "ffn_norm"}
TYPES = ("Q8_0", "Q4_0", "Q4_1", "F32", "BF16")
Q8, Q4, Q4_1, F32, BF16 = (getattr(gguf.GGMLQuantizationType, n) for n in TYPES)


def permuted(weight, heads):
    """Rows as the rotation of llama.cpp pairs them."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, -1)


def write(path, kind="llama", quantized=F32, biases=False, drop=(), **header):
    """A random model; returns its parameters after quantization."""
    params = jax.tree.map(np.array, llama.init(jax.random.key(0), CONFIG))
    writer, traits = gguf.GGUFWriter(path, kind), gguf.quants
    writer.add_block_count(CONFIG.layers)
    writer.add_embedding_length(CONFIG.width)
    writer.add_feed_forward_length(CONFIG.hidden)
    writer.add_head_count(CONFIG.heads)
    writer.add_head_count_kv(CONFIG.kv_heads)
    writer.add_rope_freq_base(CONFIG.rope_theta)
    writer.add_layer_norm_rms_eps(CONFIG.epsilon)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(header.get("pre", "smollm"))
    writer.add_token_list(WORDS)
    writer.add_token_merges(["B A"])
    writer.add_token_types([1] * 62 + [3, 3])
    writer.add_bos_token_id(62)
    writer.add_eos_token_id(63)
    writer.add_add_bos_token(kind == "llama")

    def add(name, array):
        small = array.ndim == 1
        data = traits.quantize(array, F32 if small else quantized)
        writer.add_tensor(name, data, raw_dtype=F32 if small else quantized)
        return traits.dequantize(data, F32 if small else quantized).astype(np.float32)

    params["embed"] = add("token_embd.weight", params["embed"])
    params["norm"] = add("output_norm.weight", params["norm"])
    if biases:
        shapes = llama.optional_shapes(CONFIG)
        draw = np.random.default_rng(0).standard_normal
        for name in ("query_bias", "key_bias", "value_bias"):
            params["layers"][name] = draw(shapes[name], np.float32)
    for name, stack in params["layers"].items():
        for i in range(CONFIG.layers):
            theirs = f"blk.{i}.{NAMES[name.removesuffix('_bias')]}"
            array = np.ascontiguousarray(stack[i].T)
            heads = {"query": CONFIG.heads, "key": CONFIG.kv_heads}.get(name)
            if name in drop:
                continue
            if heads and kind == "llama":
                array = np.ascontiguousarray(permuted(array, heads))
                kept = add(f"{theirs}.weight", array)
                size = CONFIG.size
                order = permuted(np.arange(heads * size)[:, None], heads)[:, 0]
                stack[i] = kept[np.argsort(order)].T
            else:
                ending = "bias" if name.endswith("_bias") else "weight"
                stack[i] = add(f"{theirs}.{ending}", array).T
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return params


@pytest.mark.parametrize(
    "kind, quantized", [("llama", Q4), ("llama", Q8), ("qwen2", F32), ("qwen2", BF16)]
)
def test_weights_are_those_of_the_file(kind, quantized, tmp_path):
    path = tmp_path / "model.gguf"
    expected = write(path, kind, quantized, biases=kind == "qwen2")
    model = lm.load(path)
    assert model.config == CONFIG and model.stop == 63
    assert jax.tree.structure(model.params) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, model.params, expected)


@pytest.mark.parametrize("quantized, bits", [(Q4, 4.5), (Q4_1, 5), (Q8, 8.5), (BF16, 32)])
def test_blocks_are_those_of_the_file(quantized, bits, tmp_path):
    path = tmp_path / "model.gguf"
    expected = write(path, "llama", quantized)
    params = lm.load(path, quantized=True).params
    query, embed = params["layers"]["query"], params["embed"]
    assert query.shape == expected["layers"]["query"].shape and query.ndim == 3
    assert sum(x.nbytes for x in jax.tree.leaves(query)) == 2 * 64 * 64 * bits / 8
    for name, stack in expected["layers"].items():
        np.testing.assert_array_equal(jnp.asarray(params["layers"][name]), stack)
    np.testing.assert_array_equal(
        jnp.asarray(embed[np.array([[5, 1]])]), expected["embed"][[[5, 1]]]
    )


def test_a_quantised_model_has_the_logits_of_its_arrays(tmp_path):
    path, tokens = tmp_path / "model.gguf", np.arange(6).reshape(2, 3)
    write(path, "llama", Q4_1)
    model, whole = lm.load(path, quantized=True), lm.load(path)
    found, expected = (jax.jit(m.forward)(m.params, tokens) for m in (model, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    adapters = lm.lora(model.params["layers"], jax.random.key(0), rank=2)
    adapted = {**model.params, "layers": {**model.params["layers"], **adapters}}
    np.testing.assert_allclose(jax.jit(model.forward)(adapted, tokens), found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pre", ["smollm", "llama-bpe", "qwen2", "gpt-2"])
def test_the_tokenizer_is_that_of_the_file(pre, tmp_path):
    path = tmp_path / "model.gguf"
    write(path, pre=pre)
    tokenizer = lm.load(path).tokenizer
    assert tokenizer.encode("A BA</s>").tokens == ["<s>", "A", "Ġ", "BA", "</s>"]
    assert tokenizer.decode(tokenizer.encode("A BA</s>").ids) == "A BA"


def test_a_file_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    with pytest.raises(ValueError, match="model.gguf is no file"):
        lm.load(path)
    with pytest.raises(ValueError, match="quantized=True is for GGUF files"):
        lm.load(tmp_path, quantized=True)
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match="model.gguf is not a GGUF file, or cut off"):
        lm.load(path)
    write(path, "mamba")
    with pytest.raises(ValueError, match="architecture 'mamba'; supported are llama, qwen2, qwen3"):
        lm.load(path)
    write(path, "qwen2")
    with pytest.raises(ValueError, match="no tensor for model.layers.0.self_attn.q_proj.bias"):
        lm.load(path)
    write(path, biases=True)
    with pytest.raises(ValueError, match="6 tensors that .* does not use, 'blk.0.attn_k.bias'"):
        lm.load(path)
