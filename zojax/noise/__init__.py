"""Random-access noise: a direction is a function of a seed, never a stored array.

A leaf of a direction is a noise object (contract: `Noise`), for example `row_noise(Signs(seed), shape)`.
Its entries come from a source (contract: `Source`), which computes each entry from a seed, a row number and
a column number. Any part can therefore be made alone, bit for bit as in the whole: a lookup of two rows of
an embedding makes two rows of noise.

From the bottom: bits (`_bits`, `_seeds`), sources (`_sources`), objects (`_objects`).
"""

from zojax.noise._bits import counters as counters
from zojax.noise._bits import mix as mix
from zojax.noise._bits import random_sign as random_sign
from zojax.noise._bits import row_keys as row_keys
from zojax.noise._bits import scramble as scramble
from zojax.noise._bits import standard_normal as standard_normal
from zojax.noise._bits import threefry as threefry
from zojax.noise._factored import Access as Access
from zojax.noise._factored import Factored as Factored
from zojax.noise._factored import Outer as Outer
from zojax.noise._lattice import LatticeNoise as LatticeNoise
from zojax.noise._lattice import Moves as Moves
from zojax.noise._lattice import bytes_of as bytes_of
from zojax.noise._lattice import digits_of as digits_of
from zojax.noise._lattice import entries_of as entries_of
from zojax.noise._lattice import lattice_noise as lattice_noise
from zojax.noise._lattice import moved as moved
from zojax.noise._noise import Noise as Noise
from zojax.noise._noise import StructuredNoise as StructuredNoise
from zojax.noise._objects import LateNoise as LateNoise
from zojax.noise._objects import LowRankNoise as LowRankNoise
from zojax.noise._objects import MaskedNoise as MaskedNoise
from zojax.noise._objects import MixedNoise as MixedNoise
from zojax.noise._objects import RowNoise as RowNoise
from zojax.noise._objects import ScaledNoise as ScaledNoise
from zojax.noise._objects import StoredNoise as StoredNoise
from zojax.noise._objects import factored as factored
from zojax.noise._objects import low_rank_noise as low_rank_noise
from zojax.noise._objects import of_even_length as of_even_length
from zojax.noise._objects import row_noise as row_noise
from zojax.noise._objects import share as share
from zojax.noise._objects import tie as tie
from zojax.noise._ranges import Range as Range
from zojax.noise._ranges import as_array as as_array
from zojax.noise._seeds import ChildSeed as ChildSeed
from zojax.noise._seeds import Seed as Seed
from zojax.noise._seeds import child_seeds as child_seeds
from zojax.noise._seeds import fold_in as fold_in
from zojax.noise._seeds import make_seed as make_seed
from zojax.noise._source import EndlessSource as EndlessSource
from zojax.noise._source import Source as Source
from zojax.noise._sources import LONG as LONG
from zojax.noise._sources import Normals as Normals
from zojax.noise._sources import OneHot as OneHot
from zojax.noise._sources import Signs as Signs
from zojax.noise._sources import Uniforms as Uniforms
from zojax.noise._sources import Words as Words
from zojax.noise._sources import columns_of_rows as columns_of_rows

# Other rooms of zojax use these names; they are not public.
_INTERNAL = """
ChildSeed LONG Range Seed as_array bytes_of columns_of_rows digits_of entries_of factored moved
of_even_length random_sign scramble share tie
""".split()
__all__ = [name for name in dir() if not name.startswith("_") and name not in _INTERNAL]
