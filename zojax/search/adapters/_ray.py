"""A searcher of Ray Tune that suggests the points of a zojax search."""

from typing import Any, NamedTuple

import jax
import numpy as np
from ray import cloudpickle
from ray.tune.search import Searcher, sample
from ray.tune.search.variant_generator import parse_spec_vars

from zojax._checks import require_option
from zojax.search.algorithms import Algorithm
from zojax.search.engine.ask_tell import AskTell, AskTellState, Candidate, ask_tell
from zojax.search.spaces import choice, integers, log_integers, log_uniform, uniform
from zojax.search.spaces._domain import is_domain

DEFAULT_BUDGET = 100


class ZojaxSearch(Searcher):
    """Suggests the configurations of a Ray Tune experiment by a search algorithm of zojax.

        tuner = tune.Tuner(train, param_space={"lr": tune.loguniform(1e-4, 1)}, tune_config=tune.TuneConfig(
            metric="loss", mode="min", search_alg=ZojaxSearch(seed=0), num_samples=100))

    A configuration is a dict, of any depth, with constants and domains of Ray (`tune.uniform`,
    `loguniform`, `quniform`, `randint`, `lograndint`, `qrandint`, `choice`). In `space`, domains of zojax
    serve as well; in `param_space`, Ray replaces objects that it does not know.

    A trial without the metric, or with an error, is told as a failure. Suggestions beyond what the
    algorithm can have open are random: limit them by `max_concurrent_trials`, or pass
    `search.asracos(in_flight=n)`.

    Args:
      space: the configuration. By default, `param_space` of the tuner.
      algorithm: as in `search.minimize`.
      metric, mode: the result to search for and "min" or "max". By default, those of the tuner.
      budget: about how many trials there will be. By default, `num_samples` of the tuner, or 100.
      seed: an int.
      points_to_evaluate: configurations to run first.

    Raises:
      ValueError: a mode that is neither "min" nor "max"; a domain of Ray without one in zojax; a grid.
    """

    _metric: str | None
    _mode: str | None

    def __init__(
        self,
        space: dict | None = None,
        algorithm: Algorithm | None = None,
        *,
        metric: str | None = None,
        mode: str | None = None,
        budget: int | None = None,
        seed: int = 0,
        points_to_evaluate: list[dict] | None = None,
    ):
        if mode is not None:
            require_option("mode", mode, ("min", "max"))
        super().__init__(metric=metric, mode=mode)
        self._algorithm, self._budget, self._seed = algorithm, budget, seed
        self._config = space
        self._first = list(points_to_evaluate or [])
        self._open: dict[str, Candidate | list] = {}  # or the values of a point to evaluate
        self._state: AskTellState | None = None
        self._tuner: AskTell | None = None

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict, **spec: Any
    ) -> bool:
        if self._state is not None or (self._config is not None and config):
            return False
        self._metric, self._mode = metric or self._metric, mode or self._mode
        self._config = self._config or config
        self._budget = self._budget or spec.get("num_samples")
        if self._mode is not None:
            require_option("mode", self._mode, ("min", "max"))
        return True

    def suggest(self, trial_id: str) -> dict | None:
        tuner, state = self._started()
        if self._first:
            self._open[trial_id] = self._values_in(self._first[0])
            return self._first.pop(0)
        candidate, self._state = tuner.ask(state)
        self._open[trial_id] = candidate
        return self._config_with(candidate.point)

    def on_trial_complete(
        self, trial_id: str, result: dict | None = None, error: bool = False
    ) -> None:
        opened, (tuner, state) = self._open.pop(trial_id, None), self._started()
        if opened is None:
            return
        value = np.nan if error or not result else result.get(self._metric, np.nan)
        if isinstance(opened, Candidate):
            self._state = tuner.tell(state, opened, value)
        else:
            self._state = tuner.inject(state, opened, value)

    def add_evaluated_point(
        self,
        parameters: dict,
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        del pruned, intermediate_values  # the value is the last one
        tuner, state = self._started()
        values = self._values_in(parameters)
        self._state = tuner.inject(state, values, np.nan if error else value)

    def save(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "wb") as file:
            cloudpickle.dump(self.__getstate__(), file)

    def restore(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "rb") as file:
            self.__dict__.update(cloudpickle.load(file))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_tuner": None}  # functions, made again by `_started`

    def _started(self) -> tuple[AskTell, AskTellState]:
        """The search, which begins at its first suggestion."""
        if self._tuner is None:
            if not self._config or not self._metric or not self._mode:
                raise ValueError(
                    "ZojaxSearch needs a space, a metric and a mode: pass them, or param_space of the "
                    "Tuner, and metric and mode of its TuneConfig."
                )
            leaves, _ = _flat(self._config)
            self._tuner = ask_tell(
                [leaf.domain for leaf in map(_leaf_of, leaves) if leaf.domain is not None],
                self._algorithm,
                budget=self._budget or DEFAULT_BUDGET,
                key=self._seed,
                maximize=self._mode == "max",
            )
        if self._state is None:
            self._state = self._tuner.init()
        return self._tuner, self._state

    def _config_with(self, values: list) -> dict:
        """The configuration with the values of its domains."""
        leaves, treedef = _flat(self._config)
        rest = iter(values)
        return treedef.unflatten([_leaf_of(leaf).read(rest) for leaf in leaves])

    def _values_in(self, config: dict) -> list:
        """The values of the domains in a configuration."""
        leaves, treedef = _flat(self._config)
        values = treedef.flatten_up_to(config)
        found = zip(map(_leaf_of, leaves), values, strict=True)
        return [leaf.find(value) for leaf, value in found if leaf.domain is not None]


class Leaf(NamedTuple):
    """An entry of a configuration: a domain, options that are searched by their index, or a constant."""

    domain: Any = None
    options: list | None = None
    constant: Any = None

    def read(self, values: Any) -> Any:
        """The entry, with the next of the values if it has a domain."""
        if self.domain is None:
            return self.constant
        value = next(values)
        return value if self.options is None else self.options[value]

    def find(self, value: Any) -> Any:
        """The value of the domain."""
        return value if self.options is None else self.options.index(value)


def _flat(config: Any) -> tuple[list, Any]:
    """(leaves, structure) of a configuration, whose only nodes are dicts."""
    if parse_spec_vars(config)[2]:
        raise ValueError(f"space must have no grid search, got {config}: pass tune.choice instead.")
    return jax.tree.flatten(config, is_leaf=lambda x: not isinstance(x, dict))


def _leaf_of(entry: Any) -> Leaf:
    """The leaf of an entry of Ray or zojax."""
    if is_domain(entry):
        return Leaf(entry)
    if not isinstance(entry, sample.Domain):
        return Leaf(constant=entry)
    if isinstance(entry, sample.Categorical):
        options = list(entry.categories)
        only = len(options) == 1
        return Leaf(constant=options[0]) if only else Leaf(choice(range(len(options))), options)
    sampler, step = entry.get_sampler(), None
    if isinstance(sampler, sample.Quantized):
        sampler, step = sampler.get_sampler(), sampler.q
    is_log = isinstance(sampler, sample.LogUniform)
    if isinstance(entry, sample.Integer) and (is_log or isinstance(sampler, sample.Uniform)):
        step = int(step or 1)
        low = -(-entry.lower // step) * step
        high = entry.upper - (step == 1)  # Ray excludes the bound, unless a step includes it
        if high - low < step:
            return Leaf(constant=low)
        if not is_log:
            return Leaf(integers(low, high, step=step))
        if step == 1:
            return Leaf(log_integers(low, high))
    if isinstance(entry, sample.Float) and (is_log or isinstance(sampler, sample.Uniform)):
        if not is_log:
            return Leaf(uniform(entry.lower, entry.upper, step=step))
        if step is None:
            return Leaf(log_uniform(entry.lower, entry.upper))
    raise ValueError(
        f"space must have domains that zojax can search, got {entry} with {sampler}: pass a uniform or "
        "loguniform range, or tune.choice with the values."
    )
