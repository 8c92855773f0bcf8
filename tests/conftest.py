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
