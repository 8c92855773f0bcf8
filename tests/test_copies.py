"""Copies compute the same bits: by pickle, cloudpickle and copy.deepcopy, used before or not."""

import copy
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from tests._trees import assert_same_bits
from tests.attacks.table import ATTACKS
from zojax import attacks, directions, search, shaping, stencils

pytestmark = pytest.mark.optimized

X = jnp.array([1.0, -2.0, 0.5])
IMAGES = np.linspace(0.1, 0.9, 32, dtype=np.float32).reshape(2, 4, 4)
SPACE = search.space({"x": search.uniform(-1, 1, (2,)), "kind": search.choice(["a", "b"])})
SUBSETS = search.space(search.subset(6, max_size=2))


def loss(x):
    return jnp.sum(x**2 * jnp.arange(3.0))


def reloaded(dumps, value):
    return pickle.loads(dumps(value))


COPIES = {
    "pickle": partial(reloaded, pickle.dumps),
    "cloudpickle": partial(reloaded, cloudpickle.dumps),
    "deepcopy": copy.deepcopy,
}
# Factories of optax, of searches and of attacks return closures, which pickle does not take.
OF_CLOSURES = {name: COPIES[name] for name in ("cloudpickle", "deepcopy")}


def estimates(source):
    """What each function of an estimator computes."""
    found = source.estimate(3, loss, X, state=source.init())
    points, asked = source.ask(4, X)
    concluded = source.conclude(asked, jax.vmap(loss)(points), source.init())
    return found, concluded, source.combine(3, X, found.coefficients)


def updates(tx):
    """A step by each of the ways."""
    state = tx.init(X)
    update, after = tx.update(None, state, X, value_fn=loss)
    points, _ = tx.estimator.ask(jax.random.fold_in(state.rng_key, 0), X)
    told, _ = tx.update(None, state, X, values=jax.vmap(loss)(points))
    return update, after, told, tx.replay(state, X, after.coefficients, after.value)


def gradients(grad):
    return grad(5, X)


def rounds(session):
    """An attack of a few queries on the totals of images."""
    state = session.init(6, IMAGES, np.zeros(2, int))
    while len(asked := session.ask(state)):
        total = asked.sum(axis=(1, 2))
        state = session.tell(state, np.stack([total, 8 - total], axis=1))
    return session.result(state)


def found(algorithm):
    result = search.minimize(lambda p: jnp.sum(p["x"] ** 2), SPACE, algorithm, budget=6, key=7)
    return result.best_value, result.history.points["x"]


def sampled(space):
    return space.sample(8, 3), space.encode(space.point(space.low))


def labels(images):
    return (np.asarray(images).sum(axis=(1, 2)) > 8).astype(int)


USED = {
    "estimator": (lambda: zojax.estimator(num_directions=2), estimates, COPIES),
    "grad": (lambda: zojax.grad(loss), gradients, COPIES),
    "value_and_grad": (lambda: zojax.value_and_grad(loss), gradients, COPIES),
    "optimizer": (lambda: zojax.open_es(population=4, key=1), updates, OF_CLOSURES),
    "session": (lambda: attacks.ask_tell(attacks.square_attack(), 0.1, 6), rounds, OF_CLOSURES),
    "algorithm": (search.sracos, found, OF_CLOSURES),
    "smoothed": (lambda: attacks.smoothed(labels, 2, samples=4), lambda f: f(IMAGES), OF_CLOSURES),
    "space": (lambda: SPACE, sampled, COPIES),
}


@pytest.mark.parametrize("name", USED)
def test_a_copy_computes_the_same_bits_whether_it_was_used_before_or_not(name):
    make, run, ways = USED[name]
    original = make()
    before = [way(original) for way in ways.values()]
    expected = run(original)
    for copied in before:
        assert_same_bits(run(copied), expected)
    after = [way(way(original)) for way in ways.values()]  # each way takes it, one is used
    assert_same_bits(run(after[-1]), expected)


def program(function, *arguments):
    """The text of what a function computes, and its constants."""
    found = jax.make_jaxpr(function)(*arguments)
    return str(found.jaxpr), found.consts


def direction_program(direction):
    like = jax.ShapeDtypeStruct((3, 2), jnp.float32)

    def run(key, c):
        frame = direction.frame(key, 2, like)
        return direction.draw(frame, 1, like).dense(), direction.combine(frame, c, like)

    return program(run, jax.random.key(0), jnp.ones(2))


def shaping_program(chosen):
    def run(v, valid):
        return chosen.values(v, valid), chosen.coefficients(v[:, 0], valid)

    return program(run, jnp.ones((3, 2)), jnp.ones(3, bool))


