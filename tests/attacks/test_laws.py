"""Laws of every attack: the ball, the budget, the stop, independence of the batch, both ways to run."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests._trees import assert_same_bits
from tests.attacks.table import ATTACKS, BUDGET, CLASSES, X, Y, attacked, model, on_the_host
from zojax import attacks
from zojax.attacks._shared import SharedOptions


def some(*names):
    """These attacks by default, the others with -m slow: each compiles programs for such a law."""
    rows = [pytest.param(n, marks=[] if n in names else pytest.mark.slow) for n in ATTACKS]
    return pytest.mark.parametrize("name", rows)


all_rows = pytest.mark.parametrize("name", ATTACKS)
# For laws that share the compiled program. `test_labels.py` runs the walk of these two by NumPy.
every = some(*(name for name in ATTACKS if name not in ("sign_opt", "geoda")))


def assert_lawful(result, eps, norm, y=Y, targeted=False, budget=BUDGET, reach=None):
    """Inside the ball and the box, success as the model says, queries within the budget.

    `reach` is the ball of all queries, if it is larger than that of a success.
    """
    images = np.asarray(result.adversarial, np.float64)
    delta = (images - np.asarray(X, np.float64)).reshape(len(X), -1)
    lengths = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
    assert images.min() >= 0 and images.max() <= 1
    near = lengths <= eps * (1 + 1e-6)
    assert np.all(lengths <= (reach or eps) * (1 + 1e-6))
    np.testing.assert_allclose(result.norms, lengths, rtol=1e-5, atol=1e-7)
    predicted = jnp.argmax(model(result.adversarial), axis=1)
    fooled = np.asarray(predicted == y if targeted else predicted != y)
    np.testing.assert_array_equal(result.success, fooled & near)
    assert np.all(result.queries <= budget) and np.all(result.queries >= 1)


@every
def test_results_are_inside_the_ball_the_box_and_the_budget(name):
    row = ATTACKS[name]
    assert_lawful(attacked(name), row.eps, row.norm, reach=row.reach)
    assert np.mean(attacked(name).success) >= 0.7


@every
def test_targets_are_reached(name):
    row, targets = ATTACKS[name], (Y + 1) % CLASSES
    result = row.run(y=targets, targeted=True)
    assert_lawful(result, row.eps, row.norm, targets, targeted=True, reach=row.reach)
    assert np.mean(result.success) >= 0.4


@some("square_linf")
def test_an_image_alone_is_attacked_as_in_a_batch(name):
    whole = attacked(name)
    for i in (0, 4):
        alone = ATTACKS[name].run(x=X[i : i + 1], y=Y[i : i + 1])
        assert int(alone.queries[0]) == int(whole.queries[i])
        assert bool(alone.success[0]) == bool(whole.success[i])
        np.testing.assert_allclose(alone.adversarial[0], whole.adversarial[i], atol=1e-5)


TRACES = []


def traced(images):
    """The model, which notes the size of each batch that it is traced for."""
    TRACES.append(len(images))
    return model(images)


def in_two_places(**options):
    return ATTACKS["simba_l2"].run(traced, batch_size=2, **options)


def test_the_number_of_places_changes_nothing():
    for a, b in zip(attacked("simba_l2"), in_two_places(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_another_key_budget_radius_or_target_compiles_nothing():
    in_two_places()
    traces = TRACES.count(2)
    for other in (dict(key=1), dict(budget=9), dict(eps=0.1), dict(y=(Y + 1) % 3, targeted=True)):
        in_two_places(**other)
    assert TRACES.count(2) == traces > 0


@every
def test_the_key_changes_the_run(name):
    other = ATTACKS[name].run(key=6)
    assert not np.array_equal(other.adversarial, attacked(name).adversarial)


class Host:
    """A model that JAX cannot trace, and that counts what it is shown."""

    def __init__(self, eps, norm):
        self.queries, self.eps, self.norm = 0, eps, norm

    def on_the_host(self, images):
        return np.asarray(images).sum(axis=(1, 2))

    def __call__(self, images):
        assert isinstance(images, np.ndarray) and images.shape[1:] == X.shape[1:]
        assert images.min() >= 0 and images.max() <= 1
        delta = (images[:, None] - np.asarray(X)).reshape(len(images), len(X), -1)
        far = np.abs(delta).max(2) if self.norm == "linf" else np.linalg.norm(delta, axis=2)
        assert np.all(far.min(axis=1) <= self.eps * (1 + 1e-5))  # every query is an allowed image
        self.queries += len(images)
        return on_the_host(model)(images)


@some("square_linf", "bandits")
def test_a_host_model_sees_as_many_images_as_are_counted(name):
    row = ATTACKS[name]
    host = Host(row.reach, row.norm)
    result = row.run(host, jit=False)
    assert host.queries == int(jnp.sum(result.queries))
    compiled = attacked(name)
    np.testing.assert_array_equal(result.queries, compiled.queries)
    np.testing.assert_allclose(result.adversarial, compiled.adversarial, atol=1e-5)


@some("square_linf", "bandits")
def test_ask_and_tell_give_the_same_result(name):
    row = ATTACKS[name]
    session = attacks.ask_tell(row.rounds(), row.eps, BUDGET)
    state, spent = session.init(5, X, Y), 0
    while len(points := session.ask(state)):
        np.testing.assert_array_equal(points, session.ask(state))  # asking changes nothing
        state = session.tell(state, on_the_host(model)(points))
        spent += len(points)
    result = session.result(state)
    assert spent == int(jnp.sum(result.queries))
    np.testing.assert_array_equal(result.queries, attacked(name).queries)
    assert_lawful(result, row.eps, row.norm, reach=row.reach)


def test_an_attack_runs_inside_jit_where_wrong_images_and_classes_are_unusable():
    @jax.jit
    def run(key, x, y):
        return attacks.square(key, model, x, y, 0.2, "linf", BUDGET, targeted=True)

    key, y = jax.random.key(5), (Y + 1) % CLASSES
    for a, b in zip(run(key, X, y), ATTACKS["square_linf"].run(y=y, targeted=True), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Traced arguments cannot be refused.
    x, y = X.at[1].mul(255).at[2].set(jnp.nan), y.at[3].set(CLASSES).at[4].set(-1)
    result = run(key, x, y)
    all_unusable = np.asarray(result.unusable) == result.queries
    assert all_unusable.tolist() == [False, True, True, True, True, False, False]
    assert not np.any(result.success[1:5]) and np.any(result.success)


@every
def test_misclassified_images_cost_one_query(name):
    result = ATTACKS[name].run(y=(Y + 1) % CLASSES)
    assert np.all(result.queries == 1) and np.all(result.success)
    np.testing.assert_array_equal(result.adversarial, X)


def test_a_budget_of_one_is_spent_on_the_image():
    result = ATTACKS["simba_l2"].run(budget=1)
    assert np.all(result.queries == 1) and not np.any(result.success)


def test_probabilities_serve_as_logits_do():
    row = ATTACKS["square_linf"]

    def probabilities(images):
        return jax.nn.softmax(model(images))

    result = row.run(probabilities, output="probabilities")
    assert_lawful(result, row.eps, row.norm)
    assert np.mean(result.success == attacked("square_linf").success) > 0.8


# One program for all budgets; `square` adapts its schedule.
SQUARE = ATTACKS["square_linf"].rounds()


def test_outputs_that_are_not_finite_are_no_success():
    def broken(images):
        moved = np.any(np.abs(images - 0.5) > 0.01, axis=(1, 2))
        return np.where(moved[:, None], np.nan, np.array([1.0, 0.0, 0.0]))

    grey = jnp.full_like(X, 0.5)
    with pytest.warns(UserWarning, match="39 of 40 for image 0"):
        result = attacks.run(5, SQUARE, broken, grey, 0 * Y, 0.2, budget=40, jit=False)
    assert not np.any(result.success) and np.all(np.isfinite(result.adversarial))


FUNCTIONS = [name for name in attacks.__all__ if inspect.isfunction(getattr(attacks, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_annotated(name):
    signature = inspect.signature(getattr(attacks, name))
    annotations = [p.annotation for p in signature.parameters.values()]
    assert inspect.Signature.empty not in [signature.return_annotation, *annotations]


def test_every_public_attack_is_in_the_table():
    kinds = attacks.Result, attacks.Attack
    returned = {n: inspect.signature(getattr(attacks, n)).return_annotation for n in FUNCTIONS}
    public = {name for name, kind in returned.items() if kind in kinds}
    listed = {f for row in ATTACKS.values() for f in (row.function, row.factory)}
    names = {getattr(f, "func", f).__name__ for f in listed}
    assert names == public - {"run"}  # which takes any attack


@every
def test_run_is_the_attack_of_its_rounds(name):
    row = ATTACKS[name]
    found = attacks.run(5, row.rounds(), model, X, Y, row.eps, BUDGET)
    assert_same_bits(found, attacked(name))


@all_rows
def test_every_argument_is_documented_in_the_order_of_the_signature(name):
    function = ATTACKS[name].function
    arguments = function.__doc__.partition("Args:\n")[2].partition("\n\n")[0]
    documented = re.findall(r"^  (\w+): ", arguments, re.MULTILINE)
    parameters, of_run = inspect.signature(function).parameters, inspect.signature(attacks.run)
    assert documented == list(parameters)
    shared = SharedOptions.__annotations__.keys() - {"output"}
    assert all(parameters[n].default == of_run.parameters[n].default for n in shared)
    assert all(f"\n{title}:\n" in function.__doc__ for title in ("Returns", "Raises", "Warns"))


GOOD = dict(key=5, model=model, x=X, y=Y, eps=0.1, budget=BUDGET)
ERRORS = {
    "pixels of 0 to 255": (dict(x=X * 255), ValueError, r"x must lie in \[0, 1\].*rescale"),
    "a dtype": (dict(x=jnp.float32), TypeError, "x must be an array of numbers"),
    "integer images": (dict(x=np.zeros_like(X, int)), TypeError, "floating point.*divide by 255"),
    "a lone row": (
        dict(x=X[0, 0], y=Y[:6]),
        ValueError,
        "batch of at least one image.*leading axis",
    ),
    "no image": (dict(x=X[:0], y=Y[:0]), ValueError, r"at least one image.*\(0, 6, 6\)"),
    "unknown class": (dict(y=Y + 2), ValueError, "y must hold classes from 0 to 2.* to [34]"),
    "a lone image and its class": (dict(x=X[0], y=Y[0]), ValueError, r"pass x\[None\], y\[None\]"),
    "labels": (dict(model=lambda v: jnp.argmax(model(v), 1)), ValueError, "attacks.smoothed"),
    "too few labels": (dict(y=Y[:3]), ValueError, r"one integer class per image.*\(7,\).*\(3,\)"),
    "float labels": (dict(y=Y * 1.0), ValueError, "one integer class per image.*float32"),
    "no radius": (dict(eps=0.0), ValueError, "eps must be positive.*0.0"),
    "unknown norm": (dict(norm="l1"), ValueError, "norm must be one of.*'l1'"),
    "a radius for every image": (dict(eps=np.full(7, 0.1)), TypeError, "eps must be a number, got"),
    "no budget": (dict(budget=0), ValueError, "budget must be at least 1, got 0"),
    "target in targeted": (dict(targeted=3), TypeError, "targeted must be True or False.*3.*y"),
    "labels only": (dict(output="labels"), ValueError, "labels.*compares scores.*logits"),
    "unknown output": (dict(output="scores"), ValueError, "output must be one of.*'scores'"),
    "no model": (dict(model=None), TypeError, "model must be a function.*None"),
    "one score": (
        dict(model=lambda v: v.sum((1, 2))),
        ValueError,
        r"one row of scores.*\(7,\): .*smoothed",
    ),
    "scores and more": (dict(model=lambda v: (v, v)), TypeError, "an array of scores, got a tuple"),
    "no batch": (dict(batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
    "no window": (dict(p=0.0), ValueError, r"p must be in \(0, 1\], got 0.0"),
    "flat images": (dict(x=X.reshape(7, -1)), ValueError, r"height, width.*\(36,\)"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    change, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        attacks.square(**{**GOOD, **change})


def first_row(images):
    """Scores between -4 and 0: four times the first pixels, negated."""
    return -4 * images[:, 0, :CLASSES]


@pytest.mark.parametrize("jit", [True, False])
def test_what_is_no_probability_is_never_a_success(jit):
    """Log-probabilities are easily passed for probabilities, and all-zero scores have no top class."""
    given = GOOD | {"attack": SQUARE, "model": first_row, "jit": jit, "output": "probabilities"}
    x = X.at[:, 0, :CLASSES].set(jnp.array([0.75, 0.5, 0.125]))
    with pytest.raises(ValueError, match=r"sum to -5.5, and the least is -3.*logits") as caught:
        attacks.run(**given | {"x": x, "y": Y * 0 + 2})
    found = caught.value.partial_result
    assert not np.any(found.success)
    assert np.all(found.queries == 1) and np.all(found.unusable == 1)
    with pytest.raises(ValueError, match="sum to 0, and the least is -?0") as caught:
        attacks.run(**given | {"x": 0 * X, "targeted": True})
    assert not caught.value.partial_result.success.any()


def test_a_model_that_cannot_be_traced_says_how_to_run_it():
    with pytest.raises(jax.errors.TracerArrayConversionError) as caught:
        attacks.square(**GOOD | {"model": Host(0.1, "linf").on_the_host})
    assert any("jit=False" in note for note in caught.value.__notes__)


def test_a_host_model_of_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"one row of scores for each of its 7 images.*\(7,\)"):
        attacks.square(**GOOD | {"model": lambda v: v.sum((1, 2)), "jit": False})


def test_labels_alone_fool_the_model_that_gives_them():
    def label_fn(images):
        return jnp.argmax(model(images), axis=1)

    scores = attacks.smoothed(label_fn, CLASSES, samples=15)
    found = np.asarray(scores(X))
    np.testing.assert_array_equal(np.argmax(found, axis=1), Y)
    np.testing.assert_allclose(np.sum(found, axis=1), 1.0, rtol=1e-6)
    reversed_ = np.asarray(scores(X[::-1]))[::-1]
    np.testing.assert_array_equal(found, reversed_)  # noise belongs to the image
    result = attacks.bandits(5, scores, X, Y, 0.2, "linf", 200, output="probabilities")
    assert_lawful(result, 0.2, "linf", budget=200)
    assert np.mean(result.success) >= 0.5
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        attacks.smoothed(label_fn, CLASSES, samples=0)


def test_a_host_function_may_give_a_list_of_labels():
    def label_fn(images):
        assert isinstance(images, np.ndarray)
        return np.argmax(on_the_host(model)(images), axis=1).tolist()

    scores = attacks.smoothed(label_fn, CLASSES, samples=15)
    given = {"model": scores, "output": "probabilities", "budget": 2, "jit": False}
    assert np.all(attacks.run(**GOOD | given | {"attack": SQUARE}).queries > 1)
    traced = attacks.smoothed(lambda images: jnp.argmax(model(images), axis=1), CLASSES, samples=15)
    np.testing.assert_array_equal(scores(np.asarray(X)), traced(X))


SETTINGS = {
    "half a round": (
        attacks.nes,
        dict(budget=50, num_directions=50),
        "budget must allow the image itself and a round of 100 queries, 101 in all, got 50",
    ),
    "nes": (attacks.nes, dict(mu=0.0), "mu must be positive.*0.0"),
    "zo_sign_sgd": (attacks.zo_sign_sgd, dict(num_directions=0), "num_directions.*least 1, got 0"),
    "a rate": (attacks.zoo, dict(learning_rate=-1.0), "learning_rate must be positive.*-1.0"),
    "zoo": (attacks.zoo, dict(coordinates=40), "coordinates must be at most the 36 .*, got 40"),
    "bandits": (attacks.bandits, dict(tiles=0), "tiles must be at least 1, got 0"),
    "simba": (attacks.simba, dict(step=0.0), "step must be positive.*0"),
    "dct": (attacks.simba_dct, dict(frequencies=2.0), r"frequencies must be in \(0, 1\], got 2.0"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_wrong_settings(case):
    attack, change, message = SETTINGS[case]
    with pytest.raises(ValueError, match=message):
        attack(**GOOD | change)


def test_lists_will_do():
    result = attacks.square(**GOOD | {"x": X.tolist(), "y": Y.tolist()})
    np.testing.assert_array_equal(result.success, attacks.square(**GOOD).success)


class Retrained:
    def __init__(self, weights):
        self.weights = weights

    def predict(self, images):
        return images.reshape(len(images), -1) @ self.weights


@pytest.mark.slow  # two compiles; tests/test_call.py has this law of `compiled_call`
def test_a_model_that_was_trained_again_is_attacked_as_it_is_now():
    weights = np.random.default_rng(0).normal(size=(36, CLASSES)).astype(np.float32)
    net = Retrained(weights)
    attacks.simba(**GOOD | {"model": net.predict})
    net.weights = -weights
    result = attacks.simba(**GOOD | {"model": net.predict})
    fooled = np.argmax(net.predict(np.asarray(result.adversarial)), 1) != np.asarray(Y)
    np.testing.assert_array_equal(result.success, fooled)


def test_an_attack_for_ask_and_tell_must_be_one():
    with pytest.raises(TypeError, match="attack must be an Attack.*square_attack"):
        attacks.ask_tell(attacks.square, 0.1)


@all_rows
def test_attacks_are_in_float32_under_64_bits(name):
    with jax.enable_x64(True):
        x, y = np.asarray(X, np.float64), np.asarray(Y)
        result = jax.eval_shape(lambda x, y: ATTACKS[name].run(x=x, y=y), x, y)
        assert result.adversarial.dtype == jnp.float32
        if name == "nes":  # one that also runs
            assert bool(ATTACKS[name].run(x=x, y=y).success.any())


@pytest.mark.parametrize("name", ["square_linf", "bandits"])
def test_a_class_that_is_ruled_out_can_be_left(name):
    def with_one_more(images):
        scores = on_the_host(model)(images)
        return np.pad(scores, ((0, 0), (0, 1)), constant_values=-np.inf)

    found, expected = ATTACKS[name].run(with_one_more, jit=False), attacked(name)
    np.testing.assert_array_equal(found.success, expected.success)
    assert found.success.any()


# Compiled slowly: the program holds the neighbourhoods twice.
@pytest.mark.parametrize("jit", [pytest.param(True, marks=pytest.mark.slow), False])
def test_labels_that_are_no_class_are_never_adversarial(jit):
    def label_fn(images):
        return jnp.argmax(model(jnp.asarray(images)), axis=1) + CLASSES

    scores = attacks.smoothed(label_fn, CLASSES, samples=15)
    assert np.isnan(scores(X)).all()
    for targeted in (True, False):
        with pytest.warns(UserWarning, match="7 of 7 images were not attacked"):
            given = GOOD | {"model": scores, "y": 0 * Y, "budget": 3, "targeted": targeted}
            result = attacks.run(**given, attack=SQUARE, output="probabilities", jit=jit)
        assert not result.success.any()


def test_scores_are_no_labels():
    with pytest.raises(ValueError, match=r"label_fn must return one int for each of 28.*\(28, 3\)"):
        jax.eval_shape(attacks.smoothed(model, CLASSES, samples=3), X)


@pytest.mark.parametrize("name", ["square_l2", "nes"])
def test_a_huge_radius_allows_every_image(name):
    found = ATTACKS[name].run(eps=1e30)
    assert np.isfinite(found.adversarial).all() and bool(found.success.any())
