"""The rules of JAX's primitives. Importing this package registers them all."""

from zojax.implicit.rules import (
    assembly,
    control,
    convolution,
    elementwise,
    gather,
    products,
    ragged,
    views,
)

__all__ = [
    "assembly",
    "control",
    "convolution",
    "elementwise",
    "gather",
    "products",
    "ragged",
    "views",
]
