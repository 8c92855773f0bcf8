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


def reference(kind):
    with np.load(FOLDERS / kind / "logits.npz") as arrays:
        return arrays["tokens"], arrays["logits"]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_those_of_transformers(kind):
    tokens, logits = reference(kind)
    model = lm.load(FOLDERS / kind)
    found = jax.jit(model.forward)(model.params, tokens)
    assert np.abs(logits).max() > 1 and found.dtype == jnp.float32
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
    positions, rows = np.array([6, 2]), np.array([11, 40, 3])
    read = model.forward(model.params, tokens, positions=positions, rows=rows)
    expected = np.stack([logits[0, 6, rows], logits[1, 2, rows]])
    np.testing.assert_allclose(read, expected, rtol=1e-4, atol=1e-4)


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
