"""Damaged and mistyped files: each is refused by a ValueError with the file, the value and a remedy."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.reliability.files import hostile
from zojax import lm
from zojax.lm import llama

FOLDERS = pathlib.Path(__file__).with_name("reference_models")
DEEP = "[" * 10**5
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def copied(tmp_path, kind="llama"):
    return shutil.copytree(FOLDERS / kind, tmp_path / kind)


def refused(folder, *words, load=lm.load):
    """Loads, and looks for words in the error, which is short."""
    with pytest.raises(ValueError) as caught:
        load(folder)
    for word in (str(folder), *words):
        assert word in str(caught.value)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize(
    "kind, settings, words",
    [
        ("llama", {"num_hidden_layers": 2}, ["9 tensors", "does not use", "model.layers.2.input"]),
        ("llama", {"num_hidden_layers": 10**9}, ["no tensor model.layers.3"]),
        ("llama", {"num_hidden_layers": "3"}, ["num_hidden_layers='3'", "an integer"]),
        ("llama", {"hidden_size": 24.0}, ["hidden_size=24.0", "an integer"]),
        ("llama", {"num_key_value_heads": True}, ["num_key_value_heads=True", "an integer"]),
        ("llama", {"vocab_size": []}, ["vocab_size=[]", "an integer"]),
        ("llama", {"vocab_size": None}, ["no 'vocab_size'"]),
        ("llama", {"intermediate_size": 10**400}, ["=1000", "below 2**31"]),
        ("llama", {"num_attention_heads": 5}, ["hidden_size=24", "a multiple of 10"]),
        ("llama", {"num_key_value_heads": 4}, ["num_key_value_heads=4", "must divide 6"]),
        ("llama", {"rope_parameters": None, "rope_theta": 0}, ["rope_theta=0", "from 1 to 1e+30"]),
        ("llama", {"rope_parameters": None, "rope_theta": -1e4}, ["rope_theta=-10000.0"]),
        ("llama", {"rope_parameters": None, "rope_theta": True}, ["rope_theta=True"]),
        ("llama", {"rope_parameters": None, "rope_theta": "1e4"}, ["rope_theta='1e4'"]),
        ("llama", {"rope_theta": 5e5}, ["rope_theta=500000.0 and 10000.0", "one number"]),
        ("llama", {"rope_parameters": []}, ["rope_parameters=[]", "an object"]),
        ("llama", {"rope_parameters": {"rope_theta": [1]}}, ["rope_theta=[1]"]),
        ("llama", {"rms_norm_eps": 0}, ["rms_norm_eps=0", "from 1e-30 to 1"]),
        ("llama", {"rms_norm_eps": -1e-6}, ["rms_norm_eps=-1e-06"]),
        ("llama", {"rms_norm_eps": 1e-300}, ["rms_norm_eps=1e-300"]),
        ("llama", {"rms_norm_eps": {}}, ["rms_norm_eps={}"]),
        ("llama", {"tie_word_embeddings": 0}, ["tie_word_embeddings=0", "true or false"]),
        ("llama", {"tie_word_embeddings": "false"}, ["tie_word_embeddings='false'"]),
        ("llama", {"tie_word_embeddings": None}, ["tie_word_embeddings=None"]),
        ("llama", {"tie_word_embeddings": True}, ["head that differs", "set it to false"]),
        ("llama", {"model_type": ["llama"]}, ["model_type ['llama']", "supported are"]),
        ("llama", {"eos_token_id": "</s>"}, ["eos_token_id='</s>'", "a list of tokens"]),
        ("llama", {"eos_token_id": []}, ["eos_token_id=[]"]),
        ("llama", {"eos_token_id": -1}, ["eos_token_id=-1"]),
        ("qwen2", {"layer_types": ["sliding_attention"] * 3}, ["layer_types", "full_attention"]),
        ("gpt2", {"activation_function": ["relu"]}, ["activation_function ['relu']", "supported"]),
        ("gpt2", {"layer_norm_epsilon": 0.0}, ["layer_norm_epsilon=0.0"]),
        ("gpt2", {"n_head": 5}, ["n_embd=24", "multiple of 5"]),
        ("gpt2", {"n_inner": 0}, ["n_inner=0", "at least 1"]),
        ("gpt2", {"n_layer": 1}, ["24 tensors", "does not use"]),
        ("opt", {"num_attention_heads": 5}, ["hidden_size=24", "multiple of 5"]),
        ("opt", {"num_hidden_layers": 1}, ["32 tensors", "does not use"]),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(kind, settings, words, tmp_path):
    folder = copied(tmp_path, kind)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    refused(folder, *words)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("config.json", DEEP, ["nested too deeply"]),
        ("config.json", '{"model_type": "llama", "rope_theta": NaN}', ["NaN", "not finite"]),
        ("config.json", '{"vocab_size": 1e999}', ["1e999", "not finite"]),
        ("config.json", '{"vocab_size": 61, "vocab_size": 62}', ["'vocab_size' occurs twice"]),
        ("config.json", "\udcff", ["not JSON", "utf-8"]),
        ("config.json", json.dumps("a" * 10**7), ["must hold an object", "'aaa"]),
        ("tokenizer.json", DEEP, ["tokenizer.json is not a tokenizer"]),
        (INDEX, DEEP, ["nested too deeply"]),
        (INDEX, "{}", ["weight_map, got None"]),
        (INDEX, '{"weight_map": ["model.norm.weight"]}', ["weight_map, got ['model.norm.weight']"]),
        (INDEX, '{"weight_map": {}}', ["'lm_head.weight' is in 'no file'", "'model.safetensors'"]),
        (INDEX, '{"weight_map": {"a": 5}}', ["'a' is in 5", "'no file'"]),
    ],
)
def test_a_damaged_json_file_is_refused(name, text, words, tmp_path):
    folder = copied(tmp_path)
    (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    refused(folder, name, *words)


@pytest.mark.parametrize("index", [True, False])
def test_an_index_of_the_same_files_changes_nothing(index, tmp_path):
    folder = copied(tmp_path)
    whole = load_file(folder / WEIGHTS)
    names = sorted(whole)
    (folder / WEIGHTS).unlink()
    for file, part in (("a.safetensors", names[:9]), ("b.safetensors", names[9:])):
        save_file({name: whole[name] for name in part}, folder / file)
    places = {name: f"{'ab'[i >= 9]}.safetensors" for i, name in enumerate(names)}
    if index:
        (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    found, expected = lm.load(folder), lm.load(FOLDERS / "llama")
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)


NORM, GATE = "model.norm.weight", "model.layers.1.mlp.gate_proj.weight"


def with_value(array, value):
    array = array.copy()
    array.ravel()[-1] = value
    return array


@pytest.mark.parametrize(
    "name, change, words",
    [
        (NORM, lambda w: w.astype(np.int32), [NORM, "dtype I32", "quantized"]),
        (GATE, lambda w: w.astype(np.int8), [GATE, "dtype I8"]),
        (GATE, lambda w: w > 0, [GATE, "dtype BOOL"]),
        (GATE, lambda w: w.astype(ml_dtypes.float8_e4m3fn), [GATE, "dtype F8_E4M3"]),
        (GATE, lambda w: with_value(w, np.nan), [GATE, "1 entries", "not finite in float32"]),
        (NORM, lambda w: with_value(w, -np.inf), [NORM, "1 entries", "not finite"]),
        (NORM, lambda w: with_value(w.astype(float), 1e300), [NORM, "1 entries", "not finite"]),
        (NORM, lambda w: np.array(w[0]), [NORM, "has shape (), expected (24,)"]),
        (NORM, lambda w: w[None], [NORM, "has shape (1, 24), expected (24,)"]),
        ("model.norm.bias", lambda w: np.zeros(24, np.float32), ["1 tensors", "model.norm.bias"]),
        ("norm.weight", lambda w: np.zeros(24, np.float32), ["1 tensors", "'norm.weight'"]),
        (NORM, lambda w: None, ["has no tensor model.norm.weight"]),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(name, change, words, tmp_path):
    folder = copied(tmp_path)
    tensors = load_file(folder / WEIGHTS)
    tensors[name] = change(tensors.get(name))
    save_file({n: w for n, w in tensors.items() if w is not None}, folder / WEIGHTS)
    refused(folder, *words)


def test_a_second_file_that_redefines_a_tensor_is_refused(tmp_path):
    folder = copied(tmp_path)
    save_file({NORM: np.zeros(24, np.float32)}, folder / "z.safetensors")
    refused(folder, NORM, "z.safetensors", WEIGHTS, "keep one")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    folder = copied(tmp_path)
    (folder / "z.safetensors").mkdir()
    refused(folder, "z.safetensors is not a safetensors file")
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    refused(folder, "config.json cannot be read: Is a directory")


@pytest.mark.parametrize(
    "kind, name, right, wrong",
    [
        ("gpt2", "transformer.h.1.attn.bias", np.tri(32)[None, None], np.ones((1, 1, 32, 32))),
        ("gpt2", "h.0.attn.masked_bias", np.array(-1e4), np.array(0.0)),
        (
            "llama",
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            1e4 ** -np.array([0, 0.5]),
            1e6 ** -np.array([0, 0.5]),
        ),
    ],
)
def test_a_saved_constant_must_be_the_models(kind, name, right, wrong, tmp_path):
    folder = copied(tmp_path, kind)
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {name: right.astype(np.float32)}, folder / WEIGHTS)
    assert lm.load(folder).params["layers"]
    save_file(tensors | {name: wrong.astype(np.float32)}, folder / WEIGHTS)
    refused(folder, "1 tensors", name)


def test_a_tied_head_may_be_stored_twice(tmp_path):
    folder = copied(tmp_path, "qwen2")
    tensors = load_file(folder / WEIGHTS)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    save_file(tensors, folder / WEIGHTS)
    assert "head" not in lm.load(folder).params


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_what_is_written_reads_back_to_the_bit(kind, dtype, tmp_path):
    """Llama's head is untied, and Qwen2 has biases."""
    model = lm.load(FOLDERS / kind, dtype)
    lm.save(tmp_path / "new", model._replace(tokenizer=None))
    found = lm.load(tmp_path / "new", dtype)
    assert (found.config, found.stop) == (model.config, model.stop)
    assert ("head" in found.params) == (kind == "llama")
    assert jax.tree.structure(found.params) == jax.tree.structure(model.params)
    for a, b in zip(*map(jax.tree.leaves, (found.params, model.params)), strict=True):
        assert a.dtype == dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_parameters_without_a_place_in_the_format_are_not_dropped(tmp_path):
    config = llama.Config(vocabulary=8, width=4, layers=1, heads=1, kv_heads=1, hidden=4)
    shapes, is_shape = llama.shapes(config), lambda x: isinstance(x, tuple)
    params = jax.tree.map(lambda s: np.ones(s, np.float32), shapes, is_leaf=is_shape)
    layers = params["layers"]
    for wrong, message in [
        (params | {"layers": layers | {"attention_shift": layers["mlp_norm"]}}, "attention_shift"),
        (params | {"more": params["norm"]}, "wrong or missing 'more'"),
        (params | {"norm": params["norm"][1:]}, "has the shapes"),
        (params | {"norm": np.ones(4)}, "float64.*cast them"),
    ]:
        with pytest.raises(ValueError, match=message):
            lm.save(tmp_path, lm.Model(llama, config, wrong))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line, quoted",
    [
        (DEEP, "'[[[["),
        ('{"text": ' + DEEP, '\'{"text": [['),
        ('{"text": "' + "a" * 10**7 + '"}', '\'{"text": "aaa'),
        ('{"text": "a", "label": NaN}', "NaN"),
        ('{"text": "a", "label": 1e999}', "1e999"),
        ('{"text": "a", "label": ' + "1" * 5000 + "}", "1111"),
        ('{"text": "a", "label": "\\ud800"}', "ud800"),
        ('{"text": "a", "label": 1, "label": 2}', '"label": 2'),
        ('{"text": "a", "label": [1]}', "[1]"),
        ('["text", "label"]', '["text", "label"]'),
    ],
    ids=lambda value: value[:20],
)
def test_a_bad_line_is_quoted_in_60_characters(line, quoted, tmp_path):
    path = tmp_path / "task.jsonl"
    path.write_text('{"text": "a", "label": 1}\n' + line)
    refused(path, "line 2", quoted, load=lm.read_jsonl)
    with pytest.raises(ValueError) as caught:
        lm.read_jsonl(path)
    assert len(str(caught.value).split("got ", 1)[1]) <= 61


