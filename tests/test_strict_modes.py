"""Everything public runs under all of JAX's strict modes at once.

They refuse arrays of unequal ranks or dtypes, NaN in a program's results, and a key that is used twice; JAX
checks its own invariants. A public function without a case fails.
"""

import inspect
from contextlib import contextmanager
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zojax
from tests._laws import SHAPINGS, STENCILS
from tests.attacks.table import ATTACKS, CLASSES, X, Y, model, on_the_host
from tests.directions._laws import ADAPTIVE, LAWS
from tests.optimizers._laws import OF_INTEGERS, OPTIMIZERS
from tests.search.algorithms._laws import ALGORITHMS, first_state, run
from zojax import (
    attacks,
    directions,
    implicit,
    noise,
    optimizers,
    search,
    shaping,
    stencils,
    trajectory,
)


@contextmanager
def strict():
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        jax.debug_nans(True),
        jax.enable_checks(True),
        jax.debug_key_reuse(True),
    ):
        yield


PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3, jnp.bfloat16), "n": jnp.int32(1)}
MIXED = search.space({"x": search.uniform(-1, 1, (2,)), "n": search.integers(0, 3)})
CONTINUUM = search.space(search.uniform(-1, 1, (3,)))


MATRIX = {"w": PARAMS["w"]}  # one leaf, where the tree is not the point


def loss(params):
    shifts = jnp.sum(params["b"].astype(jnp.float32)) if "b" in params else 0
    return jnp.sum(params["w"] ** 2) + shifts


def estimate(direction=None):
    zojax.estimator(direction, num_directions=2).estimate(jax.random.key(0), loss, PARAMS)


def ask_and_tell(stencil):
    """The direction draws with JAX, once for the points and once for the gradient."""
    source = zojax.estimator(directions.orthogonal(), stencil, num_directions=2)
    points, asked = source.ask(jax.random.key(0), MATRIX)
    source.tell(asked, jnp.arange(1.0, source.evaluations + 1), state=source.init())


def shape(chosen):
    values = jnp.array([[1.0, 2.0], [3.0, 0.0], [1.0, 1.0], [2.0, 5.0]])
    valid = jnp.array([True, True, False, True])
    chosen.coefficients(chosen.values(values, valid)[:, 0], valid)


def two_steps(tx, params):
    """The states before and after the second."""
    state = tx.init(params)
    for _ in range(2):
        before = state
        _, state = tx.update(None, state, params, value_fn=loss)
    return before, state


def steps_of(law):
    two_steps(law.make(0), MATRIX)


def steps_of_integers(make):
    params = {"integers": jnp.ones((2, 3), jnp.int8), "scales": jnp.ones(3)}
    tx = make(0)
    updates, state = tx.update(
        None,
        tx.init(params),
        params,
        value_fn=lambda p: jnp.sum(p["scales"][None] * jnp.float32(p["integers"])),
    )
    tx.replay(state, zojax.apply_updates(params, updates), state.coefficients)


def steps_and_replay():
    tx = zojax.zeroth_order(optax.adam(0.1))
    before, state = two_steps(tx, PARAMS)
    tx.replay(before, PARAMS, state.coefficients)


def minimized(path=None):
    """A run on the device, recorded, replayed and continued, and a few steps on the host."""
    tx, x0 = zojax.mezo(0.01), {"w": jnp.ones(3)}

    def fun(params):
        return jnp.sum(params["w"] ** 2)

    with trajectory.Recorder(path, tx, x0, note={"data": 1}) as recorder:
        found = zojax.minimize(fun, x0, tx, 4, callback=recorder.callback)
        recorder.close(found.params)
    trajectory.require_note(path, {"data": 1})
    trajectory.note_of(path)
    log = trajectory.load(path)
    trajectory.save(path.with_suffix(".copy"), trajectory.merge(trajectory.truncate(log, 2)))
    # One after the other: together they refuse any `lax.scan` over a key.
    with jax.enable_checks(False):
        trajectory.replay(x0, tx, log)
    with jax.debug_key_reuse(False):
        params, state = trajectory.resume(x0, tx, log)
    zojax.minimize(fun, params, tx, 2, state=state)
    zojax.minimize(lambda params: np.sum(params["w"] ** 2), x0, tx, 2, jit=False)


