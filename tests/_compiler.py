"""A compiler in a hurry: most tests compile far more than they compute.

XLA's passes stay, so fusions, memory and collectives are those of users. Only the machine code
differs: LLVM does not optimize it, and kernels come from the older emitter, which is faster.
The marker `optimized` compiles as users do: tests of equal bits and of memory have it.
"""

import jax
from jax._src import compiler

HURRIED = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
options_of_users = compiler.get_compile_options


def hurry(yes: bool) -> None:
    """Chooses the compiler; programs of the other one are dropped."""
    options = hurried_options if yes else options_of_users
    if options is not compiler.get_compile_options:
        compiler.get_compile_options = options
        jax.clear_caches()


def hurried_options(*args, env_options_overrides=None, **kwargs):
    overrides = HURRIED | dict(env_options_overrides or {})
    return options_of_users(*args, env_options_overrides=overrides, **kwargs)
