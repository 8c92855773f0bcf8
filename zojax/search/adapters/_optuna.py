"""A sampler of Optuna that proposes the points of a zojax search."""

import threading
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from zojax.search.algorithms import Algorithm
from zojax.search.engine.ask_tell import AskTell, AskTellState, Candidate, ask_tell
from zojax.search.spaces import Domain, choice, integers, log_integers, log_uniform, uniform

FINISHED = TrialState.COMPLETE, TrialState.PRUNED
Distributions = dict[str, BaseDistribution]


class ZojaxSampler(BaseSampler):
    """Samples the trials of an Optuna study by a search algorithm of zojax.

        study = optuna.create_study(sampler=ZojaxSampler(budget=200, seed=0))

    The search covers the parameters that all finished trials have in common. Other parameters are sampled
    independently, at random: those of the first trial, conditional ones, and those that zojax cannot
    represent (more than 2^24 integers). When the common parameters change, the search starts again
    and takes over the finished trials. It also takes over enqueued trials, and those of other processes.

    A failed trial is told as a failure, a pruned one with its last intermediate value. Studies with several
    directions use `search.nsga2`. `cloudpickle` saves a sampler; with the default algorithm, `pickle` does.
    A loaded sampler starts the search again, with the trials of the study.

    Args:
      algorithm: as in `search.minimize`. With `n_jobs=n`, pass `search.asracos(in_flight=n)`.
      budget: about how many trials there will be.
      seed: an int, or None for a random one.

    >>> import optuna
    >>> from zojax import search
    >>> from zojax.search.adapters import ZojaxSampler
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=ZojaxSampler(search.sracos(), budget=60, seed=0))
    >>> study.optimize(lambda trial: (trial.suggest_float("x", -5, 5) - 1) ** 2, n_trials=60)
    >>> round(study.best_params["x"])
    1
    """

    def __init__(
        self, algorithm: Algorithm | None = None, *, budget: int = 100, seed: int | None = None
    ):
        self.algorithm, self.budget = algorithm, budget
        self.seed = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
        self._random = RandomSampler(self.seed)
        self._restarts = 0
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._common = IntersectionSearchSpace(include_pruned=True)
        self._searched: tuple | None = None  # the study and its parameters
        self._tuner: AskTell | None = None
        self._state: AskTellState | None = None
        self._open: dict[int, Candidate] = {}  # by the id of the trial
        self._known: set[int] = set()  # ids of trials that the search knows

    def __getstate__(self) -> dict[str, Any]:
        names = "algorithm", "budget", "seed", "_random", "_restarts"
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def reseed_rng(self) -> None:
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        del trial
        common = self._common.calculate(study)
        return {n: d for n, d in common.items() if not d.single() and domain_of(d) is not None}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Distributions
    ) -> dict[str, Any]:
        # Optuna replaces values of enqueued trials, so these are learnt when they are finished.
        if not search_space or "fixed_params" in trial.system_attrs:
            return {}
        with self._lock:
            tuner, state = self._started(study, search_space)
            state = self._with_finished(study, search_space, tuner, state)
            candidate, self._state = tuner.ask(state)
            self._open[trial._trial_id] = candidate
        return _params_of(candidate, search_space)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        with self._lock:
            candidate = self._open.pop(trial._trial_id, None)
            tuner, told = self._tuner, self._state
            if candidate is None or tuner is None or told is None or self._searched is None:
                return
            proposed = _params_of(candidate, self._searched[1])
            if any(trial.params.get(name, value) != value for name, value in proposed.items()):
                self._searched = None  # the trial took other values: start again, with its point
                return
            value = _values_of(study, trial, state, values)
            self._state = tuner.tell(told, candidate, value)
            self._known.add(trial._trial_id)

    def _started(self, study: Study, space: Distributions) -> tuple[AskTell, AskTellState]:
        """The search of these parameters; a new one if they have changed."""
        searched = (study._storage, study._study_id), space
        if searched != self._searched or self._tuner is None or self._state is None:
            maximize = tuple(d == StudyDirection.MAXIMIZE for d in study.directions)
            self._tuner = ask_tell(
                {name: domain_of(d) for name, d in space.items()},
                self.algorithm,
                budget=self.budget,
                key=jax.random.fold_in(jax.random.key(self.seed), self._restarts),
                maximize=maximize,
                objectives=len(maximize),
            )
            self._restarts += 1
            self._searched, self._state = searched, self._tuner.init()
            self._open, self._known = {}, set()
        return self._tuner, self._state

    def _with_finished(
        self, study: Study, space: Distributions, tuner: AskTell, state: AskTellState
    ) -> AskTellState:
        """The state after all finished trials that the search does not know."""
        for trial in study.get_trials(deepcopy=False, states=FINISHED):
            if trial._trial_id in self._known or trial._trial_id in self._open:
                continue
            self._known.add(trial._trial_id)
            if trial.state == TrialState.PRUNED and not trial.intermediate_values:
                continue
            try:
                point = {n: _inner(d, trial.params[n]) for n, d in space.items()}
                value = _values_of(study, trial, trial.state, trial.values)
                state = tuner.inject(state, point, value)
            except (KeyError, ValueError):  # the trial lacks a parameter, or lies outside
                continue
        return state


def domain_of(distribution: BaseDistribution) -> Domain | None:
    """The domain of a distribution; None if zojax has none. Options are searched by their index."""
    try:
        if isinstance(distribution, CategoricalDistribution):
            return choice(range(len(distribution.choices)))
        if isinstance(distribution, IntDistribution):
            ends, step = (distribution.low, distribution.high), distribution.step
            return log_integers(*ends) if distribution.log else integers(*ends, step=step)
        if isinstance(distribution, FloatDistribution):
            bounds, gap = (distribution.low, distribution.high), distribution.step
            return log_uniform(*bounds) if distribution.log else uniform(*bounds, step=gap)
    except ValueError:
        return None
    return None


def _params_of(candidate: Candidate, space: Distributions) -> dict[str, Any]:
    """Optuna's values of a candidate."""
    return {
        name: d.choices[candidate.point[name]]
        if isinstance(d, CategoricalDistribution)
        else candidate.point[name]
        for name, d in space.items()
    }


def _inner(distribution: BaseDistribution, value: Any) -> Any:
    """The value of a domain from Optuna's value."""
    if isinstance(distribution, CategoricalDistribution):
        return int(distribution.to_internal_repr(value))
    return value


def _values_of(
    study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
) -> Any:
    """The value or values to tell: nan for a failure, the last intermediate value of a pruned trial."""
    several = len(study.directions) > 1
    if state == TrialState.COMPLETE and values is not None:
        return tuple(values) if several else values[0]
    if state == TrialState.PRUNED and trial.intermediate_values and not several:
        return trial.intermediate_values[max(trial.intermediate_values)]
    return (np.nan,) * len(study.directions) if several else np.nan
