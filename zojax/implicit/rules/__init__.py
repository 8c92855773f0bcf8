"""The rules of JAX's primitives. Importing this package registers them all."""

from zojax.implicit.rules import control, convolution, elementwise, gather, products, views

__all__ = ["control", "convolution", "elementwise", "gather", "products", "views"]