def searched(name):
    """The program that its laws compile, too: the cache on disk has it."""
    run(*ALGORITHMS[name][:2], first_state(name, jax.random.key(0)))


def searched_by(algorithm, space):
    """Two asks and tells in one program."""

    @jax.jit
    def run(key):
        state = algorithm.init(key, space, 12)
        for _ in range(2):
            x, state = algorithm.ask(space, state)
            state = algorithm.tell(space, state, x, jnp.sum(x**2, axis=1))
        return algorithm.best(state)

    run(jax.random.key(0))


def search_minimize():
    def fun(point, key=None):
        return jnp.sum(point["x"] ** 2) + point["n"].astype(jnp.float32)

    settings = dict(space=MIXED, algorithm=search.random_search(2), budget=6)
    search.minimize(fun, **settings, key=0, repeats=2, with_key=True)
    search.minimize(lambda point: float(point["n"]), **settings, key=0, jit=False)


def asked_for_points():
    tuner = search.ask_tell(MIXED, search.random_search(), budget=4, key=0)
    candidate, state = tuner.ask(tuner.init())
    tuner.best(tuner.tell(state, candidate, 1.0))


def pruned(pruner):
    def fun(x, *, report):
        for step in range(3):
            report(step, float(x[0]))
        return float(x[0])

    settings = dict(algorithm=search.random_search(), budget=4, key=0)
    search.minimize(fun, CONTINUUM, **settings, pruner=pruner)


def plotted():
    pytest.importorskip("matplotlib").use("agg")
    settings = dict(algorithm=search.random_search(), budget=4, key=0)
    search.plot_history(search.minimize(lambda x: float(x[0]), CONTINUUM, **settings, jit=False))


def sampled(domain):
    space = search.space(domain)
    jax.jit(lambda key: space.decode(space.sample(key, 2)))(jax.random.key(0))


def attack(row):
    """The program that its laws compile, too: the cache on disk has it."""
    row.run(key=jax.random.key(0), budget=60)


def attack_elsewhere():
    row = ATTACKS["square_linf"]
    session = attacks.ask_tell(row.rounds(), row.eps, budget=4)
    state = session.init(jax.random.key(0), X, Y)
    while len(points := session.ask(state)):
        state = session.tell(state, on_the_host(model)(points))
    session.result(state)


def smoothed():
    attacks.smoothed(lambda images: jnp.argmax(model(images), axis=1), CLASSES, samples=15)(X)


def noises():
    """Each kind of noise, from a key."""
    seed = noise.make_seed(noise.fold_in(jax.random.key(0), 1))
    for kind in (noise.Signs, noise.Normals, noise.Uniforms):
        noise.row_noise(kind(noise.child_seeds(seed, 0, 1)[0]), (2, 3)).dense()
    noise.low_rank_noise(noise.Signs, seed, [((2,), (3,))], 1)[0].dense()
    noise.lattice_noise(jnp.zeros((2, 3), jnp.uint8), seed, 0.5).dense()


def words():
    """Random words and their values, from a seed."""
    seed = noise.make_seed(jax.random.key(0))
    rows, columns = noise.counters(jnp.arange(2, dtype=jnp.uint32), 3)
    noise.standard_normal(noise.mix(noise.row_keys(seed, rows), columns))
    noise.threefry((seed[0], seed[1]), rows, columns)


def registered():
    """A rule and a view of primitives that do not exist."""
    implicit.rule("none")(lambda context, eqn, w: context.fallback(eqn, w))
    implicit.view("none")(lambda eqn, indices, axes, takes_new: None)


def draw(direction):
    like = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    return direction.draw(direction.frame(jax.random.key(0), 1, like), 0, like)


def evaluated():
    implicit.evaluate(
        lambda w: jnp.sum(jnp.ones((4, 3)) @ w.T),
        jnp.ones((2, 3)),
        draw(directions.low_rank()),
        jnp.float32(0.1),
    )


def evaluated_at_points():
    w, z = jnp.ones((2, 3)), draw(directions.low_rank())
    at = implicit.points(
        lambda p: jnp.sum(p["b"] * 2.0) + jnp.sum(p["w"]), {"w": w, "b": w}, {"w": z, "b": None}
    )
    at({"w": z, "b": None}, jnp.float32(0.1))


