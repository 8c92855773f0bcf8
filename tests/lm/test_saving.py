"""Folders that zojax writes: models to the bit, adapters as PEFT names them, and generation from both."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.lm.test_completions import make_task
from zojax import lm
from zojax.examples import finetune
from zojax.lm.__main__ import main

FOLDERS = pathlib.Path(__file__).with_name("reference_models")
KINDS = sorted(folder.name for folder in FOLDERS.iterdir())
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
TOKENS = np.random.default_rng(0).integers(3, 61, (2, 7))


def same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        assert x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_any_family_is_saved_to_the_bit(kind, tmp_path):
    source = shutil.copytree(FOLDERS / kind, tmp_path / "source")
    (source / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    model = lm.load(source, jnp.bfloat16)
    moved = jax.tree.map(lambda p: p + jnp.bfloat16(0.5), model.params)
    lm.save(tmp_path / "new", model._replace(params=moved), source)
    found = lm.load(tmp_path / "new", jnp.bfloat16)
    assert found.config == model.config and found.stop == model.stop
    same_bits(found.params, moved)
    before, after = (load_file(f / "model.safetensors") for f in (source, tmp_path / "new"))
    assert {n: w.shape for n, w in before.items()} == {n: w.shape for n, w in after.items()}
    settings = json.loads((tmp_path / "new" / "config.json").read_text())
    assert settings["dtype"] == "bfloat16" and "architectures" in settings
    assert (tmp_path / "new" / "tokenizer_config.json").read_text() == '{"chat_template": "x"}'


def test_a_model_of_another_source_is_refused(tmp_path):
    model = lm.load(FOLDERS / "llama")
    with pytest.raises(ValueError, match="source must be the folder"):
        lm.save(tmp_path, model, FOLDERS / "llama3")
    with pytest.raises(ValueError, match="save to another one"):
        lm.save(FOLDERS / "llama", model, FOLDERS / "llama")
    with pytest.raises(ValueError, match="without source, save writes plain models"):
        lm.save(tmp_path, lm.load(FOLDERS / "gemma2"))
    assert not list(tmp_path.iterdir())


def adapted(kind, targets=("query", "value")):
    """A model with random adapters, and these alone."""
    model = lm.load(FOLDERS / kind)
    made = lm.lora(model.params["layers"], jax.random.key(0), rank=2, targets=targets)
    made = {n: a + 0.1 * jax.random.normal(jax.random.key(1), a.shape) for n, a in made.items()}
    params = lm.combine({"layers": made}, model.params)
    return model, params, {"layers": made}


@pytest.mark.parametrize(
    "kind, targets",
    [("llama", ("query", "value")), ("gpt2", ("query", "value", "down")), ("phi3", ("key", "up"))],
)
def test_adapters_are_saved_with_the_names_of_peft(kind, targets, tmp_path):
    model, params, made = adapted(kind, targets)
    lm.save_adapter(tmp_path, made, FOLDERS / kind)
    found = lm.load_adapter(tmp_path, model, FOLDERS / kind)
    run = jax.jit(model.forward)
    np.testing.assert_allclose(run(found.params, TOKENS), run(params, TOKENS), rtol=1e-5, atol=1e-5)
    assert np.abs(run(params, TOKENS) - run(model.params, TOKENS)).max() > 0.1
    merged = lm.merge(params)
    assert jax.tree.structure(merged) == jax.tree.structure(model.params)
    np.testing.assert_allclose(run(merged, TOKENS), run(params, TOKENS), rtol=1e-4, atol=1e-4)
    tensors, settings = load_file(tmp_path / WEIGHTS), json.loads((tmp_path / CONFIG).read_text())
    assert settings["peft_type"] == "LORA" and settings["lora_alpha"] == settings["r"]
    if kind == "llama":
        same_bits(found.params, params)
        path = "base_model.model.model.layers.2.self_attn.v_proj.lora_B.weight"
        np.testing.assert_array_equal(tensors[path], made["layers"]["value_b"][2].T)
        assert settings["target_modules"] == ["self_attn.q_proj", "self_attn.v_proj"]
    for name, tensor in tensors.items():  # each has its module
        stored = (
            name.removeprefix("base_model.model.").replace(".lora_A", "").replace(".lora_B", "")
        )
        weight = load_file(FOLDERS / kind / "model.safetensors")[stored]
        weight = weight.T if settings["fan_in_fan_out"] else weight
        assert tensor.shape == (
            (settings["r"], weight.shape[1])
            if "lora_A" in name
            else (weight.shape[0], settings["r"])
        )


def test_a_scale_other_than_one_is_in_the_second_factor(tmp_path):
    model, params, made = adapted("llama")
    lm.save_adapter(tmp_path, made, FOLDERS / "llama")
    settings = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(settings | {"lora_alpha": 6, "use_rslora": True}))
    found = lm.load_adapter(tmp_path, model, FOLDERS / "llama").params["layers"]
    expected = made["layers"]["query_b"] * (6 / 2**0.5)
    np.testing.assert_allclose(found["query_b"], expected, rtol=1e-6)


def test_a_prefix_is_saved_with_the_names_of_peft(tmp_path):
    model = lm.load(FOLDERS / "llama")
    made = {"layers": lm.prefix(model, model.params, np.array([9, 4, 31]))}
    lm.save_adapter(tmp_path, made, FOLDERS / "llama")
    found = lm.load_adapter(tmp_path, model, FOLDERS / "llama")
    same_bits(found.params, lm.combine(made, model.params))
    flat = load_file(tmp_path / WEIGHTS)["prompt_embeddings"].reshape(3, 3, 2, 2, 4)
    key = np.asarray(made["layers"]["prefix_key"]).reshape(3, 3, 2, 4)
    np.testing.assert_array_equal(flat[1, 2, 0, 1], key[2, 1, 1])  # position, layer, key, head


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"peft_type": "IA3"}, "adapter_config.json has peft_type 'IA3'; supported are"),
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern="),
        ({"r": 0}, "r=0"),
        ({"r": 4}, r"factors of shapes .* expected \[\(24, 4\), \(4, 24\)\]"),
        ({"lora_alpha": None}, "no 'lora_alpha'"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(settings, message, tmp_path):
    model, _, made = adapted("llama")
    lm.save_adapter(tmp_path, made, FOLDERS / "llama")
    before = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(before | settings))
    with pytest.raises(ValueError, match=message):
        lm.load_adapter(tmp_path, model, FOLDERS / "llama")


def test_tensors_without_a_place_and_other_parameters_are_refused(tmp_path):
    model, params, made = adapted("llama")
    lm.save_adapter(tmp_path, made, FOLDERS / "llama")
    tensors = load_file(tmp_path / WEIGHTS)
    save_file(tensors | {"base_model.model.score.weight": np.zeros(3)}, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match="1 tensors without a place .*score.weight"):
        lm.load_adapter(tmp_path, model, FOLDERS / "llama")
    (tmp_path / WEIGHTS).write_bytes(b"cut")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        lm.load_adapter(tmp_path, model, FOLDERS / "llama")
    with pytest.raises(ValueError, match="`lm.save` writes others"):
        lm.save_adapter(tmp_path, params, FOLDERS / "llama")
    with pytest.raises(ValueError, match="targets must be of .*'output'.* got 'mlp_norm'"):
        lm.lora(model.params["layers"], jax.random.key(0), targets=["mlp_norm"])


def generated(capsys, *options):
    assert main(["generate", "--new", "6", "--json", *map(str, options)]) == 0
    return [json.loads(line)["completion"] for line in capsys.readouterr().out.splitlines()]


def test_a_trained_model_is_saved_and_generates(tmp_path, capsys):
    """The way of a user: a folder and a JSONL file; train, save, generate."""
    given = [*make_task(tmp_path, "llama", rows=40), "--params", "lora", "--steps", "4"]
    given += ["--learning-rate", "0.3", "--mu", "0.1", "--batch", "8", "--out", tmp_path / "x.png"]
    given += ["--save", tmp_path / "tuned", "--save-adapter", tmp_path / "adapter"]
    assert finetune.main([*map(str, given)]) == 0
    printed = capsys.readouterr().out
    assert f"model: {tmp_path / 'tuned'}" in printed and f"adapter: {tmp_path}" in printed
    model = lm.load(tmp_path / "model")
    whole = lm.load_adapter(tmp_path / "adapter", model, tmp_path / "model")
    same_bits(lm.merge(whole.params), lm.load(tmp_path / "tuned").params)
    prompts = ["good w1 :", "bad w2 w3 w4 :"]
    weights = ["--weights", tmp_path / "model"]
    before = generated(capsys, *weights, *prompts)
    by_adapter = generated(capsys, *weights, "--adapter", tmp_path / "adapter", *prompts)
    by_model = generated(capsys, "--weights", tmp_path / "tuned", *prompts, "--draft", "lookup")
    assert by_adapter == by_model != before
    sampled = ["--temperature", "1.5", "--top-k", "20", "--top-p", "0.9"]
    assert generated(capsys, *weights, *sampled, *prompts) != before


@pytest.mark.parametrize(
    "options, message",
    [
        (["--adapter", "folder", "a"], "--adapter folder needs --weights"),
        (["--weights", "nowhere", "a"], "nowhere is no folder"),
        (["--new", "0", "a"], "--new must be 1 at least, got 0"),
        (["--temperature", "-1", "a"], "--temperature must not be negative"),
        (["--weights", str(FOLDERS / "llama"), "a"], "has no tokenizer.json"),
    ],
)
def test_bad_options_end_with_status_2(options, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["generate", *options])
    assert caught.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--save", "x"], "--save 'x' is for --weights"),
        (
            ["--weights", "w", "--task", "t", "--params", "prefix", "--save", "x"],
            "use --save-adapter",
        ),
        (["--weights", "w", "--task", "t", "--save-adapter", "x"], "got norms; use --save"),
        (["--weights", "w", "--task", "t", "--save", "w"], "--save w is --weights"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_the_run(options, message):
    with pytest.raises(ValueError, match=message):
        finetune.settle(finetune.make_parser().parse_args(options))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_what_is_saved(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    model = lm.load(FOLDERS / kind)
    moved = jax.tree.map(
        lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), model.params
    )
    lm.save(tmp_path, model._replace(params=moved), FOLDERS / kind)
    classes = {"bert": "SequenceClassification", "roberta": "MaskedLM"}
    auto = getattr(transformers, f"AutoModelFor{classes.get(kind, 'CausalLM')}")
    theirs = auto.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = theirs(torch.tensor(TOKENS)).logits.numpy()
    run = lm.bert.classify if kind == "bert" else model.module.forward
    found = jax.jit(lambda params: run(model.config, params, TOKENS))(moved)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2", "phi3"])
@pytest.mark.parametrize("what", ["lora", "prefix"])
def test_peft_loads_an_adapter(kind, what, tmp_path):
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    model, params, made = adapted(kind)
    if what == "prefix":
        made = {"layers": lm.prefix(model, model.params, np.array([9, 4, 31]))}
        params = lm.combine(made, model.params)
    lm.save_adapter(tmp_path, made, FOLDERS / kind)
    auto = transformers.AutoModelForCausalLM
    base = auto.from_pretrained(FOLDERS / kind, attn_implementation="eager")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        seen = torch.ones(TOKENS.shape, dtype=torch.long)
        expected = theirs(torch.tensor(TOKENS), attention_mask=seen).logits.numpy()
    found = jax.jit(model.forward)(params, TOKENS)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
