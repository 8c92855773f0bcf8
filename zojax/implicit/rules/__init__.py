"""The rules of JAX's primitives. Importing this package registers them all."""

from zojax.implicit.rules import assembly as assembly
from zojax.implicit.rules import control as control
from zojax.implicit.rules import convolution as convolution
from zojax.implicit.rules import elementwise as elementwise
from zojax.implicit.rules import gather as gather
from zojax.implicit.rules import products as products
from zojax.implicit.rules import ragged as ragged
from zojax.implicit.rules import views as views
