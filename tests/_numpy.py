"""Functions of JAX in tests, traced and run by NumPy: most of a test's time is compiling."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from zojax.search.engine.numpy_program import NoNumPyFormError, numpy_program


def by_numpy(fun):
    """`fun` of pytrees, run by NumPy; compiled if one of its operations has no form in NumPy."""

    @cache
    def program_of(treedef, shapes, x64):
        try:
            program, out = numpy_program(fun, *treedef.unflatten(shapes))
        except NoNumPyFormError:
            return jax.jit(fun)
        out, treedef = jax.tree.flatten(out)

        def run(*args):
            results = program(*map(_without_keys, jax.tree.leaves(args)))
            return treedef.unflatten(map(_with_keys, out, results))

        return run

    def call(*args):
        leaves, treedef = jax.tree.flatten(args)
        shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(v), jnp.result_type(v)) for v in leaves)
        return program_of(treedef, shapes, jax.config.jax_enable_x64)(*args)

    return call


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(leaf):
    leaf = jnp.asarray(leaf)
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)[()]


def _with_keys(shape, leaf):
    if isinstance(leaf, np.ndarray) and leaf.dtype == object:  # a batch of keys
        leaf = np.stack(leaf.tolist())
    leaf = jnp.asarray(leaf)
    return jax.random.wrap_key_data(leaf) if _is_key(shape) else leaf