def algorithm_program(algorithm, space=SPACE):
    def run(key):
        state = algorithm.init(key, space, 20)
        x, state = algorithm.ask(space, state)
        return algorithm.best(algorithm.tell(space, state, x, jnp.sum(x, axis=1)))

    return program(run, jax.random.key(0))


def attack_program(attack):
    x = jnp.asarray(IMAGES[0])

    def run(key, eps):
        state = attack.init(key, x, jnp.float32(1))
        points = attack.propose(key, state, x, eps, jnp.int32(1))
        return attack.update(key, state, x, eps, jnp.int32(1), points, jnp.ones(attack.points))

    return program(run, jax.random.key(0), jnp.float32(0.1))


of_subsets = partial(algorithm_program, space=SUBSETS)
of_a_continuum = partial(algorithm_program, space=search.space(search.uniform(-1, 1, (3,))))
CHOICES = {
    "coordinate": (directions.coordinate(), direction_program, COPIES),
    "hadamard": (directions.hadamard(), direction_program, COPIES),
    "low_rank": (directions.low_rank(2), direction_program, COPIES),
    "masked": (
        directions.masked(directions.normal(), np.array([[True, False]] * 3)),
        direction_program,
        COPIES,
    ),
    "normal": (directions.normal(), direction_program, COPIES),
    "orthogonal": (directions.orthogonal(), direction_program, COPIES),
    "rademacher": (directions.rademacher(), direction_program, COPIES),
    "sparse": (directions.sparse(0.5), direction_program, COPIES),
    "sphere": (directions.sphere(), direction_program, COPIES),
    "baseline": (shaping.baseline(), shaping_program, COPIES),
    "by_std": (shaping.by_std(), shaping_program, COPIES),
    "centered_ranks": (shaping.centered_ranks(), shaping_program, COPIES),
    "clip": (shaping.clip(0.5), shaping_program, COPIES),
    "nes_utilities": (shaping.nes_utilities(), shaping_program, COPIES),
    "none": (shaping.none(), shaping_program, COPIES),
    "standardize": (shaping.standardize(), shaping_program, COPIES),
    "top": (shaping.top(2), shaping_program, COPIES),
    "central": (stencils.central(), lambda stencil: (repr(stencil),), COPIES),
    "asracos": (search.asracos(in_flight=2), algorithm_program, OF_CLOSURES),
    "coordinate_reset": (search.coordinate_reset(), algorithm_program, OF_CLOSURES),
    "coordinate_search": (search.coordinate_search(), algorithm_program, OF_CLOSURES),
    "from_evosax": (search.from_evosax("SimpleES", 4), of_a_continuum, OF_CLOSURES),
    "ponss": (search.ponss(0.1, 2), of_subsets, OF_CLOSURES),
    "cma_es": (search.cma_es(), algorithm_program, OF_CLOSURES),
    "portfolio": (search.portfolio(), algorithm_program, OF_CLOSURES),
    "poss": (search.poss(), of_subsets, OF_CLOSURES),
    "pposs": (search.pposs(2), of_subsets, OF_CLOSURES),
    "quadratic_model": (search.quadratic_model(), algorithm_program, OF_CLOSURES),
    "quasi_newton": (search.quasi_newton(), algorithm_program, OF_CLOSURES),
    "racos": (search.racos(), algorithm_program, OF_CLOSURES),
    "random_search": (search.random_search(2), algorithm_program, OF_CLOSURES),
    "resample": (search.resample(search.random_search(), 2), algorithm_program, OF_CLOSURES),
    "snes": (search.snes(), algorithm_program, OF_CLOSURES),
    "sre": (search.sre(search.random_search(), low_dimension=2), of_a_continuum, OF_CLOSURES),
    "ssracos": (search.ssracos(times=2), algorithm_program, OF_CLOSURES),
    **{name: (row.rounds(), attack_program, OF_CLOSURES) for name, row in ATTACKS.items()},
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_copy_is_the_same_program(name):
    original, describe, ways = CHOICES[name]
    expected = describe(original)
    for way in ways.values():
        found = describe(way(original))
        assert found[0] == expected[0]
        assert_same_bits(found[1:], expected[1:])


def test_a_used_object_computes_the_same_bits_in_another_process(tmp_path):
    tx = zojax.zeroth_order(optax.adam(0.1), zojax.estimator(directions.sphere()), key=2)
    expected = updates(tx)
    (tmp_path / "dump").write_bytes(cloudpickle.dumps((tx, expected)))
    code = (
        "import pickle, sys; from tests.test_copies import assert_same_bits, updates\n"
        "tx, expected = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert_same_bits(updates(tx), expected)\n"
    )
    root = Path(zojax.__file__).parents[1]
    command = [sys.executable, "-c", code, str(tmp_path / "dump")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