def settled_update():
    implicit.settled_update(
        lambda grads, state, params, value: (grads, state), jnp.bool_(True), jnp.float32(1)
    )(jnp.ones(3), jnp.ones(3), jnp.ones(3), jnp.float32(1))


CASES = {
    zojax: {
        "apply_updates": lambda: zojax.apply_updates({"w": jnp.ones(3)}, {"w": jnp.ones(3)}),
        "estimator": estimate,
        "grad": lambda: zojax.grad(loss)(jax.random.key(0), PARAMS),
        "minimize": minimized,
        "value_and_grad": lambda: zojax.value_and_grad(loss)(jax.random.key(0), PARAMS),
        "verdict": lambda: zojax.verdict(zojax.mezo().init(PARAMS)),
        "with_metrics": lambda: two_steps(zojax.with_metrics(zojax.mezo(0.1)), PARAMS),
        "zeroth_order": steps_and_replay,
    },
    # The last variant of each.
    optimizers: {
        **{name.split(",")[0]: partial(steps_of, law) for name, law in OPTIMIZERS.items()},
        **{name: partial(steps_of_integers, make) for name, make in OF_INTEGERS.items()},
    },
    directions: {
        **{name: partial(estimate, law.direction) for name, law in LAWS.items()},
        **{name.split(",")[0]: partial(estimate, law.adaptive) for name, law in ADAPTIVE.items()},
        "newton_schulz": lambda: directions.newton_schulz(PARAMS["w"]),
        "accumulate": lambda: directions.accumulate(directions.normal().draw)(
            jnp.zeros(2, jnp.uint32), jnp.ones(2), jax.ShapeDtypeStruct((2, 3), jnp.float32)
        ),
    },
    stencils: {name: partial(ask_and_tell, stencil) for name, stencil in STENCILS.items()},
    shaping: {name: partial(shape, law.shaping) for name, law in SHAPINGS.items()},
    noise: {
        **dict.fromkeys(
            ["child_seeds", "fold_in", "lattice_noise", "low_rank_noise", "make_seed", "row_noise"],
            noises,
        ),
        **dict.fromkeys(["counters", "mix", "row_keys", "standard_normal", "threefry"], words),
    },
    implicit: {
        "evaluate": evaluated,
        "explain": lambda: implicit.explain(loss, PARAMS, directions.low_rank()),
        "points": evaluated_at_points,
        "settled_update": settled_update,
        **dict.fromkeys(["rule", "view"], registered),
    },
    trajectory: dict.fromkeys(
        "Recorder load merge note_of replay require_note resume save truncate".split(), minimized
    ),
    search: {
        # NaN marks free places in its state.
        "ask_tell": asked_for_points,
        "asracos": lambda: searched_by(search.asracos(), MIXED),
        "choice": lambda: sampled(search.choice([1, 2, 3])),
        "cma_es": partial(searched, "cma_es"),
        "coordinate_reset": partial(searched, "coordinate_reset"),
        "coordinate_search": partial(searched, "coordinate_search"),
        "default_algorithm": lambda: search.default_algorithm(MIXED, 12),
        "from_evosax": lambda: searched_by(search.from_evosax("SimpleES", 4), CONTINUUM),
        "integers": lambda: sampled(search.integers(0, 3)),
        "iterated_local_search": partial(searched, "iterated_local_search"),
        "log_integers": lambda: sampled(search.log_integers(1, 8)),
        "log_uniform": lambda: sampled(search.log_uniform(0.1, 1)),
        "median_stopping": lambda: pruned(search.median_stopping(1)),
        "minimize": search_minimize,
        "nsga2": partial(searched, "nsga2"),
        "ordered": lambda: sampled(search.ordered([0.1, 0.2])),
        "permutation": lambda: sampled(search.permutation(3)),
        "plot_history": plotted,
        "ponss": partial(searched, "ponss"),
        "portfolio": partial(searched, "portfolio:small"),
        "poss": partial(searched, "poss"),
        "pposs": partial(searched, "pposs"),
        "quadratic_model": partial(searched, "quadratic_model"),
        "quasi_newton": partial(searched, "quasi_newton"),
        "racos": partial(searched, "racos"),
        "random_search": partial(searched, "random_search"),
        "real": lambda: sampled(search.real()),
        "resample": partial(searched, "resample"),
        "snes": partial(searched, "snes"),
        "space": lambda: sampled(MIXED),
        "sracos": partial(searched, "sracos"),
        "sre": partial(searched, "sre"),
        "ssracos": partial(searched, "ssracos"),
        "successive_halving": lambda: pruned(search.successive_halving(1, 4)),
        "subset": lambda: sampled(search.subset(4, max_size=2)),
        "turbo": partial(searched, "turbo"),
        "uniform": lambda: sampled(search.uniform(-1, 1, (2,))),
    },
    attacks: {
        "ask_tell": attack_elsewhere,
        "run": lambda: attacks.run(0, ATTACKS["simba_l2"].rounds(), model, X, Y, 0.1, 9),
        "smoothed": smoothed,
        **{row.function.__name__: partial(attack, row) for row in ATTACKS.values()},
    },
}
# A factory of rounds is run by the attack of its name, an optimizer by its package.
INDIRECT = {
    attacks: {name for name in attacks.__all__ if name.endswith("_attack")},
    zojax: set(optimizers.__all__),
}


