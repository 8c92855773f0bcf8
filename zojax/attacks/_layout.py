"""The axes of images: the caller's layout outside, height, width, channels inside the attacks."""

from typing import TypeVar

import jax
import numpy as np

from zojax._warnings import warn

LAYOUTS = ("nhwc", "nchw")
Images = TypeVar("Images", jax.Array, np.ndarray)


def check_layout(layout: str | None) -> str | None:
    if layout is not None and not (isinstance(layout, str) and layout in LAYOUTS):
        raise ValueError(f"layout must be one of {list(LAYOUTS)} or None, got {layout!r}.")
    return layout


def check_shape(layout: str | None, shape: tuple[int, ...]) -> None:
    """Raises for "nchw" without an axis of channels; warns where None may be wrong."""
    if layout == "nchw" and len(shape) != 4:
        raise ValueError(
            "layout='nchw' needs x of shape (batch, channels, height, width), "
            f"got {shape}; leave layout out for images without channels."
        )
    if layout is None and len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        warn(
            f"x of shape {shape} is attacked as {shape[3]} channels of {shape[1]} x {shape[2]} pixels. "
            "Pass layout='nchw' if axis 1 holds the channels, else layout='nhwc'."
        )


def inward(images: Images, layout: str | None) -> Images:
    """Images (n, ...) with their channels last."""
    return images.transpose(0, 2, 3, 1) if layout == "nchw" else images


def outward(images: Images, layout: str | None) -> Images:
    """Images (n, ...) in the caller's layout."""
    return images.transpose(0, 3, 1, 2) if layout == "nchw" else images
