import functools

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def programs():
    """Drops a module's compiled programs at its end.

    Each takes several memory maps, of which Linux allows a process 65,530: all of them together
    come near that, and a process beyond it dies.
    """
    yield
    jax.clear_caches()


@pytest.fixture
def one_step(monkeypatch):
    """Runs of `zojax.lm.train` with the same objective and optimizer share one compiled step."""
    from zojax.lm import _training

    monkeypatch.setattr(_training, "make_step", functools.cache(_training.make_step))
