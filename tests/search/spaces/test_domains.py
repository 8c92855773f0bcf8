"""Laws of domains, over the built-in ones and some of a user's own."""

import enum
import functools
import inspect
import math
from collections import namedtuple
from dataclasses import dataclass, field
from typing import get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.search.engine._helpers import run
from tests.search.spaces._helpers import sampled
from zojax import search
from zojax.search.engine import once
from zojax.search.spaces import CONTINUOUS, ORDERED, UNORDERED


@dataclass(frozen=True)
class Whole(search.Domain):
    """The whole numbers low ... high, which need no other coordinates than themselves."""

    low: int
    high: int
    kind: int = ORDERED
    shape: tuple[int, ...] = ()

    def decode(self, x):
        return x.astype(int)

    def encode(self, value):
        return np.asarray(value, float)


@dataclass(frozen=True)
class Even(Whole):
    """Those of them that are even."""

    def snap(self, x):
        return x - x % 2

    @property
    def count(self):
        return ((self.high - self.low) // 2 + 1) ** math.prod(self.shape)

    def values(self):
        return np.arange(self.low, self.high + 1.0, 2)


@dataclass(frozen=True)
class Clock(search.Domain):
    """Hours and minutes of a day, in quarters of an hour."""

    shape = (2,)
    kind = ORDERED

    @property
    def low(self):
        return np.array([0, 0])

    @property
    def high(self):
        return np.array([23, 3])

    def decode(self, x):
        return {"hours": x[..., 0].astype(int), "minutes": 15 * x[..., 1].astype(int)}

    def encode(self, value):
        return np.array([value["hours"], value["minutes"] / 15])


@dataclass(frozen=True)
class Simplex(search.Domain):
    """Shares that sum to 1, as a dictionary with their largest."""

    shape: tuple[int, ...] = (3,)
    kind = CONTINUOUS
    low = 0.0
    high = 1.0

    def snap(self, x):
        total = x.sum(-1, keepdims=True)
        return (x + (total == 0)) / (total + 3 * (total == 0))

    def decode(self, x):
        return {"shares": x, "largest": x.max(-1)}

    def encode(self, value):
        return value["shares"]


REAL = search.real(5, 2)


class Level(enum.IntEnum):
    LOW = 3
    HIGH = 7


# One row for each public domain. Further rows have a label after a colon; `own` are a user's domains.
DOMAINS = {
    "uniform": search.uniform(-2, 3),
    "uniform:array": search.uniform(-2, 3, (2, 3)),
    "log_uniform": search.log_uniform(1e-3, 10.0, (2,)),
    "uniform:step": search.uniform(0, 1, (2,), step=0.25),
    "integers": search.integers(-3, 3),
    "integers:step": search.integers(5, 40, (2,), step=7),
    "log_integers": search.log_integers(1, 8),
    "log_integers:odd": search.log_integers(3, 7, (2,)),
    "choice": search.choice([4, 2, 7], (3,)),
    "choice:bools": search.choice([True, False], (2,)),
    "choice:mixed": search.choice([1, 2.5, False], (2,)),
    "choice:mixed_scalar": search.choice([4, 2.5]),
    "choice:numpy": search.choice(np.arange(3, dtype=np.int8), (2,)),
    "choice:float16": search.choice([np.float16(0.5), np.float32(2)]),
    "choice:jax": search.choice([jnp.float32(0.5), np.array(2)]),
    "choice:enum": search.choice(list(Level)),
    "choice:strings": search.choice(["a", "b"], (2,)),
    "choice:lists": search.choice([(1, 2), (3, 4)], (2,)),
    "ordered": search.ordered([0, 0.1, 0.5]),
    "ordered:objects": search.ordered([None, "a"]),
    "choice:named": search.choice(
        {"a": search.integers(1, 3), "b": {}, "c": [search.choice(["x", "y"])] * 2}
    ),
    "choice:nested": search.choice(
        {
            "svm": {
                "C": search.log_uniform(1e-3, 1e3),
                "kernel": search.choice({"rbf": REAL, 0: ()}),
            },
            "knn": {"k": search.log_integers(1, 9), "on": search.subset(4, max_size=2)},
        }
    ),
    "permutation": search.permutation(4),
    "permutation:strings": search.permutation(["a", "b", "c"]),
    "real": search.real(),
    "real:array": search.real(-3, 0.01, (2,)),
    "subset": search.subset(5, max_size=2),
    "own": Whole(3, 6),
    "own:unordered": Whole(3, 6, UNORDERED, (2,)),
    "own:around_zero": Whole(-3, 3),
    "own:even": Even(2, 8),
    "own:bounds": Clock(),
    "own:simplex": Simplex(),
}
FINITE = [name for name, domain in DOMAINS.items() if domain.count < math.inf]


def test_every_public_domain_is_in_the_table():
    functions = {n: f for n in search.__all__ if inspect.isfunction(f := getattr(search, n))}
    public = {n for n, f in functions.items() if get_type_hints(f).get("return") is search.Domain}
    assert public == {name.split(":")[0] for name in DOMAINS} - {"own"}


def same(a, b):
    """Equal trees, of equal types but for their size."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        left, right = np.asarray(left), np.asarray(right)
        assert left.dtype.kind == right.dtype.kind
        if left.dtype.kind in "OU":
            assert left.tolist() == right.tolist()
        else:
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DOMAINS)
def test_samples_are_values_and_survive_a_round_trip(name):
    space = search.space({"before": search.uniform(0, 1), "it": DOMAINS[name]})
    x = sampled(space, 0, 30)
    assert (x >= np.float32(space.low)).all() and (x <= np.float32(space.high)).all()
    np.testing.assert_allclose(space.clip(x), x, rtol=1e-5, atol=1e-6)
    for row in x[:10]:
        point = space.point(row)
        np.testing.assert_allclose(space.encode(point), row, rtol=1e-5, atol=1e-6)
        same(space.point(space.encode(point)), point)


@pytest.mark.parametrize("name", DOMAINS)
def test_host_and_device_see_the_same_values_and_types(name):
    domain = DOMAINS[name]
    space = search.space(domain)
    x = sampled(space, 1, 6)
    if not domain.traceable:
        with pytest.raises(TypeError, match="no numbers"):
            space.decode(x)
        return
    device = jax.jit(space.decode)(x)
    same(space.point(x), device)
    for i, row in enumerate(x):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], device)
        same(space.point(row), one)
        assert jax.tree.map(np.shape, space.point(row)) == jax.tree.map(np.shape, one)


@pytest.mark.parametrize("name", FINITE)
def test_values_are_all_values(name):
    domain = DOMAINS[name]
    rows = once.all_points(search.space(domain))
    assert len(rows) == domain.count == len(np.unique(rows, axis=0))
    assert (rows >= domain.low).all() and (rows <= domain.high).all()
    space = search.space(domain)
    np.testing.assert_allclose(space.clip(rows), rows, atol=1e-9)
    reached = sampled(space, 2, 50 * len(rows))
    assert len(np.unique(reached.round(4), axis=0)) == len(rows)


def distance(n):
    return abs(n - 5.4)


@pytest.mark.parametrize("domain", [Whole(3, 6), Whole(3, 6, UNORDERED), Even(4, 10)])
@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("memory", ["listed", "hashed"])
def test_every_value_of_an_own_domain_is_evaluated_once(domain, jit, memory, monkeypatch):
    if memory == "hashed":
        monkeypatch.setattr(once, "LISTED", (0, 0))
    budget = 4 if memory == "hashed" else 20
    result = run(distance, domain, search.random_search(), budget, jit=jit, init_points=[6])
    assert sorted(result.history.points.tolist()) == domain.values().tolist()
    assert ("exhausted" in result.message) == (memory == "listed")


def test_zero_is_one_point_whatever_its_sign(monkeypatch):
    monkeypatch.setattr(once, "LISTED", (0, 0))
    domain = Whole(-1, 1, shape=(2,))
    result = run(lambda n: jnp.sum(n) * 1.0, domain, search.random_search(), budget=9)
    assert len(np.unique(result.history.points, axis=0)) == 9


def test_own_domains_are_searched_beside_others():
    def loss(p):
        return abs(p["n"] - 150) + (p["kind"] != 5) + (p["w"]["shares"][0] - 0.5) ** 2

    space = {"n": Whole(100, 200), "kind": Whole(3, 6, UNORDERED), "w": Simplex()}
    result = run(loss, space, search.sracos(), budget=400)
    assert result.best["kind"] == 5 and abs(result.best["n"] - 150) <= 1
    np.testing.assert_allclose(result.best["w"]["shares"].sum(), 1, rtol=1e-5)
    assert result.history.points["w"]["largest"].shape == (400,)


N = 20_000


def log_bins(low, high):
    n = np.arange(low, high + 1)
    return np.log((n + 0.5) / (n - 0.5)) / math.log((high + 0.5) / (low - 0.5))


def evenly(n):
    return np.full(n, 1 / n)


PROBABILITIES = {
    "grid": (search.uniform(0, 1, step=0.25), np.arange(5) / 4, evenly(5)),
    "integers": (search.integers(-3, 8), np.arange(-3, 9), evenly(12)),
    "integers_step": (search.integers(5, 40, step=7), np.arange(5, 41, 7), evenly(6)),
    "log_integers": (search.log_integers(1, 8), np.arange(1, 9), log_bins(1, 8)),
    "log_integers_odd": (search.log_integers(3, 9), np.arange(3, 10), log_bins(3, 9)),
    "choice": (search.choice([10, 20, 30]), [10, 20, 30], evenly(3)),
    "ordered": (search.ordered([False, True]), [False, True], evenly(2)),
    "own": (Whole(3, 6), [3, 4, 5, 6], evenly(4)),
}


@pytest.mark.parametrize("name", PROBABILITIES)
def test_values_are_as_likely_as_documented(name):
    domain, values, p = PROBABILITIES[name]
    space = search.space(domain)
    seen = np.asarray(space.point(sampled(space, 3, N)))
    counts = np.array([np.sum(np.isclose(seen, v)) for v in values])
    assert counts.sum() == N
    assert np.sum((counts - N * p) ** 2 / (N * p)) < len(p) - 1 + 5 * math.sqrt(2 * (len(p) - 1))
    np.testing.assert_allclose(counts / N, p, atol=5 * np.sqrt(p * (1 - p) / N).max())


def test_integers_are_even_in_the_logarithm_to_their_ends():
    expected = [0.388, 0.180, 0.119, 0.089, 0.071, 0.059, 0.051, 0.044]
    np.testing.assert_allclose(log_bins(1, 8), expected, atol=1e-3)


CUMULATIVE = {
    "uniform": (search.uniform(-2, 3), lambda x: (x + 2) / 5),
    "log_uniform": (search.log_uniform(1e-6, 1.0), lambda x: 1 + np.log10(x) / 6),
    "integers": (search.integers(0, 10**6), lambda n: (n + 1) / (10**6 + 1)),
    "log_integers": (
        search.log_integers(1, 10**6),
        lambda n: np.log(2 * n + 1) / math.log(2 * 10**6 + 1),
    ),
}


@pytest.mark.parametrize("name", CUMULATIVE)
def test_numbers_have_the_documented_distribution(name):
    domain, cumulative = CUMULATIVE[name]
    space = search.space(domain)
    seen = np.unique(space.point(sampled(space, 4, N)), return_counts=True)
    empirical, expected = np.cumsum(seen[1]) / N, cumulative(seen[0])
    # Kolmogorov and Smirnov's: 2.74 / sqrt(N) is as rare as 5 standard errors.
    assert np.abs(empirical - expected).max() < 2.74 / math.sqrt(N)


def test_sizes_of_subsets_are_those_of_fair_coins_up_to_the_largest():
    space = search.space(search.subset(6, max_size=3))
    sizes = space.point(sampled(space, 5, N)).sum(axis=1)
    p = np.array([1, 6, 15, 20 + 15 + 6 + 1]) / 64
    seen = np.bincount(sizes, minlength=4) / N
    np.testing.assert_allclose(seen, p, atol=5 * np.sqrt(p * (1 - p) / N).max())


@pytest.mark.parametrize("make", [search.choice, search.ordered])
def test_arrays_of_numeric_options_index_tables_on_the_host(make):
    table = np.array([5.0, 1.0, 3.0])
    space = make(range(3), (4,))
    found = run(lambda i: float(table[i].sum()), space, search.random_search(), jit=False)
    assert found.failures == 0 and found.best.dtype == np.int64


def test_options_that_no_array_of_numbers_holds_stay_as_they_are():
    for big in ([2**70, 1], [0.5, 10**400], [np.uint64(2**63), -1]):
        domain = search.choice(big, (2,))
        assert not domain.traceable
        assert search.space(domain).point(np.zeros(2)).tolist() == [big[0]] * 2
    assert search.space(search.choice(list(Level))).point(np.ones(1)) is Level.HIGH
    space = search.space(search.choice([math.nan, 1.0]))
    assert space.encode(space.point(np.zeros(1))) == 0


Pair = namedtuple("Pair", "a b")


@dataclass
class Settings:
    rate: object


@pytest.mark.parametrize(
    "option",
    [
        search.uniform(0, 1),
        {"svc": search.uniform(0, 1)},
        {1: "x", "b": [0, (1, {"c": [search.integers(1, 9)]})]},
        Pair(1, search.uniform(0, 1)),
        Settings(Settings([search.uniform(0, 1)])),
        {search.uniform(0, 1)},
        {search.uniform(0, 1): 0},
        functools.partial(print, search.uniform(0, 1)),
        functools.partial(print, sep=search.uniform(0, 1)),
        np.array([search.uniform(0, 1), None], object),
        jax.tree_util.Partial(print, search.uniform(0, 1)),
        search.space(search.uniform(0, 1)),
    ],
)
@pytest.mark.parametrize("make", [search.choice, search.ordered])
def test_domains_inside_options_are_refused(make, option):
    remedy = "with the domain (uniform|integers).*name the options, choice"
    with pytest.raises(TypeError, match=rf"options of {make.__name__}.*{remedy}"):
        make(["other", option])


def test_options_may_hold_anything_else():
    loop = ["a"]
    loop.append(loop)
    options = [loop, {1: 2, "a": 3}, print, Settings, Settings(1), None, np.zeros((2, 2)), "text"]
    assert search.choice(options).count == len(options)


class Bare(search.Domain):
    pass


@dataclass(frozen=True)
class Unhashable(Whole):
    data: list = field(default_factory=list)


@pytest.mark.parametrize(
    "domain, error, message",
    [
        (Bare(), TypeError, "Bare must define kind and low and high: see search.Domain"),
        (Whole(3, 6, "ordered"), ValueError, "kind of Whole must be CONTINUOUS.*got 'ordered'"),
        (Whole(3, 3), ValueError, "Whole needs finite bounds low < high, got 3 and 3"),
        (Whole(3, math.inf), ValueError, "Whole needs finite bounds low < high, got 3 and inf"),
        (Whole("a", 3), TypeError, "low of Whole must be a number, got 'a'"),
        (Whole(3, 6.5), ValueError, "Whole has whole coordinates.*got 3 and 6.5"),
        (Whole(0, 2**25), ValueError, "bounds of Whole must lie within 2.24, got .*offset"),
        (Whole(1e6, 1e6 + 1, CONTINUOUS), ValueError, "holds only 16 numbers in float32"),
        (Whole(3, 6, ORDERED, 2), ValueError, "shape of Whole must be a tuple of sizes, got 2"),
        (Unhashable(3, 6), TypeError, "Unhashable must be hashable.*frozen=True"),
    ],
)
def test_own_domains_that_break_the_contract_are_refused(domain, error, message):
    with pytest.raises(error, match=message):
        search.space({"a": domain})


class Undecoded(Whole):
    decode, encode = search.Domain.decode, search.Domain.encode


class Odd(Even):
    def values(self):
        return np.arange(self.low + 1, self.high + 1.0, 2)


class Short(Whole):
    def values(self):
        return super().values()[:2]


def test_errors_of_own_domains_name_what_is_missing():
    def find(domain, **options):
        return run(lambda n: n * 1.0, domain, search.random_search(), budget=9, **options)

    with pytest.raises(NotImplementedError, match="Undecoded must define decode"):
        find(Undecoded(3, 6))
    with pytest.raises(NotImplementedError, match="Undecoded must define encode.*init_points"):
        find(Undecoded(3, 6), init_points=[3])
    with pytest.raises(ValueError, match=r"values\(\) of Short.*shape.* = \(4,\), got \(2,\)"):
        find(Short(3, 6))
    with pytest.raises(ValueError, match=r"values\(\) of Odd.*snap does not change"):
        find(Odd(2, 9))
    with pytest.raises(ValueError, match="not one of the points of the space"):
        search.space(Even(2, 8)).encode(3)
    with pytest.raises(ValueError, match=r"encode of Whole.*shape \(\), got \(2,\)"):
        search.space(Whole(3, 6)).encode([3, 4])


@dataclass(frozen=True)
class Alone:
    """A domain that is no subclass, with all members of one."""

    low = 3
    high = 6
    kind = ORDERED
    shape = ()
    slack = 0.0
    snap = None
    traceable = True
    is_continuum = False
    count = 4

    def values(self):
        return np.arange(3.0, 7.0)

    def decode(self, x):
        return x.astype(int)

    def to_python(self, x):
        return int(x)

    def encode(self, value):
        return np.asarray(value, float)


def test_a_domain_need_not_be_a_subclass():
    space = search.space({"n": Alone()})
    assert space.size == 4 and space.point(space.encode({"n": 4})) == {"n": 4}
    np.testing.assert_array_equal(once.all_points(space)[:, 0], [3, 4, 5, 6])
    incomplete = type("Incomplete", (), {**vars(Alone), "slack": None})
    del incomplete.slack, incomplete.count
    message = "Incomplete must define slack and count: see search.Domain"
    with pytest.raises(TypeError, match=message):
        search.space(incomplete())
    with pytest.raises(TypeError, match="must be a pytree of domains"):
        search.space({"n": Alone})
