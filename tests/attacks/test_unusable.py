"""No model passes as robust because its scores cannot be used: counts, warnings, refusals."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attacks.test_laws import CLASSES, X, Y, model
from zojax import attacks

BUDGET = 30


def compiled(model, **options):
    return attacks.square(5, model, X, Y, **dict(eps=0.01, budget=BUDGET) | options)


def on_the_host(model, **options):
    return compiled(lambda images: np.asarray(model(jnp.asarray(images))), jit=False, **options)


def by_ask_and_tell(model, eps=0.01, **options):
    session = attacks.ask_tell(attacks.square_attack("linf", BUDGET), eps, BUDGET, **options)
    state = session.init(5, X, Y)
    while len(points := session.ask(state)):
        state = session.tell(state, model(jnp.asarray(points)))
    return session.result(state)


WAYS = [compiled, on_the_host, by_ask_and_tell]
ways = pytest.mark.parametrize("way", WAYS)


@ways
def test_a_sound_model_is_attacked_without_a_word(way):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = way(model)
        way(model, eps=0.3)
    assert np.all(result.unusable == 0) and np.all(result.flat < 10)


def moved(images):
    return jnp.any(images != X[:, None, ...].reshape(7, 1, 6, 6), axis=(2, 3)).all(axis=0)


UNUSABLE = {
    "NaN": lambda images: jnp.full((len(images), CLASSES), jnp.nan),
    "every class ruled out": lambda images: jnp.full((len(images), CLASSES), -jnp.inf),
    "one NaN": lambda images: model(images).at[:, 0].set(jnp.nan),
    "NaN but for the images themselves": lambda images: jnp.where(
        moved(images)[:, None], jnp.nan, model(images)
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
@pytest.mark.parametrize("way", [compiled, by_ask_and_tell])
def test_unusable_scores_are_counted_and_warned_of(way, case):
    with pytest.warns(UserWarning, match="7 of 7 images were not attacked.*unusable") as caught:
        result = way(UNUSABLE[case])
    assert caught[0].filename == __file__
    assert not np.any(result.success)
    late = case == "NaN but for the images themselves"
    assert np.all(result.queries == (BUDGET if late else 10))  # else every image is given up
    assert np.all(result.unusable == result.queries - late)


@ways
def test_one_image_without_usable_scores_is_named(way):
    def broken(images):
        near = jnp.max(jnp.abs(images - X[4]), axis=(1, 2)) < 0.1
        return jnp.where(near[:, None], jnp.nan, model(images))

    with pytest.warns(UserWarning, match="1 of 7 images .* 10 of 10 for image 4"):
        result = way(broken)
    assert result.unusable.tolist() == [0, 0, 0, 0, 10, 0, 0]


FLAT = {
    "hard labels": lambda images: jax.nn.one_hot(jnp.argmax(model(images), axis=1), CLASSES),
    "constant": lambda images: jax.nn.one_hot(Y[:1].repeat(len(images)), CLASSES),
    "saturated": lambda images: jax.nn.softmax(1e4 * model(images)),
}


@pytest.mark.parametrize("case", FLAT)
@ways
def test_scores_that_never_change_are_counted_and_warned_of(way, case):
    options = {"output": "probabilities"} if case == "saturated" else {}
    with pytest.warns(UserWarning, match="never changed.*attacks.smoothed"):
        result = way(FLAT[case], eps=0.001, **options)
    lost = ~np.asarray(result.success)
    assert lost.any() and np.all(result.flat[lost] == BUDGET - 1)


@ways
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
@ways
def test_what_cannot_be_probabilities_is_refused_after_the_first_query(way, case):
    with pytest.raises(ValueError, match=r"sum to one; those of image 0 sum to .*logits") as caught:
        way(IMPROPER[case], output="probabilities")
    if way is not by_ask_and_tell:  # where the caller has the state
        assert caught.value.partial_result.queries.tolist() == [1] * 7


@ways
def test_rounded_probabilities_are_probabilities(way):
    def rounded(images):
        return jax.nn.softmax(model(images).astype(jnp.bfloat16))

    assert np.all(way(rounded, eps=0.1, output="probabilities").unusable == 0)


def test_traced_arguments_that_cannot_be_refused_are_unusable():
    @jax.jit
    def attacked(x, y):
        return attacks.square(5, model, x, y, 0.1, budget=BUDGET, targeted=True)

    bad = X.at[1].mul(255).at[2].set(jnp.nan)
    result = attacked(bad, ((Y + 1) % CLASSES).at[3].set(CLASSES).at[4].set(-1))
    assert (np.asarray(result.unusable) == result.queries).tolist() == [
        i in (1, 2, 3, 4) for i in range(7)
    ]
    assert not np.any(result.success[1:5]) and np.any(result.success)


def test_complex_scores_are_refused():
    for way in WAYS:
        with pytest.raises(TypeError, match="real numbers, got dtype complex64"):
            way(lambda images: model(images) + 0j)
