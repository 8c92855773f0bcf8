"""Hyper-parameters beside Optuna and ZOOpt at one budget of trainings: `python -m benchmarks.tuning`.

    python -m pip install ".[bench]"

Everybody gets the same trainings (`zojax.examples._trainings`, a fresh seed for each), the same bounds and
scales, and proposes what to train next. Then the five best candidates of each are trained four times more,
and the best mean is chosen: that is part of the budget. What counts is the loss of the chosen candidate,
over 32 further seeds that are the same for all, on validation and test rows.
"""

import argparse
import contextlib
import io
import statistics
from functools import partial

import jax
import numpy as np

from benchmarks.measure import save
from zojax import search
from zojax.examples import _candidates, _trainings, tuning

FINALISTS, SEEDS, START = 5, 4, 16
SPACE = search.space(_trainings.SPACE)


class Trainings:
    """The objective of one run: every call is a training with a fresh seed; it remembers all of them."""

    def __init__(self, fun, seed: int):
        self.fun, self.key = fun, jax.random.key(seed + 1000)
        self.points, self.values = [], []

    def __call__(self, x) -> float:
        """The value of an encoded point; inf where the training failed."""
        point = _candidates.numbers(SPACE.point(np.asarray(x, np.float32)[None]))
        point = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf[0]), point)
        value = float(self.fun(point, jax.random.fold_in(self.key, len(self.values))))
        value = value if np.isfinite(value) else np.inf
        self.points.append(point)
        self.values.append(value)
        return value


def ours(make, start: int, train: Trainings, budget: int, seed: int) -> None:
    """Ask and tell with `make(space, budget)`, after `start` random candidates."""
    algorithm = make(SPACE, budget)
    key, start_key = jax.random.split(jax.random.key(seed))
    state = algorithm.init(key, SPACE, budget - start)
    ask, tell, inject = (
        jax.jit(step, static_argnums=0)
        for step in (algorithm.ask, algorithm.tell, algorithm.inject)
    )
    for x in SPACE.sample(start_key, start) if start else ():
        state = inject(SPACE, state, x, jax.numpy.float32(train(x)))
    for _ in range(budget - start):
        x, state = ask(SPACE, state)
        state = tell(SPACE, state, x, jax.numpy.float32([train(x[0])]))


def optuna(train: Trainings, budget: int, seed: int) -> None:
    """TPE with its defaults: ten random candidates first. Logarithms are suggested, as for zoopt."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        x = []
        for i, (low, high) in enumerate(zip(SPACE.low, SPACE.high, strict=True)):
            if SPACE.kinds[i] == search.domains.UNORDERED:
                x.append(trial.suggest_categorical(str(i), range(int(high) + 1)))
            elif SPACE.kinds[i] == search.domains.ORDERED:
                x.append(trial.suggest_int(str(i), int(low), int(high)))
            else:
                x.append(trial.suggest_float(str(i), low, high))
        return train(x)

    sampler = optuna.samplers.TPESampler(seed=seed)
    optuna.create_study(sampler=sampler).optimize(objective, n_trials=budget)


def zoopt(train: Trainings, budget: int, seed: int) -> None:
    """SRACOS as `Opt.min` runs it."""
    import zoopt
    from zoopt.utils.zoo_global import gl

    gl.set_seed(seed + 1)  # its parameter ignores seed 0
    continuous = SPACE.kinds == search.domains.CONTINUOUS
    bounds = [
        [a, b] if c else [int(a), int(b)]
        for a, b, c in zip(SPACE.low, SPACE.high, continuous, strict=True)
    ]
    in_order = SPACE.kinds != search.domains.UNORDERED
    box = zoopt.Dimension(SPACE.dimension, bounds, continuous.tolist(), in_order.tolist())
    objective = zoopt.Objective(lambda solution: train(solution.get_x()), box)
    with contextlib.redirect_stdout(io.StringIO()):
        zoopt.Opt.min(objective, zoopt.Parameter(budget=budget))


def contestants() -> dict:
    default = search.default_algorithm
    return {
        "zojax default, 16 random first": partial(ours, default, START),
        "zojax default": partial(ours, default, 0),
        "zojax sracos": partial(ours, lambda space, budget: search.sracos(), 0),
        "random search": partial(ours, tuning.METHODS["random search"], 0),
        "Optuna TPE": optuna,
        "zoopt": zoopt,
    }


def chosen(fun, train: Trainings, key):
    """The best mean of the finalists."""
    order = np.argsort(train.values, kind="stable")
    points = jax.tree.map(lambda *leaves: np.stack([leaves[i] for i in order]), *train.points)
    return tuning.choose(fun, _candidates.different(points, FINALISTS), SEEDS, key)[0]


def measure(data: str, budget: int, steps: int, seeds: int) -> list[dict]:
    _, fun = tuning.make_losses(data, steps)
    compiled, rows = jax.jit(fun), []
    for name, run in contestants().items():
        validation, test, failed, diverged = [], [], 0, 0
        for seed in range(seeds):
            train = Trainings(compiled, seed)
            run(train, budget - FINALISTS * SEEDS, seed)
            failed += int(np.sum(~np.isfinite(train.values)))
            point = chosen(fun, train, jax.random.fold_in(jax.random.key(seed), 2))
            losses = tuning.judge(data, steps, point, jax.random.key(3))
            ran = np.isfinite(losses.validation)
            diverged += int(np.sum(~ran))
            validation.append(float(np.mean(losses.validation[ran])))
            test.append(float(np.mean(losses.test[ran])))
        row = {
            "data": data,
            "method": name,
            "trainings": budget,
            "seeds": seeds,
            "validation": statistics.mean(validation),
            "sd": statistics.stdev(validation),
            "median": statistics.median(validation),
            "test": statistics.mean(test),
            "test sd": statistics.stdev(test),
            "failed, of all": failed / (seeds * budget),
            "chosen that diverged, of all": diverged / (seeds * tuning.JUDGED),
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=int, default=100, help="trainings")
    parser.add_argument("--steps", type=int, default=300, help="of a training")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    work = arguments.budget, arguments.steps, arguments.seeds
    save("tuning", [row for data in _trainings.DATA for row in measure(data, *work)], "cpu")


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
