"""The identity of a run: digests of its base parameters, and of the program of its update."""

import hashlib
import re
from functools import partial
from itertools import zip_longest

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from zojax._keys import key_data
from zojax._numerics import marking_nan
from zojax._sharding import on_host
from zojax._transform import ZerothOrder, apply_updates
from zojax._trees import PyTree, is_float, structure_of
from zojax.trajectory._hyperparameters import free, with_free


def identify(tx: ZerothOrder, params: PyTree) -> dict:
    """The part of a header that the optimizer and the base parameters determine."""
    if not isinstance(tx, ZerothOrder):
        raise TypeError(
            "tx must come from zojax.zeroth_order or a ready-made optimizer, got "
            f"{type(tx).__name__}: put the transformations around it inside."
        )
    stencil = tx.estimator.stencil
    if stencil.memory and 0.0 in stencil.offsets:
        what = "a stencil with a memory and a point at 0"
        raise ValueError(f"{what} cannot be recorded, got {stencil}.")
    with _one_device():
        structure, state = _shapes(tx, params)
        n, dtype = tx.estimator.num_directions, state.coefficients.dtype
        valued = bool(stencil.memory) or _reads_value(tx, structure, state)
        if valued:  # float64 under x64, also beside float32 parameters
            dtype = jnp.promote_types(dtype, state.value.dtype)
        row = jax.ShapeDtypeStruct((n + 1,), dtype)
        program = jax.make_jaxpr(lambda *a: step(tx, n, *a))(structure, state, row, free(state))
    return {
        "columns": n + valued,
        "num_directions": n,
        "dtype": dtype.name,
        "leaves": [[path, *what] for path, what in _describe(params).items()],
        "program": _program_digest(program),
    }


def evaluation(tx: ZerothOrder, params: PyTree) -> str:
    """A digest of mu, stencil and shaping. A run depends on them; its replay does not."""
    name = tx.estimator.axis_name
    with _one_device() if name is None else _one_device(name):
        return _program_digest(jax.make_jaxpr(partial(_estimate, tx))(*_shapes(tx, params)))


def _one_device(*axis_names: str):
    """Without the current mesh: a program's digest must not depend on it. Directions need their axis."""
    ones = (1,) * len(axis_names)
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh(ones, axis_names))


def _shapes(tx: ZerothOrder, params: PyTree) -> tuple[PyTree, PyTree]:
    """The shapes and dtypes of parameters and state, without a sharding."""
    structure = jax.tree.map(lambda s: s.update(sharding=None), structure_of(params))
    return structure, jax.eval_shape(tx.init, structure)


def _estimate(tx: ZerothOrder, params, state):
    """The coefficients of a step with a trivial loss: the rest of the program is that of `tx`."""

    def loss(params, **key):
        floats = [jnp.sum(x) for x in jax.tree.leaves(params) if is_float(x)]
        return sum(x.astype(jnp.float32) for x in floats)

    options = {"state": state.estimator_state, "step": state.count, "in_axes": None}
    return tx.estimator.estimate(state.rng_key, loss, params, **options).coefficients


@marking_nan
def step(tx: ZerothOrder, n: int, params, state, row, hyperparameters):
    """One replayed step; row holds n coefficients and, if recorded, the value."""
    state = with_free(state, hyperparameters)
    value = row[n] if row.shape[0] > n else jnp.nan
    coefficients = row[:n].astype(state.coefficients.dtype)
    updates, state = tx.replay(state, params, coefficients, jnp.asarray(value, state.value.dtype))
    return apply_updates(params, updates), state


