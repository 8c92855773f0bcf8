"""The command line in a reduced form: policies improve; episodes and statistics as by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zojax.examples import _control, policy

REDUCED = ["--seeds", "2", "--generations", "12", "--population", "32", "--episodes", "2"]


def test_policies_improve_and_the_report_says_so(tmp_path, capsys):
    out = tmp_path / "policy.png"
    given = [*REDUCED, "--hidden", "8", "--methods", "open_es", "--out", str(out)]
    assert policy.main(given) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("open_es"))
    returns = [float(cell) for cell in row.split()[1:3]]
    assert min(returns) > 100  # a random policy holds the pole for about 20 steps
    assert "CartPole-v1" in printed and str(out) in printed
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "method, generations",
    [pytest.param("open_es, low rank", 30, marks=pytest.mark.slow), ("ars", 12)],
)
def test_every_method_improves(method, generations):
    given = [*REDUCED, "--seeds", "1", "--generations", str(generations)]
    args = policy.settle(policy.make_parser().parse_args(given))
    task = _control.make("cartpole", (8,))

    class Bar:
        update = set_postfix = lambda self, *args, **kwargs: None

    (run,), _ = policy.train(task, method, args, Bar())
    assert run.curve.shape == (generations, 2) and np.all(np.diff(run.curve[:, 0]) > 0)
    assert run.returns.shape == (100,) and run.returns.mean() > 100 > run.curve[0, 1]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n in ("acrobot", "pendulum") else [])
        for n in _control.ENVIRONMENTS
    ],
)
def test_episodes_end_and_their_sums_are_those_of_one_at_a_time(name):
    import gymnax

    task = _control.make(name, (4,))
    params = jax.tree.map(lambda x: x + 0.1, task.init(jax.random.key(0)))
    states, alive = jax.jit(task.watch)(
        params, _control.no_statistics(task.size), jax.random.key(1)
    )
    played = jax.jit(lambda key: task.play(params, _control.no_statistics(task.size), key, 1))(
        jax.random.key(1)
    )
    length = int(played.lengths[0])
    assert 1 <= length <= task.steps and length == int(alive.sum())
    assert np.all(np.asarray(alive)[:length]) and not np.any(np.asarray(alive)[length:])
    env, settings = gymnax.make(_control.ENVIRONMENTS[name])
    seen = jax.vmap(lambda s: env.observe(jax.random.key(0), s, None, settings))(states)
    seen = np.asarray(seen, np.float64).reshape(task.steps, -1)[:length]
    assert float(played.statistics.count) == length
    np.testing.assert_allclose(played.statistics.total, seen.sum(0), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(played.statistics.squares, (seen**2).sum(0), rtol=1e-3, atol=1e-2)


def test_statistics_merge():
    a = _control.Statistics(jnp.float32(2), jnp.ones(3), jnp.ones(3))
    assert _control.merge(a, a).count == 4


def test_an_episode_is_drawn(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    for name in _control.ENVIRONMENTS:
        task = _control.make(name, (4,))
        figure, axes = plt.subplots(1, 3)
        params = task.init(jax.random.key(0))
        _control.frames(
            name, task, params, _control.no_statistics(task.size), jax.random.key(0), axes
        )
        for ax in axes:
            assert ax.images or ax.lines or ax.patches or ax.collections, name
        figure.savefig(tmp_path / f"{name}.png")
        plt.close(figure)


@pytest.mark.parametrize(
    "given, message",
    [
        (["--population", "7"], "--population must be even, got 7."),
        (["--learning-rate", "0"], "--learning-rate must be positive, got 0.0."),
    ],
)
def test_wrong_arguments_end_the_program_with_advice(given, message, capsys):
    with pytest.raises(SystemExit) as caught:
        policy.main(given)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
