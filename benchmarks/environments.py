"""Virtual environments for contestants with other requirements; made once, in the user's cache folder."""

import functools
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from shutil import which
from typing import NamedTuple

# The packages of contestants, besides JAX.
PACKAGES = (
    *("adversarial-robustness-toolbox", "cma", "evosax", "flax", "nevergrad", "numpy", "optax"),
    *("optuna", "scipy", "shardes", "torch", "transformers", "zoopt"),
)


class Environment(NamedTuple):
    requirements: tuple[str, ...]  # for pip
    python: tuple[int, int]  # the oldest version, (major, minor)


class Unavailable(RuntimeError):
    """An environment that is missing, with the reason."""


# The JAX of environments, with GPU support on a machine with a GPU.
JAX = f"jax{'[cuda12]' if which('nvidia-smi') else ''}==0.12.0.1"
ENVIRONMENTS = {
    "shardes": Environment(("shardes==0.1.1", JAX, "optax", "chex"), (3, 12)),
    "torch": Environment(("torch>=2.4", "transformers>=4.44", "numpy"), (3, 10)),
}


def folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "zojax" / "environments"


def python_of(name: str, make: bool = True) -> Path:
    """The interpreter of one of `ENVIRONMENTS`, made if missing; else raises Unavailable."""
    path = folder() / name
    python, done = path / "bin" / "python", path / "complete"
    wanted = ENVIRONMENTS[name]
    if done.exists() and done.read_text() == str(wanted):
        return python
    if not make:
        raise Unavailable(f"its environment is not there; `--make {name}` makes it.")
    if reason := _refused(name):
        raise Unavailable(reason)
    done.write_text(str(wanted))
    return python


@functools.cache
def _refused(name: str) -> str:
    """Makes an environment; returns the reason of a failure. Cached, since it would fail again."""
    path, wanted = folder() / name, ENVIRONMENTS[name]
    pip = [str(path / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    try:
        _run([_interpreter(wanted.python), "-m", "venv", "--clear", str(path)])
        _run([*pip, *wanted.requirements])
    except Unavailable as error:
        return str(error)
    return ""


def versions(names: tuple[str, ...], path: list[str]) -> dict:
    """Versions of the packages that are installed on a path."""
    found = {name: next(iter(metadata.distributions(name=name, path=path)), None) for name in names}
    return {name: package.version for name, package in found.items() if package}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        raise Unavailable(f"not installed: {last[0].strip()[:200]}")


def _interpreter(oldest: tuple[int, int]) -> str:
    """This interpreter, or the first of the machine's that is new enough and starts."""
    if sys.version_info >= oldest:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(oldest[1], 20)]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [str(p) for n in names for p in sorted(pyenv.glob(f"{n[6:]}*/bin/python"))]
    for candidate in [*filter(None, map(which, names)), *found]:
        check = [candidate, "-c", f"import sys; sys.exit(sys.version_info < {oldest})"]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return candidate
    raise Unavailable(f"it needs Python {oldest[0]}.{oldest[1]}, and none was found.")