def check(header: dict, found: dict) -> None:
    """Raises ValueError, with the reason, unless a log's header has the identity `found`."""
    logged = {path: what for path, *what in header["leaves"]}
    given = {path: what for path, *what in found["leaves"]}
    if logged.keys() != given.keys():
        path = sorted(logged.keys() ^ given.keys())[0]
        where = "the log's" if path in logged else "the given"
        raise ValueError(f"another base model: only {where} parameters have a leaf params{path}.")
    for path, (dtype, shape, digest) in given.items():
        if [dtype, shape] != logged[path][:2]:
            raise ValueError(
                f"another base model: params{path} is {dtype}{shape}, the log's was "
                f"{logged[path][0]}{logged[path][1]}."
            )
        if digest != logged[path][2]:
            raise ValueError(
                f"another base model: the values of params{path} are not those at the beginning of the "
                "logged run."
            )
    for name in ("num_directions", "columns", "dtype"):
        if found[name] != header[name]:
            now, then = found[name], header[name]
            raise ValueError(f"another optimizer: its {name} is {now}, the log's {then}.")
    if found["program"] != header["program"]:
        now, then = made_with(), header["made_with"]
        versions = "" if now == then else f" (recorded with {then}, this is {now})"
        raise ValueError(
            "another optimizer: its direction, its inner transformation or one of their constants, "
            f"such as a learning rate, differs from that of the logged run{versions}."
        )


def require_leaves(header: dict, params: PyTree) -> None:
    """Raises ValueError unless the parameters have the leaves in the log."""
    given = [
        (jax.tree_util.keystr(path), jnp.result_type(x).name, list(np.shape(x)))
        for path, x in jax.tree_util.tree_leaves_with_path(jax.tree.map(key_data, params))
    ]
    logged = [(path, dtype, shape) for path, dtype, shape, _ in header["leaves"]]
    for a, b in zip_longest(given, logged, fillvalue=("", "nothing", "")):
        if a != b:
            raise ValueError(
                f"params are not those of the run: params{a[0]} is {a[1]}{a[2]}, the log's params{b[0]} "
                f"{b[1]}{b[2]}. Give the parameters after the step."
            )


def made_with() -> dict:
    from zojax import __version__

    return {"jax": jax.__version__, "platform": jax.default_backend(), "zojax": __version__}


def placements(params: PyTree) -> list[str]:
    """How each leaf is sharded, in words."""
    return [_placement(leaf) for leaf in jax.tree.leaves(params)]


def _placement(leaf) -> str:
    sharding = getattr(leaf, "sharding", None)
    devices = len(sharding.device_set) if sharding is not None else 1
    if isinstance(sharding, jax.sharding.NamedSharding):
        axes = ", ".join(f"{name}={size}" for name, size in sharding.mesh.shape.items())
        return f"{sharding.spec} on mesh ({axes})"
    return "one device" if devices == 1 else f"{type(sharding).__name__} over {devices} devices"


def digest(params: PyTree) -> str:
    """A digest of all leaves, 32 hexadecimal digits."""
    text = repr(_describe(params)).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _describe(params: PyTree) -> dict:
    """The dtype, the shape and a digest of the values of every leaf, by its path."""

    def one(leaf):
        leaf = key_data(leaf)
        array = on_host(leaf).astype(jnp.result_type(leaf), copy=False)
        values = hashlib.blake2b(np.ascontiguousarray(array), digest_size=8)
        return [array.dtype.name, list(array.shape), values.hexdigest()]

    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): one(leaf) for path, leaf in leaves}


def _program_digest(program) -> str:
    """A digest of a jaxpr, in which a learning rate is a literal, and of its constant arrays."""
    text = re.sub(r" at 0x[0-9a-f]+", "", str(program.jaxpr))
    # Each call names the current mesh, which also moves the ends of lines.
    text = re.sub(r"ctx_mesh=Mesh\((?:[^()]|\([^()]*\))*\)", "", text)
    text = re.sub(r"\s+", "", text)
    found = hashlib.blake2b(text.encode(), digest_size=16)
    for constant in program.consts:
        found.update(repr(_describe(constant)).encode())
    return found.hexdigest()


def _reads_value(tx, structure, state) -> bool:
    """Whether an update reads the loss's value, as `optax.contrib.reduce_on_plateau` does."""

    def update(value, params, state):
        updates, after = tx.replay(state, params, state.coefficients, value)
        return updates, after.inner_state

    value = jax.ShapeDtypeStruct((), state.value.dtype)
    jaxpr = jax.make_jaxpr(update)(value, structure, state).jaxpr
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for eqn in reversed(jaxpr.eqns):
        if needed.intersection(eqn.outvars):
            needed |= {v for v in eqn.invars if not isinstance(v, Literal)}
    return jaxpr.invars[0] in needed
