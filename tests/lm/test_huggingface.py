"""Models from local Hugging Face folders, against logits of transformers + torch."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax import lm

FOLDERS = pathlib.Path(__file__).with_name("reference_models")  # see make_reference_models.py
KINDS = ("llama", "qwen2", "gpt2", "opt")
NEWER = ("llama3", "mistral", "qwen3", "phi3", "smollm3", "gemma2", "gemma3")


def reference(kind):
    with np.load(FOLDERS / kind / "logits.npz") as arrays:
        return arrays["tokens"], arrays["logits"]


@pytest.mark.parametrize("kind", KINDS + NEWER)
def test_logits_equal_those_of_transformers(kind):
    tokens, logits = reference(kind)
    model = lm.load(FOLDERS / kind)
    found = jax.jit(model.forward)(model.params, tokens)
    assert np.abs(logits).max() > 1 and found.dtype == jnp.float32
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
    if kind in NEWER:  # the same code
        return
    positions, rows = np.array([6, 2]), np.array([11, 40, 3])
    read = model.forward(model.params, tokens, positions=positions, rows=rows)
    expected = np.stack([logits[0, 6, rows], logits[1, 2, rows]])
    np.testing.assert_allclose(read, expected, rtol=1e-4, atol=1e-4)


def test_masks_are_filled_as_by_transformers():
    tokens, logits = reference("roberta")
    model, seen = lm.load(FOLDERS / "roberta"), tokens != 1
    found = jax.jit(model.forward)(model.params, tokens)
    np.testing.assert_allclose(found[seen], logits[seen], rtol=1e-4, atol=1e-4)
    positions, rows = np.array([6, 2]), np.array([11, 40, 3])
    read = model.forward(model.params, tokens, positions=positions, rows=rows)
    expected = np.stack([logits[0, 6, rows], logits[1, 2, rows]])
    np.testing.assert_allclose(read, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="this model fills masks; call forward"):
        lm.bert.classify(model.config, model.params, tokens)


def test_labels_are_chosen_as_by_transformers():
    tokens, logits = reference("bert")
    model = lm.load(FOLDERS / "bert")
    found = jax.jit(lambda params, x: lm.bert.classify(model.config, params, x))
    np.testing.assert_allclose(found(model.params, tokens), logits, rtol=1e-4, atol=1e-4)
    longer = np.pad(tokens, ((0, 0), (0, 2)))  # padding changes nothing
    np.testing.assert_allclose(found(model.params, longer), logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="chooses one of 3 labels; call classify"):
        model.forward(model.params, tokens)
    with pytest.raises(ValueError, match="zojax.lm.models.bert do not generate"):
        model.generate(model.params, tokens, np.array([7, 5]), 2)


# Qwen2 is Llama's code and OPT is GPT-2's.
FAST = [pytest.param(k, marks=[] if k in ("llama", "gpt2") else pytest.mark.slow) for k in KINDS]


@pytest.mark.parametrize("kind", FAST)
def test_bfloat16_stays_close(kind):
    tokens, logits = reference(kind)
    model = lm.load(FOLDERS / kind, jnp.bfloat16)
    assert {p.dtype for p in jax.tree.leaves(model.params)} == {np.dtype(jnp.bfloat16)}
    found = jax.jit(model.forward)(model.params, tokens)
    assert found.dtype == jnp.float32
    assert np.abs(found - logits).max() < 0.1 * np.abs(logits).max()


def changed(tmp_path, kind, **settings):
    folder = shutil.copytree(FOLDERS / kind, tmp_path / kind)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        ("llama", {"model_type": "mamba"}, "model_type 'mamba'; supported are"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "rope_scaling={'type': 'linear'}"),
        (
            "llama",
            {"rope_scaling": {"type": "yarn", "factor": 2}},
            "supported are rope_type='default'",
        ),
        ("llama", {"attention_bias": True}, "attention_bias=True"),
        (
            "llama3",
            {"rope_parameters": {"rope_type": "llama3", "factor": 2}},
            "needs numbers factor",
        ),
        ("mistral", {"sliding_window": 0}, "sliding_window=0"),
        ("qwen3", {"head_dim": 5}, "head_dim=5; it must be even"),
        ("phi3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers=.*each of 3 layers"),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "must list 3 layers, got 2"),
        ("gemma2", {"attn_logit_softcapping": -1}, "attn_logit_softcapping=-1"),
        ("gemma3", {"rope_parameters": {"full_attention": 3}}, "an object full_attention"),
        ("bert", {"architectures": ["BertModel"]}, "architectures=.*BertForMaskedLM"),
        ("roberta", {"max_position_embeddings": 2}, "it must be above 2"),
        ("llama", {"num_hidden_layers": 4}, "no tensor model.layers.3"),
        ("llama", {"intermediate_size": 48}, r"shape \(24, 40\), expected \(24, 48\)"),
        ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before=False"),
        ("gpt2", {"activation_function": "silu"}, "activation_function 'silu'; supported are"),
    ],
)
def test_what_does_not_fit_is_named(kind, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        lm.load(changed(tmp_path, kind, **settings))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="has no config.json"):
        lm.load(tmp_path)
    shutil.copy(FOLDERS / "gpt2" / "config.json", tmp_path)
    with pytest.raises(ValueError, match="no .*safetensors file"):
        lm.load(tmp_path)
