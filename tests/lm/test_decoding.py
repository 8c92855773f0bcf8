"""Generation with a cache against running the whole model again for every token."""

import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from zojax import lm

FOLDERS = pathlib.Path(__file__).with_name("reference_models")
KINDS = ("llama", "qwen2", "gpt2", "opt")
WINDOWS = "gemma3", "smollm3", "mistral"  # layers of several kinds, and one kind with a window


def slowly(forward, prompt, new):
    """One row, without a cache; padding on the right is never seen."""
    tokens, gaps = list(prompt), []
    for _ in range(new):
        padded = np.pad(tokens, (0, 13 - len(tokens)))[None]
        logits = forward(padded)[0, len(tokens) - 1]
        best = np.sort(logits)
        gaps.append(best[-1] - best[-2])
        tokens.append(int(np.argmax(logits)))
    return tokens[len(prompt) :], min(gaps)


# Each kind of model once, and each kind of code with and without a prefix.
FAST = {("llama", 0), ("gpt2", 3), ("gemma3", 0)}
CASES = [
    pytest.param(*case, marks=[] if case in FAST else pytest.mark.slow)
    for case in [
        *itertools.product(KINDS, (0, 3)),
        *itertools.product(WINDOWS, (0,)),
        ("gemma3", 3),
    ]
]


@pytest.mark.parametrize("kind, prefix", CASES)
def test_the_cache_changes_nothing_and_rows_do_not_see_one_another(kind, prefix):
    model = lm.load(FOLDERS / kind)
    params, lengths = model.params, np.array([7, 3, 1])
    tokens = np.random.default_rng(1).integers(0, 61, (3, 7))
    if prefix:
        made = lm.prefix(model, params, np.arange(prefix) + 5)
        made = jax.tree.map(lambda a: a + 0.1, made)  # no token has these
        params = {**params, "layers": {**params["layers"], **made}}
    got = jax.jit(lambda p, t: model.generate(p, t, lengths, 6))(params, tokens)
    forward = jax.jit(lambda tokens: model.forward(params, tokens))
    expected = [slowly(forward, row[:n], 6) for row, n in zip(tokens, lengths, strict=True)]
    assert min(gap for _, gap in expected) > 1e-4  # no choice hangs on rounding
    assert got.tolist() == [row for row, _ in expected]
    assert len({tuple(row) for row in got.tolist()}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_is_what_its_tokens_would_be_in_front(kind):
    model = lm.load(FOLDERS / kind)
    front, tokens = np.array([9, 4, 31]), np.random.default_rng(0).integers(0, 61, (2, 6))
    made, forward = lm.prefix(model, model.params, front), jax.jit(model.forward)
    params = {**model.params, "layers": {**model.params["layers"], **made}}
    whole = np.concatenate([np.broadcast_to(front, (2, 3)), tokens], axis=1)
    expected = forward(model.params, whole)[:, 3:]
    np.testing.assert_allclose(forward(params, tokens), expected, rtol=1e-4, atol=1e-4)
    # Six tokens and three of padding, which changes nothing: the program of `whole`.
    padded = np.pad(tokens, [(0, 0), (0, 3)])
    assert np.abs(forward(model.params, padded)[:, :6] - expected).max() > 1e-2


# Each pair compiles long. tests/implicit has the forward pass of all models; signs generate on Llama
# in the training on F1 of test_completions.py.
PAIRS = [
    pytest.param("llama", "low_rank"),
    pytest.param("gpt2", "rademacher", marks=pytest.mark.slow),
    pytest.param("llama", "rademacher", marks=pytest.mark.slow),
    pytest.param("gpt2", "low_rank", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind, direction", PAIRS)
def test_generation_under_a_perturbation_is_that_of_perturbed_parameters(kind, direction):
    model = lm.load(FOLDERS / kind)
    params = jax.tree.map(jnp.asarray, model.params)
    tokens, lengths = np.random.default_rng(1).integers(0, 61, (3, 7)), np.array([7, 3, 1])
    direction = getattr(zojax.directions, direction)()
    noise = direction.draw(direction.frame(jax.random.key(0), 1, params), 0, params)
    moved = jax.jit(lambda: jax.tree.map(lambda p, z: p + 0.05 * z.dense(), params, noise))()

    def generate(params):
        return model.generate(params, tokens, lengths, 6)

    found = jax.jit(lambda: zojax.implicit.evaluate(generate, params, noise, 0.05))()
    np.testing.assert_array_equal(found, jax.jit(generate)(moved))
    assert (found != jax.jit(generate)(params)).any()
    report = zojax.implicit.explain(generate, params, noise)
    assert not report.missing
    layer = max(w[0].nbytes for w in params["layers"].values())
    head = params.get("head", params["embed"])
    assert report.largest_slice <= max(layer, head.nbytes)  # never all layers of a stack
