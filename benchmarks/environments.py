"""Environments for contestants with other requirements; uv makes them once, in the user's cache folder."""

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
    "adversarial-robustness-toolbox",
    "cma",
    "evosax",
    "flax",
    "nevergrad",
    "numpy",
    "optax",
    "optuna",
    "scipy",
    "shardes",
    "torch",
    "transformers",
    "zoopt",
)


class Environment(NamedTuple):
    requirements: tuple[str, ...]  # for pip
    python: str  # its versions, such as ">=3.12"


class Unavailable(RuntimeError):
    """An environment that is missing, with the reason."""


# The JAX of environments, with GPU support on a machine with a GPU.
JAX = f"jax{'[cuda12]' if which('nvidia-smi') else ''}==0.12.0.1"
ENVIRONMENTS = {
    "shardes": Environment(("shardes==0.1.1", JAX, "optax", "chex"), ">=3.12"),
    "torch": Environment(("torch>=2.4", "transformers>=4.44", "numpy"), ">=3.10"),
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
    path, wanted, uv = folder() / name, ENVIRONMENTS[name], [sys.executable, "-m", "uv", "--quiet"]
    try:
        _run([*uv, "venv", "--clear", "--python", wanted.python, str(path)])
        _run([*uv, "pip", "install", "--python", str(path), *wanted.requirements])
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
