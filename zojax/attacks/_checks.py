"""Checks of an attack's arguments and of a model's scores."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zojax._call import untraceable
from zojax._checks import require_count, require_positive
from zojax.attacks import _ball, _losses
from zojax.attacks._layout import check_layout, check_shape

PATIENCE = 10  # unusable answers from the first on, or such calls on the host, before giving up


class Setting(NamedTuple):
    """What the driver knows beside the attack."""

    budget: int
    targeted: bool
    output: str
    layout: str | None


def check_norm(norm: str) -> str:
    if not isinstance(norm, str) or norm not in _ball.NORMS:
        raise ValueError(f"norm must be one of {list(_ball.NORMS)}, got {norm!r}.")
    return norm


def check_setting(points: int, eps, budget, targeted, output, layout) -> Setting:
    require_positive("eps", eps)
    if not isinstance(targeted, (bool, np.bool_)):
        raise TypeError(f"targeted must be True or False, got {targeted!r}; targets go into y.")
    if output == "labels":
        raise ValueError(
            "output='labels' is not enough for an attack that compares scores; give it logits or "
            "probabilities, or attacks.smoothed(label_fn, num_classes) with output='probabilities'."
        )
    if not isinstance(output, str) or output not in _losses.OUTPUTS:
        raise ValueError(f"output must be one of {list(_losses.OUTPUTS)}, got {output!r}.")
    budget = require_count("budget", budget)
    if 1 < budget <= points:
        raise ValueError(
            f"budget must allow the image itself and a round of {points} queries, "
            f"{points + 1} in all, got {budget}; ask for fewer queries a round."
        )
    return Setting(budget, bool(targeted), output, check_layout(layout))


def check_images(x, y, layout) -> tuple[jax.Array | np.ndarray, jax.Array | np.ndarray]:
    """Images and classes as arrays."""
    x, y = (a if hasattr(a, "dtype") else np.asarray(a) for a in (x, y))
    for name, array in (("x", x), ("y", y)):
        if not any(jax.dtypes.issubdtype(array.dtype, kind) for kind in (np.number, np.bool_)):
            raise TypeError(f"{name} must be an array of numbers, got dtype {array.dtype}.")
    shape = jnp.shape(x)
    if len(shape) < 2 or shape[0] == 0:
        raise ValueError(
            f"x must be a batch of at least one image, got shape {shape}; add a leading axis."
        )
    check_shape(layout, shape)
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise TypeError(
            f"x must be floating point in [0, 1], got {jnp.result_type(x)}; divide by 255."
        )
    if jnp.ndim(y) == 0:
        raise ValueError(
            f"x and y must be batches, got one class for x of shape {shape}; pass x[None], y[None]."
        )
    if jnp.shape(y) != shape[:1] or not jnp.issubdtype(jnp.result_type(y), jnp.integer):
        raise ValueError(
            f"y must hold one integer class per image, shape {shape[:1]}, "
            f"got {jnp.result_type(y)} of shape {jnp.shape(y)}."
        )
    if not isinstance(x, jax.core.Tracer):
        low, high = float(jnp.min(x)), float(jnp.max(x))
        if not (low >= 0 and high <= 1):
            raise ValueError(f"x must lie in [0, 1], got values from {low} to {high}; rescale it.")
    return x, y


def output_of(model, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    with untraceable("zojax traces the model. For one that JAX cannot trace pass jit=False."):
        found = jax.eval_shape(model, jax.ShapeDtypeStruct(shape, jnp.float32))
    if not hasattr(found, "shape"):
        raise TypeError(f"the model must return an array of scores, got a {type(found).__name__}.")
    return found


def check_outputs(
    outputs: np.ndarray | jax.ShapeDtypeStruct, count: int, y, classes: int | None = None
) -> None:
    """Raises for outputs that are no scores of `count` images, or of another number of classes."""
    shape, dtype = outputs.shape, outputs.dtype
    if not (jnp.issubdtype(dtype, jnp.floating) or dtype.kind in "biu"):
        raise TypeError(f"the model must return scores that are real numbers, got dtype {dtype}.")
    if shape == (count,):
        raise ValueError(
            f"the model must return one row of scores for each of its {count} images, got shape {shape}: "
            "for a function that gives labels pass attacks.smoothed(label_fn, num_classes) with "
            "output='probabilities'."
        )
    if len(shape) != 2 or shape[0] != count or shape[1] < 2:
        raise ValueError(
            f"the model must return one row of scores for each of its {count} images and at least "
            f"2 classes, got shape {shape}."
        )
    if classes not in (None, shape[1]):
        raise ValueError(
            f"the model must return as many scores as in its first call, {classes}, got {shape[1]}."
        )
    if not isinstance(y, jax.core.Tracer):
        low, high = int(np.min(y)), int(np.max(y))
        if low < 0 or high >= shape[1]:
            raise ValueError(
                f"y must hold classes from 0 to {shape[1] - 1}, as many as the model's scores, "
                f"got {low} to {high}."
            )


def check_shares(shares: _losses.Shares) -> None:
    """Raises if the scores of an image cannot be probabilities; traced ones are let through."""
    if isinstance(shares.total, jax.core.Tracer):
        return
    improper = np.asarray(shares.improper)
    if improper.any():
        i = np.argmax(improper)
        total, least = float(shares.total[i]) + 0, float(shares.least[i]) + 0  # + 0: no "-0"
        raise ValueError(
            "output='probabilities' needs scores that are not negative and sum to one; those of image "
            f"{i} sum to {total:.4g}, and the least is {least:.4g}. "
            "Pass output='logits', or divide each row by its sum."
        )


def check_heard(heard: bool, calls: int) -> None:
    if not heard and calls >= PATIENCE:
        raise ValueError(
            f"the model returned no finite score in its first {calls} calls: check it on x."
        )
