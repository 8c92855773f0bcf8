"""What is compiled once, and what is looked at again."""

import functools
import gc
import itertools
import warnings
import weakref

import chex
import jax
import jax.numpy as jnp
import pytest

import zojax
from zojax import attacks, search
from zojax._kept import PROGRAMS


class Model:
    """A loss as a method, which reads what may change."""

    def __init__(self):
        self.scale, self.batch, self.traces = 1.0, jnp.ones(2), []

    def loss(self, params):
        self.traces.append(1)
        return self.scale * jnp.sum(params * self.batch)


def value_of(model):
    return float(zojax.value_and_grad(model.loss)(0, jnp.ones(2))[0])


def step_of(model):
    tx = zojax.mezo(0.1)
    params = jnp.ones(2)
    return float(tx.update(None, tx.init(params), params, value_fn=model.loss)[1].value)


@pytest.mark.parametrize("evaluate", [value_of, step_of])
def test_a_method_is_traced_again_when_its_object_changes(evaluate):
    model = Model()
    assert evaluate(model) == pytest.approx(2, rel=1e-3)
    model.scale = 3.0
    assert evaluate(model) == pytest.approx(6, rel=1e-3)
    model.batch = jnp.array([5.0, 7.0])
    assert evaluate(model) == pytest.approx(36, rel=1e-3)


def test_a_method_of_an_object_that_did_not_change_is_traced_once():
    model = Model()
    find = zojax.value_and_grad(model.loss)
    find(0, jnp.ones(2))
    count = len(model.traces)
    find(1, jnp.zeros(2))
    zojax.value_and_grad(model.loss)(2, jnp.ones(2))
    assert count and len(model.traces) == count


def test_a_reference_is_no_array_to_wait_for():
    def loss(w):
        r = jax.new_ref(jnp.zeros_like(w))
        r[...] = w
        return jnp.sum(r[...] ** 2)

    value, grads = zojax.value_and_grad(loss)(0, jnp.ones((3, 4)))
    assert value == pytest.approx(12, rel=1e-3) and jnp.any(grads != 0)


UPDATES = {
    "update": lambda loss: TX.update(None, TX.init(jnp.ones(2)), jnp.ones(2), value_fn=loss),
    "estimate": lambda loss: ESTIMATOR.estimate(0, loss, jnp.ones(2)),
    "value_and_grad": lambda loss: zojax.value_and_grad(loss)(0, jnp.ones(2)),
    "minimize": lambda loss: zojax.minimize(loss, jnp.ones(2), TX, num_steps=2),
    "search": lambda loss: search.minimize(loss, SPACE, ALGORITHM, budget=5, key=0),
    "search in parts": lambda loss: search.minimize(
        loss, SPACE, ALGORITHM, budget=5, key=0, init_points=[jnp.zeros(2)], callback=print
    ),
    "search on the host": lambda loss: search.minimize(
        loss, SPACE, ALGORITHM, budget=5, key=0, jit=False
    ),
    "attack": lambda loss: attacks.square(
        0, jax.vmap(lambda x: loss(x) * jnp.arange(3.0)), IMAGES, jnp.zeros(4, int), 0.1, budget=5
    ),
}
TX, ESTIMATOR = zojax.mezo(0.1), zojax.estimator()
SPACE, ALGORITHM, IMAGES = search.uniform(-1, 1, (2,)), search.random_search(), jnp.ones((4, 3, 3))


class Holder:
    """A loss as an object, which holds an array."""

    def __init__(self, batch):
        self.batch, self.calls = batch, 0

    def __call__(self, x):
        self.calls += 1
        return jnp.sum(x) + jnp.mean(self.batch)


KINDS = {
    "function": lambda batch: lambda x: jnp.sum(x) + jnp.mean(batch),
    "object": Holder,
    "method": lambda batch: Holder(batch).__call__,
}


@pytest.mark.parametrize(
    "name, kind",
    list(zip(UPDATES, itertools.cycle(KINDS))),  # noqa: B905
)
def test_programs_do_not_keep_the_arrays_of_a_loss_that_is_gone(name, kind):
    def call():
        batch = jnp.full(1 << 10, 3.0)
        UPDATES[name](KINDS[kind](batch))
        return weakref.ref(batch)

    gone = [call() for _ in range(2)]
    gc.collect()
    assert [reference() for reference in gone] == [None] * 2


@pytest.mark.parametrize("name", ["update", "estimate", "value_and_grad"])
def test_an_object_that_counts_its_calls_is_traced_once(name):
    loss = Holder(jnp.ones(3))
    UPDATES[name](loss)
    count = loss.calls
    UPDATES[name](loss)
    assert loss.calls == count > 0


def living_programs():
    gc.collect()
    return len(jax.devices()[0].client.live_executables())


