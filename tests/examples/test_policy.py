"""The command line in a reduced form: policies improve; episodes and statistics as by hand."""

from functools import lru_cache, partial

import jax
import numpy as np
import pytest

from zojax import rollouts
from zojax.examples import _control, policy
from zojax.examples._frames import frames

# Each compiles programs of its own.
DEAR = ("acrobot", "pendulum")
ENVIRONMENTS = [
    pytest.param(n, marks=[pytest.mark.slow] if n in DEAR else []) for n in _control.ENVIRONMENTS
]
REDUCED = ["--seeds", "2", "--generations", "12", "--population", "32", "--episodes", "2"]


@pytest.fixture
def trained(monkeypatch):
    """All runs of a command line, as they are trained."""
    found, train = [], policy.train

    def kept(*args):
        found.append(train(*args))
        return found[-1]

    monkeypatch.setattr(policy, "train", kept)
    return found


def check(run, generations):
    assert run.curve.shape == (generations, 2) and np.all(np.diff(run.curve[:, 0]) > 0)
    # A random policy holds the pole for about 20 steps.
    assert run.returns.shape == (100,) and run.returns.mean() > 100 > run.curve[0, 1]


@pytest.mark.parametrize(
    "methods", [["open_es"], pytest.param(["open_es", "ars"], marks=pytest.mark.slow)]
)
def test_policies_improve_and_the_report_says_so(methods, trained, tmp_path, capsys):
    out = tmp_path / "policy.png"
    given = [*REDUCED, "--hidden", "8", "--methods", *methods, "--out", str(out)]
    assert policy.main(given) == 0
    printed = capsys.readouterr().out
    for method, (runs, _) in zip(methods, trained, strict=True):
        row = next(line for line in printed.splitlines() if line.startswith(method))
        returns = [float(cell) for cell in row.split()[1:3]]
        assert returns == [round(float(run.returns.mean()), 1) for run in runs]
        for run in runs:
            assert run.method == method
            check(run, 12)
    assert "CartPole-v1" in printed and str(out) in printed
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_low_rank_directions_improve():
    given = [*REDUCED, "--seeds", "1", "--generations", "30"]
    args = policy.settle(policy.make_parser().parse_args(given))

    control = _control.make("cartpole", (8,))
    fresh = partial(rollouts.play, control.environment, control.act, episodes=100)

    class Bar:
        update = set_postfix = lambda self, *args, **kwargs: None

    (run,), _ = policy.train(control, "open_es, low rank", args, fresh, Bar())
    check(run, 30)


@lru_cache
def episode(name):
    """An environment, a policy and one watched episode; compiled once for all tests."""
    control = _control.make(name, (4,))
    params = jax.tree.map(lambda x: x + 0.1, control.init(jax.random.key(0)))
    watch = partial(rollouts.watch, control.environment, control.act, steps=control.steps)
    seen = jax.jit(watch)(params, rollouts.no_statistics(control.size), jax.random.key(1))
    return control, params, *seen


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_episodes_end_and_their_sums_are_those_of_one_at_a_time(name):
    import gymnax

    control, params, states, alive = episode(name)
    play = partial(rollouts.play, control.environment, control.act, episodes=1)
    played = jax.jit(play)(params, rollouts.no_statistics(control.size), jax.random.key(1))
    length = int(played.lengths[0])
    assert 1 <= length <= control.steps and length == int(alive.sum())
    assert np.all(np.asarray(alive)[:length]) and not np.any(np.asarray(alive)[length:])
    env, settings = gymnax.make(_control.ENVIRONMENTS[name])
    seen = jax.vmap(lambda s: env.observe(jax.random.key(0), s, None, settings))(states)
    seen = np.asarray(seen, np.float64).reshape(control.steps, -1)[:length]
    assert float(played.statistics.weight) == length
    np.testing.assert_allclose(played.statistics.total, seen.sum(0), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(played.statistics.squares, (seen**2).sum(0), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_episode_is_drawn(name, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3)
    frames(name, *episode(name)[2:], axes)
    for ax in axes:
        assert ax.images or ax.lines or ax.patches or ax.collections
    figure.savefig(tmp_path / "episode.png")
    plt.close(figure)


@pytest.mark.parametrize(
    "given, message",
    [
        (["--population", "7"], "--population must be even, got 7."),
        (["--learning-rate", "0"], "--learning-rate must be positive, got 0.0; try 0.05."),
    ],
)
def test_wrong_arguments_end_the_program_with_advice(given, message, capsys):
    with pytest.raises(SystemExit) as caught:
        policy.main(given)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
