"""No model passes as robust because its scores cannot be used: counts, warnings, refusals."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attacks import table
from tests.attacks.table import ATTACKS, CLASSES, X, Y, model
from zojax import attacks

BUDGET, SQUARE = 30, ATTACKS["square_linf"].rounds()


def compiled(model, **options):
    return attacks.run(5, SQUARE, model, X, Y, **dict(eps=0.01, budget=BUDGET) | options)


def on_the_host(model, **options):
    return compiled(table.on_the_host(model), jit=False, **options)


def by_ask_and_tell(model, eps=0.01, **options):
    session = attacks.ask_tell(SQUARE, eps, BUDGET, **options)
    state = session.init(5, X, Y)
    while len(points := session.ask(state)):
        state = session.tell(state, table.on_the_host(model)(points))
    return session.result(state)


ways = pytest.mark.parametrize("way", [compiled, on_the_host, by_ask_and_tell])
without_compiling = pytest.mark.parametrize("way", [on_the_host, by_ask_and_tell])


@ways
def test_a_sound_model_is_attacked_without_a_word(way):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = way(model)
        way(model, eps=0.3)
    assert np.all(result.unusable == 0) and np.all(result.flat < 10)


def nan(images):
    return jnp.full((len(images), CLASSES), jnp.nan)


def ruled_out(images):
    return jnp.full((len(images), CLASSES), -jnp.inf)


def one_nan(images):
    return model(images).at[:, 0].set(jnp.nan)


def nan_once_moved(images):
    still = jnp.any(jnp.all(images[:, None] == X, axis=(2, 3)), axis=1)
    return jnp.where(still[:, None], model(images), jnp.nan)


def nearest(images):
    return jnp.argmin(jnp.sum(jnp.abs(images[:, None] - X), axis=(2, 3)), axis=1)


def hard_labels(images):
    return jax.nn.one_hot(Y[nearest(images)], CLASSES)


def rounded(images):
    return jnp.round(model(X)[nearest(images)])


FAULTS = [model, nan, ruled_out, one_nan, nan_once_moved, hard_labels, rounded]


def faulty(images):
    """One fault for each image."""
    scores = jnp.stack([fault(images) for fault in FAULTS])
    return scores[nearest(images), jnp.arange(len(images))]


@ways
def test_scores_that_cannot_be_used_are_counted_and_warned_of(way):
    assert np.all(jnp.argmax(rounded(X), axis=1)[6] == Y[6])
    with pytest.warns(UserWarning) as caught:
        result = way(faulty)
    assert [w.filename for w in caught] == [__file__] * 2
    unusable, flat = (str(w.message) for w in caught)
    assert "4 of 7 images were not attacked" in unusable and "10 of 10 for image 1" in unusable
    assert "2 of 7 images were not attacked: their loss never changed" in flat
    assert "30 queries for image 5" in flat and "attacks.smoothed" in flat
    assert not np.any(result.success[1:])
    assert result.queries[1:].tolist() == [10, 10, 10, 30, 30, 30]  # three are given up
    assert result.unusable.tolist() == [0, 10, 10, 10, 29, 0, 0]
    assert result.flat[1:].tolist() == [0, 0, 0, 0, 29, 29]


def test_a_model_of_nan_alone_is_warned_of_whatever_the_budget():
    session = attacks.ask_tell(SQUARE, 0.01, budget=1)
    state = session.init(5, X, Y)
    state = session.tell(state, nan(session.ask(state)))
    with pytest.warns(UserWarning, match="7 of 7 images were not attacked.*1 of 1 for image 0"):
        session.result(state)


@without_compiling
def test_saturated_probabilities_are_warned_of(way):
    with pytest.warns(UserWarning, match="7 of 7 .* never changed.*need logits"):
        options = {"eps": 1e-4, "output": "probabilities"}
        result = way(lambda images: jax.nn.softmax(1e4 * model(images)), **options)
    assert np.all(result.flat == BUDGET - 1)


@without_compiling
def test_a_radius_that_moves_no_pixel_is_warned_of(way):
    with pytest.warns(UserWarning, match="7 of 7 .* never changed.*a tiny eps"):
        way(lambda images: 1e6 * model(images), eps=1e-12)


IMPROPER = {
    "logits": lambda images: model(images) + 5,
    "negative": lambda images: jnp.array([[1.5, -0.25, -0.25]]).repeat(len(images), 0),
    "sigmoids": lambda images: jax.nn.sigmoid(model(images)),
    "percent": lambda images: 100 * jax.nn.softmax(model(images)),
    "zeros": lambda images: 0 * model(images),
}


@pytest.mark.parametrize("case", IMPROPER)
@without_compiling
def test_what_cannot_be_probabilities_is_refused_after_the_first_query(way, case):
    with pytest.raises(ValueError, match=r"sum to one; those of image 0 sum to .*logits") as caught:
        way(IMPROPER[case], output="probabilities")
    if way is on_the_host:  # elsewhere the caller has the state
        assert caught.value.partial_result.queries.tolist() == [1] * 7


@without_compiling
def test_rounded_probabilities_are_probabilities(way):
    def probabilities(images):
        return jax.nn.softmax(model(images).astype(jnp.bfloat16))

    assert np.all(way(probabilities, eps=0.1, output="probabilities").unusable == 0)


@ways
def test_complex_scores_are_refused(way):
    with pytest.raises(TypeError, match="real numbers, got dtype complex64"):
        way(lambda images: model(images) + 0j)
