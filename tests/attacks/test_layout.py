"""Images in the caller's layout: the same attack whichever axis holds the channels."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attacks.table import ATTACKS
from zojax import attacks

LAST = jax.random.uniform(jax.random.key(1), (4, 6, 5, 3))  # channels last
FIRST = jnp.moveaxis(LAST, -1, 1)
WEIGHTS = jax.random.normal(jax.random.key(2), (6, 5, 3, 4))


def model(images):
    return jnp.sum(images[..., None] * WEIGHTS, axis=(1, 2, 3))


def model_of_first(images):
    assert images.shape[1:] == (3, 6, 5)
    if isinstance(images, np.ndarray):
        assert images.flags.c_contiguous
    return model(jnp.moveaxis(jnp.asarray(images), 1, -1))


Y = jnp.argmax(model(LAST), axis=1)
STARTS = LAST[jnp.where(Y == Y[0], 1, 0)]  # of another class, for attacks from labels
BUDGET = 25


def assert_same(first, last):
    np.testing.assert_array_equal(first.queries, last.queries)
    np.testing.assert_array_equal(first.success, last.success)
    assert first.adversarial.shape == FIRST.shape
    np.testing.assert_allclose(np.moveaxis(first.adversarial, 1, -1), last.adversarial, atol=1e-6)
    np.testing.assert_allclose(first.norms, last.norms, rtol=1e-5)


LAYOUTS = [pytest.param(n, marks=[] if n == "square_linf" else pytest.mark.slow) for n in ATTACKS]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_changes_nothing_but_the_axes(name):
    row = ATTACKS[name]
    given = dict(y=Y, eps=0.2 * row.eps, budget=BUDGET)
    starts = {"starts": STARTS} if row.rounds().from_labels else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        last = row.run(lambda images: np.asarray(model(images)), LAST, **given, **starts, jit=False)
        given |= {name: jnp.moveaxis(x, -1, 1) for name, x in starts.items()} | {"layout": "nchw"}
        assert_same(row.run(model_of_first, FIRST, **given), last)
        assert_same(row.run(model_of_first, FIRST, **given, jit=False), last)


def test_ask_and_tell_speak_the_layout_of_the_caller():
    session = attacks.ask_tell(attacks.simba_attack(), 0.1, BUDGET, layout="nchw")
    state = session.init(5, FIRST, Y)
    while len(points := session.ask(state)):
        state = session.tell(state, model_of_first(points))
    last = attacks.simba(
        5, lambda images: np.asarray(model(images)), LAST, Y, 0.1, budget=BUDGET, jit=False
    )
    assert_same(session.result(state), last)


def test_channels_that_seem_to_come_first_are_warned_of():
    def flat(images):
        return images.reshape(len(images), -1) @ np.asarray(WEIGHTS).reshape(-1, 4)

    given = dict(key=5, model=flat, y=Y, eps=0.1, budget=1, jit=False)
    message = r"\(4, 3, 6, 5\) is attacked as 5 channels of 3 x 6"
    with pytest.warns(UserWarning, match=message) as caught:
        attacks.simba(x=FIRST, **given)
    assert caught[0].filename == __file__
    session = attacks.ask_tell(attacks.simba_attack(), 0.1, 1)
    with pytest.warns(UserWarning, match="layout='nchw'") as caught:
        session.init(5, FIRST, Y)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attacks.simba(x=FIRST, layout="nhwc", **given)
        attacks.simba(x=LAST, **given)


FUNCTIONS = dict.fromkeys([*(row.function for row in ATTACKS.values()), attacks.ask_tell])


@pytest.mark.parametrize("attack", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_attack_takes_a_layout(attack):
    parameter = inspect.signature(attack).parameters["layout"]
    assert parameter.default is None and parameter.kind is parameter.KEYWORD_ONLY
    assert "layout" in attack.__doc__


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(layout="NCHW"), r"layout must be one of \['nhwc', 'nchw'\] or None, got 'NCHW'"),
        (dict(layout="nchw", x=LAST[..., 0]), r"layout='nchw' needs x of shape .*\(4, 6, 5\)"),
    ],
)
def test_wrong_layouts(change, message):
    with pytest.raises(ValueError, match=message):
        attacks.square(**dict(key=0, model=model, x=LAST, y=Y, eps=0.1) | change)