@pytest.mark.parametrize("module", CASES, ids=lambda module: module.__name__)
def test_every_public_function_has_a_case(module):
    public = {name for name in module.__all__ if inspect.isroutine(getattr(module, name))}
    listed = {name for name in CASES[module] if inspect.isroutine(getattr(module, name))}
    assert listed == public - INDIRECT.get(module, set())


# Several names may share a case.
RUNS = {}
for module, cases in CASES.items():
    for name, case in cases.items():
        RUNS.setdefault(case, f"{module.__name__}.{name}")


def is_minor(name):
    """Whether a method, attack or adaptive direction takes no step that another does not."""
    package, name = name.rsplit(".", 1)
    if package == "zojax.attacks":
        return name in ("sign_opt", "geoda")  # they walk as hop_skip_jump does
    if package not in ("zojax.optimizers", "zojax.directions"):
        return False
    minor = {n.split(",")[0] for n, law in OPTIMIZERS.items() if law.converging is None}
    minor |= {n.split(",")[0] for n in ADAPTIVE}
    return name in minor - {"zo_momentum", "conmezo", "lozo_m", "subspace"}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=pytest.mark.slow if is_minor(name) else ())
        for case, name in RUNS.items()
    ],
)
def test_runs_under_strict_modes(case, tmp_path):
    arguments = [tmp_path / "run.log"] if case is minimized else []
    with strict():
        case(*arguments)


def walled(x):
    """NaN beyond a wall: some directions are left out."""
    total = jnp.sum(x**2)
    return jnp.where(x[0] > 1, jnp.nan, total)


def test_a_loss_that_is_nan_is_found():
    def loss(x):
        return jnp.log(-jnp.sum(x**2))

    estimator, x = zojax.estimator(num_directions=2), jnp.ones(3)
    with jax.debug_nans(True):
        with pytest.raises(FloatingPointError, match="in log"):
            zojax.grad(loss, estimator)(0, x)
        for steps, place in (2, "in log"), (200, "in while"):  # many steps are a loop
            with pytest.raises(FloatingPointError, match=place):
                zojax.minimize(loss, x, zojax.zo_sgd(0.1, estimator), steps)


def test_a_replay_of_directions_that_were_left_out_passes(tmp_path):
    source, x0 = zojax.estimator(stencil=stencils.forward(), num_directions=3), jnp.ones(3)
    tx = zojax.zeroth_order(optax.adam(0.01), source)
    with trajectory.Recorder(tmp_path / "run.log", tx, x0) as recorder:
        found = zojax.minimize(walled, x0, tx, 4, callback=recorder.callback)
        recorder.close(found.params)
    assert 0 < found.skipped < 6 and jnp.all(found.params != x0)
    log = trajectory.load(tmp_path / "run.log")
    with jax.debug_nans(True):
        params, state = trajectory.resume(x0, tx, log)
        tx.replay(state, params, state.coefficients)
    np.testing.assert_array_equal(params, found.params)
