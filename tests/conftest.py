import os
import shutil
import tempfile

OWN_CACHE = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if OWN_CACHE:  # before JAX is imported; the processes of pytest-xdist inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="zojax-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

# Threads of NumPy's products wait for each other where several tests share the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import pytest  # noqa: E402

from ._compiler import hurry  # noqa: E402

hurry(True)


def pytest_addoption(parser):
    parser.addoption(
        "--optimized", action="store_true", help="compile all tests as users' programs are"
    )


def pytest_unconfigure(config):
    """Removes the compilation cache of this run: no run depends on an earlier one."""
    if OWN_CACHE:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def programs():
    """Drops a module's compiled programs at its end.

    Each takes several memory maps, of which Linux allows a process 65,530: all of them together
    come near that, and a process beyond it dies. The cache on disk keeps the programs.
    """
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def machine_code(request):
    """The compiler that a test asks for."""
    everywhere = request.config.getoption("--optimized")
    hurry(not everywhere and request.node.get_closest_marker("optimized") is None)