# Where the key of a program alone differs, the cache on disk saves all but the first compilation.
MANY = {
    "a static argument": lambda i: zojax.value_and_grad(at)(0, jnp.ones(2), i),
    "budget": lambda i: search.minimize(bowl, SPACE, ALGORITHM, budget=i, key=0),
    "space": lambda i: search.minimize(total, named(i), ALGORITHM, budget=5, key=0),
    "on the host": lambda i: search.minimize(
        total, named(i), ALGORITHM, budget=5, key=0, jit=False
    ),
}


def at(x, place):
    del place
    return jnp.sum(x)


def named(i):
    return search.space({f"x{i}": search.uniform(-1, 1)})


def total(point):
    return sum(point.values()) ** 2


def bowl(x):
    return jnp.sum(x**2)


# Each traces some 20 programs: two of the four caches are slow.
KEPT = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("budget", "on the host") else name
    for name in MANY
]


@pytest.mark.parametrize("name", KEPT)
def test_few_programs_of_a_function_are_kept(name):
    for i in range(2, 2 + PROGRAMS):
        MANY[name](i)
    count = living_programs()
    for i in range(100, 104):
        MANY[name](i)
    assert living_programs() <= count


def minimize(loss):
    tx = zojax.mezo(0.1)
    zojax.minimize(loss, jnp.ones(2), tx, num_steps=2)
    return tx.update


def value_and_grad(loss):
    estimator = zojax.estimator(mu=0.1)
    zojax.value_and_grad(loss, estimator)(0, jnp.ones(2))
    return estimator.estimate


@pytest.mark.parametrize("call", [minimize, value_and_grad])
def test_programs_of_a_loss_that_lives_do_not_keep_an_optimizer_that_is_gone(call):
    def loss(x):
        return jnp.sum(x**2)

    gone = [weakref.ref(call(loss)) for _ in range(3)]
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3


def test_a_loss_that_lives_is_traced_once_by_all_who_take_it():
    @chex.assert_max_traces(n=1)
    def loss(x):
        return jnp.sum(x**2)

    for key in range(3):
        zojax.value_and_grad(loss)(key, jnp.ones(2))


def closure(batch):
    return lambda x: jnp.sum(x) + jnp.mean(batch)


def jitted(batch):
    return jax.jit(lambda x: jnp.sum(x) + jnp.mean(batch))


def bound(batch):
    return functools.partial(sum_and_mean, batch)


def sum_and_mean(batch, x):
    return jnp.sum(x) + jnp.mean(batch)


def model_of(batch):
    return lambda images: jnp.tile(jnp.mean(batch), (images.shape[0], 3))


def third_time(call, make, times=4):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            call(make(jnp.ones(3)))
    messages = [str(w.message) for w in caught]
    return [m for m in messages if "is compiled for the third time" in m]


@pytest.mark.parametrize(
    "name, make",
    [
        ("update", closure),
        ("estimate", jitted),
        ("value_and_grad", bound),
        ("minimize", closure),
        ("search", jitted),
    ],
)
def test_a_loss_that_is_made_in_each_step_is_warned_of_once(name, make):
    source, tx = zojax.estimator(), zojax.mezo(0.1)
    call = {
        "update": lambda loss: tx.update(None, tx.init(jnp.ones(2)), jnp.ones(2), value_fn=loss),
        "estimate": lambda loss: source.estimate(0, loss, jnp.ones(2)),
        "value_and_grad": lambda loss: zojax.value_and_grad(loss, source)(0, jnp.ones(2)),
    }.get(name, UPDATES[name])
    (message,) = third_time(call, make)
    code = sum_and_mean.__qualname__ if make is bound else make.__name__
    assert code in message and "test_call.py" in message
    assert "pass what changes as an argument: tx.update(" in message


def test_a_model_that_is_made_for_each_attack_is_warned_of_once():
    def attack(model):
        attacks.square(0, model, IMAGES, jnp.zeros(4, int), 0.1, budget=3)

    assert len(third_time(attack, model_of)) == 1


SILENT = {
    "two functions": (lambda estimators: estimators[0], closure, 2),
    "one function": (lambda estimators: estimators[0], lambda batch: bowl, 4),
    "another estimator each": (lambda estimators: estimators.pop(), closure, 4),
    "equal texts": (lambda estimators: estimators[0], lambda _: eval("lambda x: jnp.sum(x)"), 4),
    "objects that are called": (lambda estimators: estimators[0], Holder, 4),
}


@pytest.mark.parametrize("case", SILENT)
def test_no_warning_where_no_program_could_be_shared(case):
    choose, make, times = SILENT[case]
    estimators = [zojax.estimator() for _ in range(times)]

    def call(loss):
        choose(estimators).estimate(0, loss, jnp.ones(2))

    assert not third_time(call, make, times)


def test_a_closure_of_a_step_that_is_traced_again_is_not_warned_of():
    tx = zojax.mezo(0.1)

    @jax.jit
    def step(state, batch):
        return tx.update(None, state, jnp.ones(2), value_fn=closure(batch))

    assert not third_time(lambda size: step.trace(tx.init(jnp.ones(2)), size), grow())


def grow():
    sizes = iter(range(1, 9))
    return lambda batch: jnp.ones(next(sizes))
