"""The sampler for Optuna: Optuna's own tests of samplers, and what the search sees."""

import pickle

import cloudpickle
import jax
import numpy as np
import pytest

from zojax import search
from zojax.search.adapters import ZojaxSampler

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)
optuna_tests = pytest.importorskip("optuna.testing.pytest_samplers")  # from Optuna 4.6 on


class Sampler:
    @pytest.fixture
    def sampler(self):
        # The algorithm is one of the quickest to trace: some tests make a space for each call.
        return lambda: ZojaxSampler(search.random_search(), budget=20, seed=0)


class TestBasics(Sampler, optuna_tests.BasicSamplerTestCase):
    pass


@pytest.mark.slow  # 44 pairs of domains, each with a search of its own
class TestRelative(Sampler, optuna_tests.RelativeSamplerTestCase):
    pass


class TestSeveralObjectives(optuna_tests.MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self):
        return lambda: ZojaxSampler(budget=20, seed=0)


def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    rate = trial.suggest_float("rate", 1e-4, 1, log=True)
    n = trial.suggest_int("n", 0, 20, step=2)
    kind = trial.suggest_categorical("kind", ["a", None, 3])
    return (x - 1) ** 2 + (np.log10(rate) + 2) ** 2 + abs(n - 6) + (kind is not None)


def study_of(sampler, **options):
    return optuna.create_study(sampler=sampler, **options)


def values(study):
    return [trial.value for trial in study.trials]


def test_it_finds_the_best_parameters():
    study = study_of(ZojaxSampler(search.sracos(), budget=150, seed=0))
    study.optimize(objective, n_trials=150)
    assert study.best_value < 0.3 and study.best_params["n"] == 6
    assert study.best_params["kind"] is None
    random = study_of(optuna.samplers.RandomSampler(seed=0))
    random.optimize(objective, n_trials=150)
    assert study.best_value < random.best_value


def test_a_seed_gives_one_search():
    runs = []
    for seed in (0, 0, 1):
        study = study_of(ZojaxSampler(search.sracos(), budget=20, seed=seed))
        study.optimize(objective, n_trials=12)
        runs.append(values(study))
    assert runs[0] == runs[1] != runs[2]


def test_enqueued_and_earlier_trials_are_taken_over():
    best = {"x": 1.0, "rate": 0.01, "n": 6, "kind": None}
    first = study_of(ZojaxSampler(search.sracos(), budget=20, seed=0))
    first.enqueue_trial(best)
    first.optimize(objective, n_trials=6)
    assert first.best_value == pytest.approx(0) and first.trials[0].params == best
    sampler = pickle.loads(cloudpickle.dumps(first.sampler))
    later = study_of(sampler)
    later.add_trials(first.trials)
    later.optimize(objective, n_trials=3)
    point, value = sampler._tuner.best(sampler._state)
    assert value == pytest.approx(0) and point["x"] == 1
    assert len(sampler._known) == 9


def test_failed_and_pruned_trials_are_told():
    def prunes(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.report(x, 1)
        if trial.number % 3 == 1:
            raise optuna.TrialPruned
        if trial.number % 3 == 2:
            raise RuntimeError("diverged")
        return x

    sampler = ZojaxSampler(search.sracos(), budget=20, seed=0)
    study = study_of(sampler)
    study.optimize(prunes, n_trials=12, catch=(RuntimeError,))
    seen = [t.params["x"] for t in study.trials if t.number % 3 < 2]
    assert sampler._tuner.best(sampler._state)[1] == min(seen)
    assert not sampler._state.batches and not sampler._open


def test_a_new_range_starts_a_new_search():
    sampler = ZojaxSampler(search.sracos(), budget=20, seed=0)
    study = study_of(sampler)
    study.optimize(
        lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 0, 3), n_trials=5
    )
    assert set(sampler._searched[1]) == {"x", "n"}
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    assert set(sampler._searched[1]) == {"x"} and len(sampler._known) == 8


def test_several_directions_and_jobs():
    study = study_of(ZojaxSampler(budget=60, seed=0), directions=["minimize", "maximize"])

    def both(trial):
        x = trial.suggest_float("x", -1, 2)
        return x**2, -((x - 1) ** 2)

    study.optimize(both, n_trials=60, n_jobs=2)
    assert len(study.best_trials) > 15
    front = study.sampler._tuner.best(study.sampler._state)
    assert jax.tree.leaves(front.maximize) == [False, True]


def test_what_zojax_cannot_search_is_sampled_independently():
    sampler = ZojaxSampler(search.random_search(), budget=20, seed=0)
    study = study_of(sampler)
    study.optimize(
        lambda trial: trial.suggest_int("n", 0, 2**40) + trial.suggest_float("x", 0, 1), n_trials=4
    )
    assert set(sampler._searched[1]) == {"x"}
