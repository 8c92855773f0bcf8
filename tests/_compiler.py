"""A compiler in a hurry: most tests compile far more than they compute.

XLA's passes stay, so fusions, memory and collectives are those of users. Only the machine code
differs: LLVM does not optimize it, and kernels come from the older emitter, which is faster.
The marker `optimized` compiles as users do: tests of equal bits and of memory have it.
"""

from functools import cache

import jax
from jax._src import compiler

HURRIED = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
options_of_users = compiler.get_compile_options


def hurry(yes: bool) -> None:
    """Chooses the compiler; programs of the other one are dropped."""
    known_options()
    options = hurried_options if yes else options_of_users
    if options is not compiler.get_compile_options:
        compiler.get_compile_options = options
        jax.clear_caches()


def hurried_options(*args, env_options_overrides=None, **kwargs):
    overrides = known_options() | dict(env_options_overrides or {})
    return options_of_users(*args, env_options_overrides=overrides, **kwargs)


@cache
def known_options() -> dict:
    """The options that this XLA has. Newer ones have no older emitter."""
    return {name: value for name, value in HURRIED.items() if is_known(name, value)}


def is_known(name: str, value) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value})()
    except jax.errors.JaxRuntimeError:
        return False
    return True
