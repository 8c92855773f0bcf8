"""The orthonormal discrete cosine transform: smooth directions of images."""

import math

import numpy as np


def lowest(fraction: float, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The vertical and the horizontal waves of the lowest frequencies, a fraction of all."""
    return _waves(math.ceil(fraction * height), height), _waves(math.ceil(fraction * width), width)


def _waves(count: int, length: int) -> np.ndarray:
    """The first rows of the transform, float32 (count, length)."""
    frequency, place = np.arange(count)[:, None], np.arange(length) + 0.5
    scale = np.sqrt(np.where(frequency == 0, 1.0, 2.0) / length)
    return (scale * np.cos(np.pi / length * frequency * place)).astype(np.float32)
