"""A compiler in a hurry: most tests compile far more than they compute.

XLA's passes stay, so fusions, memory and collectives are those of users. Only the machine code
differs: LLVM does not optimize it, and kernels come from the older emitter, which is faster.
The marker `optimized` compiles a module's programs as users' programs are compiled.
"""

from jax._src import compiler

HURRIED = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
options_of_users = compiler.get_compile_options


def hurry(yes: bool) -> None:
    compiler.get_compile_options = hurried_options if yes else options_of_users


def hurried_options(*args, env_options_overrides=None, **kwargs):
    overrides = HURRIED | dict(env_options_overrides or {})
    return options_of_users(*args, env_options_overrides=overrides, **kwargs)
