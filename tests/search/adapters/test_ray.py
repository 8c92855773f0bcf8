"""The searcher for Ray Tune: configurations, values, and a whole experiment."""

import numpy as np
import pytest

from zojax import search

tune = pytest.importorskip("ray.tune")
adapters = pytest.importorskip("zojax.search.adapters")
pytestmark = pytest.mark.slow  # Ray takes seconds to import, and is no test dependency

ACT = tune.choice(["a", None])
CONFIG = {
    "lr": tune.loguniform(1e-4, 1),
    "net": {"width": tune.randint(2, 9), "depth": tune.qrandint(2, 8, 2), "act": ACT},
    "rate": tune.quniform(0, 1, 0.25),
    "fixed": 7,
    "ours": search.integers(0, 3),
}


def loss(config):
    net = config["net"]
    off = abs(net["width"] - 5) + abs(net["depth"] - 4) + (net["act"] is not None)
    return (np.log10(config["lr"]) + 2) ** 2 + abs(config["rate"] - 0.5) + off + config["ours"]


def searcher(space=CONFIG, algorithm=None, **options):
    options = {"metric": "loss", "mode": "min", "budget": 100} | options
    return adapters.ZojaxSearch(space, algorithm or search.sracos(), **options)


def told(own, count, first=0):
    configs = []
    for i in range(first, first + count):
        config = own.suggest(f"trial {i}")
        own.on_trial_complete(f"trial {i}", {"loss": loss(config)})
        configs.append(config)
    return configs


def test_configurations_lie_in_the_space():
    for config in told(searcher(), 40):
        net = config["net"]
        assert 1e-4 <= config["lr"] <= 1 and config["fixed"] == 7 and config["ours"] in range(4)
        assert (
            net["width"] in range(2, 9)
            and net["depth"] in (2, 4, 6, 8)
            and net["act"] in ("a", None)
        )
        assert config["rate"] in (0, 0.25, 0.5, 0.75, 1)


def test_it_finds_the_best_configuration():
    own = searcher()
    values = [loss(config) for config in told(own, 100)]
    assert min(values) < 0.5 and np.mean(values[-20:]) < np.mean(values[:20]) / 2
    assert own._tuner.best(own._state)[1] == min(values)


def test_modes_failures_and_given_configurations():
    net = {"width": 5, "depth": 4, "act": None}
    best = {"lr": 0.01, "net": net, "rate": 0.5, "fixed": 7, "ours": 0}
    own = searcher(mode="max", points_to_evaluate=[best])
    assert own.suggest("first") == best
    own.on_trial_complete("first", {"loss": 3.0})
    own.suggest("failed")
    own.on_trial_complete("failed", error=True)
    own.suggest("without")
    own.on_trial_complete("without", {"other": 9.0})
    own.add_evaluated_point(best | {"lr": 0.02}, 4.0)
    point, value = own._tuner.best(own._state)
    assert value == 4 and not own._open and not own._state.batches


def test_a_saved_search_goes_on(tmp_path):
    own = searcher()
    told(own, 20)
    own.suggest("open")
    own.save(str(tmp_path / "state"))
    other = adapters.ZojaxSearch()
    other.restore(str(tmp_path / "state"))
    for each in (own, other):
        each.on_trial_complete("open", {"loss": 0.5})
    assert told(own, 10, first=20) == told(other, 10, first=20)


@pytest.mark.parametrize(
    "space, message",
    [
        ({"x": tune.grid_search([1, 2])}, "space must have no grid search"),
        ({"x": tune.randn()}, "domains that zojax can search, got"),
        ({"x": tune.qloguniform(1, 8, 1)}, "domains that zojax can search, got"),
        ({}, "needs a space, a metric and a mode"),
    ],
)
def test_what_zojax_cannot_search_is_refused(space, message):
    with pytest.raises(ValueError, match=message):
        searcher(space).suggest("trial")


def test_a_tuner_runs_the_search(tmp_path):
    ray = pytest.importorskip("ray")

    def train(config):  # a nested function, so that workers import nothing
        return {"loss": (config["x"] - 1) ** 2 + config["net"]["depth"]}

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        tuner = tune.Tuner(
            train,
            param_space={"x": tune.uniform(-5, 5), "net": {"depth": tune.randint(0, 4)}},
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                search_alg=adapters.ZojaxSearch(algorithm=search.asracos(in_flight=2)),
                num_samples=4,
                max_concurrent_trials=2,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        )
        results = tuner.fit()
    finally:
        ray.shutdown()
    assert len(results) == 4 and not results.errors
    configs = [result.config for result in results]
    assert all(-5 <= c["x"] <= 5 and c["net"]["depth"] in range(4) for c in configs)
    assert len({c["x"] for c in configs}) == 4
