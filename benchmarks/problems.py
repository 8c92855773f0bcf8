"""Problems for derivative-free search: one formula each, for NumPy (host searches) and for JAX (zojax).

A formula takes the array namespace, so that both run the same lines. Shifted optima give no advantage to a
start at the centre of the box. The sums avoid cancellation (`expm1`, `sin^2`), so that float32 resolves
values down to 1e-12.

A problem has a `box`, a `budget`, an `objective(seed)` for searches, `final(seed, played)`, the value of a
run, and `facts(played)`, further columns of a row.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """A space as arrays, one entry a coordinate; `kind` is "c"ontinuous, "i"nteger or category "k".

    Integers lie in lo..hi, both included; categories are 0..hi.
    """

    lo: np.ndarray
    hi: np.ndarray
    kind: np.ndarray

    @property
    def dim(self) -> int:
        return len(self.lo)

    @property
    def continuous(self) -> bool:
        return bool((self.kind == "c").all())

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        discrete = np.minimum(np.floor(rng.uniform(self.lo, self.hi + 1)), self.hi)
        return np.where(self.kind == "c", rng.uniform(self.lo, self.hi), discrete)


def box(lo: float, hi: float, dim: int) -> Box:
    return Box(np.full(dim, float(lo)), np.full(dim, float(hi)), np.full(dim, "c"))


POINTS = 25  # of a curve


class Problem(NamedTuple):
    """With noise, the value of a run is the true value of its recommended point."""

    name: str  # as in the tables
    formula: Callable  # (x, shift, xp) -> value without noise
    box: Box  # the space of x
    budget: int  # evaluations of a run
    shift: Callable[[int], np.ndarray]  # of a seed, (dim,)
    noise: float | Callable = 0.0  # standard deviation of one evaluation, or (value, rng) -> value

    def host(self, seed: int) -> Callable:
        """The function without noise, on NumPy vectors in float64."""
        shift = self.shift(seed)
        return lambda x: float(self.formula(np.asarray(x, float), shift, np))

    def objective(self, seed: int) -> Callable:
        true, rng = self.host(seed), np.random.default_rng([seed, 1])
        if callable(self.noise):
            return lambda x: self.noise(true(x), rng)
        return (lambda x: true(x) + self.noise * rng.standard_normal()) if self.noise else true

    def final(self, seed: int, played) -> float:
        return self.host(seed)(played.x) if self.noise else played.best[-1]

    def facts(self, played: list) -> dict:
        """The mean of the best values so far, at a few budgets."""
        at = np.unique(np.geomspace(1, min(len(run.best) for run in played), POINTS).astype(int))
        curve = np.mean([run.best[at - 1] for run in played], axis=0)
        return {"at": at.tolist(), "curve": [float(f"{v:.4g}") for v in curve]}


# The four functions of the tables, at z = x - shift; the optimum 0 is at z = 0 (Rosenbrock: z = 1).


def ackley(z, xp):
    bowl = -20 * xp.expm1(-0.2 * xp.sqrt(xp.mean(z * z)))
    return bowl - np.e * xp.expm1(-2 * xp.mean(xp.sin(np.pi * z) ** 2))


def sphere(z, xp):
    return xp.sum(z * z)


def rastrigin(z, xp):
    return xp.sum(z * z + 20 * xp.sin(np.pi * z) ** 2)


def rosenbrock(z, xp):
    return xp.sum(100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2)


FUNCTIONS = {
    "ackley": (ackley, 1.0, 0.2),  # formula, half of the range, shift
    "sphere": (sphere, 1.0, 0.2),
    "rastrigin": (rastrigin, 5.0, 1.3),
    "rosenbrock": (rosenbrock, 2.048, 0.2),
}
BUDGETS = {20: 2_000, 100: 10_000, 1000: 20_000}


def continuous(
    name: str, dim: int, *, anywhere: bool = False, noise: float = 0.0, budget=None
) -> Problem:
    """One of the four in [-half, half]^dim; `anywhere` draws the shift per seed and coordinate.

    Random shifts of Rosenbrock are at most a quarter of the half range, so that z = 1 stays well inside.
    """
    function, half, bias = FUNCTIONS[name]
    title = f"{name}-{dim}{' random shift' * anywhere}" + (f" noise {noise}" if noise else "")
    most = 0.6 * half * (0.4 if name == "rosenbrock" else 1.0)

    def formula(x, shift, xp):
        return function(x - shift, xp)

    def shift(seed):
        if not anywhere:
            return np.full(dim, bias)
        return np.random.default_rng([seed, 0]).uniform(-most, most, dim)

    return Problem(title, formula, box(-half, half, dim), budget or BUDGETS[dim], shift, noise)


def rotated(dim: int, budget: int, noise: float = 0.0) -> Problem:
    """An ellipsoid with axes of 1 to 10^3 in random directions, drawn per seed as the shift is."""
    title = f"rotated ellipsoid-{dim}" + (f" noise {noise}" if noise else "")
    weights = 10 ** np.linspace(0, 3, dim)

    def formula(x, shift, xp):
        return xp.sum(weights * (shift[1:] @ (x - shift[0])) ** 2)

    def shift(seed):
        rng = np.random.default_rng([seed, 0])
        return np.vstack(
            [rng.uniform(-3, 3, dim), np.linalg.qr(rng.standard_normal((dim, dim)))[0]]
        )

    return Problem(title, formula, box(-5, 5, dim), budget, shift, noise)


def of_default() -> dict[str, Problem]:
    """Rows of the default search: 1,000 evaluations of smooth and rugged functions, and noise."""
    names = ("sphere", "rosenbrock", "rastrigin")
    rows = [continuous(name, 10, anywhere=True, budget=1000) for name in names]
    rows += [rotated(10, 1000), rotated(5, 2500, 0.1), rotated(20, 5000, 0.1)]
    return {row.name: row for row in rows}


def gauss(value: float, rng: np.random.Generator) -> float:
    """Severe Gaussian noise of bbob-noisy, in proportion to the value."""
    return value * np.exp(rng.standard_normal())


def uniform(value: float, rng: np.random.Generator) -> float:
    """Severe uniform noise of bbob-noisy at d = 10. It grows near the optimum."""
    u, v = rng.uniform(size=2)
    return value * u * max(1.0, (1e9 / (value + 1e-99)) ** ((0.49 + 0.1) * v))


def cauchy(value: float, rng: np.random.Generator) -> float:
    """Severe Cauchy noise of bbob-noisy: one evaluation in five is an outlier."""
    hit, (a, b) = rng.uniform() < 0.2, rng.standard_normal(2)
    return value + max(0.0, 1000 + hit * a / (abs(b) + 1e-199))


def mixed_integer(name: str, dim: int = 10) -> Problem:
    """A function of bbob-mixint: fifths of 2, 4, 8 and 16 values and of real numbers, in [-5, 5]."""
    function = {"sphere": sphere, "rastrigin": rastrigin}.get(name)
    weights = 10 ** np.linspace(0, 3, dim)
    sizes = np.repeat([2, 4, 8, 16, 0], dim // 5)
    whole = sizes > 0
    space = Box(
        np.where(whole, 0.0, -5.0), np.where(whole, sizes - 1.0, 5.0), np.where(whole, "i", "c")
    )

    def value(x, shift, xp):
        z = shift[1:] @ (xp.where(whole, -5 + 10 * (x + 1) / (sizes + 1), x) - shift[0])
        return function(z, xp) if function else xp.sum(weights * z * z)

    def shift(seed):
        rng = np.random.default_rng([seed, 0])
        at = -5 + 10 * (np.floor(rng.uniform(size=dim) * sizes) + 1) / (sizes + 1)
        basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
        return np.vstack([np.where(whole, at, rng.uniform(-4, 4, dim)), basis])

    return Problem(f"mixed-integer {name}-{dim}", value, space, 100 * dim, shift)


def suites() -> dict[str, Problem]:
    """Rows like those of bbob-mixint, bbob-largescale and bbob-noisy."""
    rows = [mixed_integer(name) for name in ("sphere", "ellipsoid", "rastrigin")]
    wide = [
        continuous(name, 80, anywhere=True, budget=8000) for name in ("rosenbrock", "rastrigin")
    ]
    rows += [rotated(80, 8000), *wide]
    for noise in (gauss, uniform, cauchy):
        smooth = continuous("sphere", 10, anywhere=True, budget=5000), rotated(10, 5000)
        rows += [p._replace(name=f"{p.name}, {noise.__name__} noise", noise=noise) for p in smooth]
    return {row.name: row for row in rows}


def mixed(dim: int) -> Problem:
    """Half continuous in [-1, 1], a quarter integers 0..20, a quarter categories of 6; the optimum is 0.

    Ackley of the continuous part, scaled by the share of wrong categories; distances of integers.
    """
    a, b, levels, categories = dim // 2, 3 * dim // 4, 20, 6
    kind = np.array(["c"] * a + ["i"] * (b - a) + ["k"] * (dim - b))
    lo = np.where(kind == "c", -1.0, 0.0)
    hi = np.select([kind == "c", kind == "i"], [1.0, levels], categories - 1.0)
    rng = np.random.default_rng(7)
    integers = rng.integers(3, levels - 2, dim)
    targets = np.where(kind == "i", integers, rng.integers(0, categories, dim)).astype(float)

    def value(x, shift, xp):
        wrong = xp.mean(1.0 * (x[b:] != targets[b:]))
        steps = xp.mean(xp.abs(x[a:b] - targets[a:b])) / levels
        return (1 + wrong) * ackley(x[:a] - shift[:a], xp) + 2 * steps + 2 * wrong

    space, shift = Box(lo, hi, kind), np.full(dim, 0.2)
    return Problem(f"mixed-{dim}", value, space, BUDGETS[dim], lambda seed: shift)


def set_cover() -> Problem:
    """Weighted set cover: 20 sets over 30 elements, drawn once; an element left out costs all weights."""
    rng = np.random.default_rng(3)
    weights = rng.uniform(0, 1, 20)
    covers = 1.0 * (rng.uniform(size=(20, 30)) < 0.45)
    space = Box(np.zeros(20), np.ones(20), np.full(20, "k"))

    def value(x, shift, xp):
        return xp.sum(weights * x) + xp.sum(1.0 * (x @ covers < 0.5)) * weights.sum()

    return Problem("set cover", value, space, 2_000, np.zeros_like)


def embedded(function: str, dim: int = 10_000) -> Problem:
    """Ten coordinates count in full; of the sphere, all others together as much as one."""

    def value(x, shift, xp):
        z = x - shift
        if function == "ackley":
            return ackley(z[:10], xp)
        return sphere(z[:10], xp) + xp.mean(z[10:] ** 2)

    name, shift = f"{function}, effective dimension 10 of {dim}", np.full(dim, 0.2)
    return Problem(name, value, box(-1, 1, dim), 2_000, lambda seed: shift)


def quality() -> dict[str, Problem]:
    """Every row of the quality tables, by name."""
    dims = list(BUDGETS)
    rows = [continuous(name, d) for d in dims for name in FUNCTIONS]
    rows += [continuous(name, d, anywhere=True) for d in dims[:2] for name in FUNCTIONS]
    rows += [mixed(20), mixed(100), set_cover()]
    rows += [continuous("ackley", 20, noise=0.5, budget=10_000)]
    rows += [continuous("ackley", 100, noise=0.1, budget=20_000)]
    rows += [embedded("sphere"), embedded("ackley")]
    return {row.name: row for row in rows}