@pytest.mark.parametrize("fault", ["a panic", "an unknown word", "a token too many"])
def test_a_tokenizer_that_cannot_encode_is_refused(fault, tmp_path):
    folder = copied(tmp_path)
    words = {"yes": 0, "no": 1, "a": 100 if fault == "a token too many" else 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    if fault == "a panic":  # in the Rust library: a mark that its own table does not have
        raw = json.loads((folder / "tokenizer.json").read_text())
        single = [{"SpecialToken": {"id": "X", "type_id": 0}}]
        processor = {"type": "TemplateProcessing", "single": single, "pair": []}
        raw["post_processor"] = processor | {"special_tokens": {}}
        (folder / "tokenizer.json").write_text(json.dumps(raw))
    text = "b" if fault == "an unknown word" else "a"
    rows = [{"text": text, "label": ("yes", "no")[i % 2]} for i in range(12)]
    (folder / "task.jsonl").write_text("\n".join(map(json.dumps, rows)))
    message = "belong together" if fault == "a token too many" else "cannot encode"
    with pytest.raises(ValueError, match=f"tokenizer.json.*{message}"):
        lm.jsonl_task(folder, folder / "task.jsonl", "norms", 0, prompt="{}")


def test_random_damage_is_refused_by_name_or_harmless():
    counts = hostile(40, seed=1)
    assert counts["wrong"] == 0 and counts["accepted"] + counts["refused"] == counts["runs"] == 40
    assert counts["refused"] > 20
