"""Checks of an attack's arguments and of a model's scores."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from zojax._call import untraceable
from zojax._checks import brief, require_count, require_option, require_positive, require_rate
from zojax.attacks._attack import Attack, Model
from zojax.attacks._ball import NORMS
from zojax.attacks._driver.types import PATIENCE, Options
from zojax.attacks._layout import check_layout, check_shape
from zojax.attacks._losses import OUTPUTS, SCORES, RowSums

_Array = jax.Array | np.ndarray


def check_options(attack: Attack, eps, budget, targeted, output, layout) -> Options:
    """The options of a run, or an error that names the argument."""
    if not all(hasattr(attack, field) for field in Attack._fields):
        raise TypeError(
            f"attack must be an Attack, got {brief(attack)}; try attacks.square_attack()."
        )
    require_option("norm", attack.norm, NORMS)
    if attack.from_labels:
        require_rate("eps", eps)  # 0: as near as the budget allows
    else:
        require_positive("eps", eps)
    if not isinstance(targeted, (bool, np.bool_)):
        raise TypeError(f"targeted must be True or False, got {targeted!r}; targets go into y.")
    if not attack.from_labels and isinstance(output, str) and output == "labels":
        raise ValueError(
            "output='labels' is not enough: this attack compares scores. Give logits or probabilities, "
            "or attack by attacks.hop_skip_jump, sign_opt or geoda."
        )
    require_option("output", output, OUTPUTS if attack.from_labels else SCORES)
    if attack.from_labels and output == "logits":
        output = "labels"  # the same program
    budget, points = require_count("budget", budget), attack.points
    if 1 < budget <= points:
        raise ValueError(
            f"budget must allow the image itself and a round of {points} queries, "
            f"{points + 1} in all, got {budget}; ask for fewer queries a round."
        )
    return Options(np.int32(budget), np.bool_(targeted), output, check_layout(layout))


def check_images(x: ArrayLike, y: ArrayLike, layout: str | None) -> tuple[_Array, _Array]:
    """Images and classes as arrays."""
    images, classes = _numbers("x", x), _numbers("y", y)
    shape = images.shape
    if len(shape) < 2 or shape[0] == 0:
        raise ValueError(
            f"x must be a batch of at least one image, got shape {shape}; add a leading axis."
        )
    check_shape(layout, shape)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"x must be floating point in [0, 1], got {images.dtype}; divide by 255.")
    if classes.ndim == 0:
        raise ValueError(
            f"x and y must be batches, got one class for x of shape {shape}; pass x[None], y[None]."
        )
    if classes.shape != shape[:1] or not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(
            f"y must hold one integer class per image, shape {shape[:1]}, "
            f"got {classes.dtype} of shape {classes.shape}."
        )
    _require_pixels("x", images, "; rescale it")
    return images, classes


def check_starts(starts: ArrayLike | None, attack: Attack, x: _Array) -> _Array | None:
    """The images to start from as an array, or None."""
    if starts is None:
        return None
    if not attack.from_labels:
        raise ValueError(
            "starts are for attacks from labels; this attack starts from x: leave them out."
        )
    images = _numbers("starts", starts)
    if images.shape != x.shape:
        raise ValueError(
            f"starts must hold one image for each of x, shape {x.shape}, got shape {images.shape}."
        )
    _require_pixels("starts", images)
    return images


def _require_pixels(name: str, images: _Array, remedy: str = "") -> None:
    if not isinstance(images, jax.core.Tracer):
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{name} must lie in [0, 1], got values from {low} to {high}{remedy}.")


def _numbers(name: str, value) -> _Array:
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if not any(jax.dtypes.issubdtype(array.dtype, kind) for kind in (np.number, np.bool_)):
        raise TypeError(f"{name} must be an array of numbers, got dtype {array.dtype}.")
    return array


def output_of(model: Model, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """The shape and dtype of a traceable model's scores for images of this shape."""
    with untraceable("zojax traces the model. For one that JAX cannot trace pass jit=False."):
        found = jax.eval_shape(model, jax.ShapeDtypeStruct(shape, jnp.float32))
    if not hasattr(found, "shape"):
        raise TypeError(f"the model must return an array of scores, got a {type(found).__name__}.")
    return found


def check_outputs(
    outputs: np.ndarray | jax.ShapeDtypeStruct,
    count: int,
    y: ArrayLike,
    output: str,
    classes: int | None = None,
) -> None:
    """Raises unless outputs are scores of `count` images, for `classes` classes if that is given.

    With output="labels", one int for each image will do.
    """
    shape, dtype = outputs.shape, outputs.dtype
    if output == "labels" and shape == (count,) and dtype.kind in "iu":
        if not isinstance(y, jax.core.Tracer) and (low := int(np.min(y))) < 0:
            raise ValueError(f"y must hold classes from 0 on, got {low}.")
        return
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


def check_probabilities(sums: RowSums) -> None:
    """Raises ValueError if the scores of an image cannot be probabilities; traced sums pass."""
    if isinstance(sums.total, jax.core.Tracer):
        return
    improper = np.asarray(sums.improper)
    if improper.any():
        i = np.argmax(improper)
        total, least = float(sums.total[i]) + 0, float(sums.least[i]) + 0  # + 0: no "-0"
        raise ValueError(
            "output='probabilities' needs scores that are not negative and sum to one; those of image "
            f"{i} sum to {total:.4g}, and the least is {least:.4g}. "
            "Pass output='logits', or divide each row by its sum."
        )


def check_heard(heard: bool, calls: int) -> None:
    """Raises ValueError for a host model without one finite score in its first calls."""
    if not heard and calls >= PATIENCE:
        raise ValueError(
            f"the model returned no finite score in its first {calls} calls: check it on x."
        )
