"""Random-access noise: a direction is a function of a seed, never a stored array.

A leaf of a direction is a noise object (contract: `Noise`), for example `row_noise(Signs(seed), shape)`.
Its entries come from a source (contract: `Source`), which computes each entry from a seed, a row number and
a column number. Any part can therefore be made alone, bit for bit as in the whole: a lookup of two rows of
an embedding makes two rows of noise.

From the bottom: bits (`_bits`, `_seeds`), sources (`_sources`), objects (`_objects`).
"""

from zojax.noise._bits import counters, mix, row_keys, standard_normal, threefry

# An alias to its own name marks a name that other rooms of zojax import; it is not public.
from zojax.noise._bits import random_sign as random_sign
from zojax.noise._bits import scramble as scramble
from zojax.noise._factored import Access, Factored, Outer
from zojax.noise._lattice import LatticeNoise, Moves, lattice_noise
from zojax.noise._lattice import bytes_of as bytes_of
from zojax.noise._lattice import digits_of as digits_of
from zojax.noise._lattice import entries_of as entries_of
from zojax.noise._lattice import moved as moved
from zojax.noise._noise import Noise, StructuredNoise
from zojax.noise._objects import (
    LateNoise,
    LowRankNoise,
    MaskedNoise,
    MixedNoise,
    RowNoise,
    ScaledNoise,
    StoredNoise,
    low_rank_noise,
    row_noise,
)
from zojax.noise._objects import factored as factored
from zojax.noise._objects import of_even_length as of_even_length
from zojax.noise._objects import share as share
from zojax.noise._objects import tie as tie
from zojax.noise._ranges import Range as Range
from zojax.noise._ranges import as_array as as_array
from zojax.noise._seeds import ChildSeed as ChildSeed
from zojax.noise._seeds import Seed as Seed
from zojax.noise._seeds import child_seeds, fold_in, make_seed
from zojax.noise._source import EndlessSource, Source
from zojax.noise._sources import LONG as LONG
from zojax.noise._sources import Normals, OneHot, Signs, Uniforms, Words
from zojax.noise._sources import columns_of_rows as columns_of_rows

__all__ = [
    "Access",
    "EndlessSource",
    "Factored",
    "LatticeNoise",
    "LateNoise",
    "LowRankNoise",
    "MaskedNoise",
    "MixedNoise",
    "Moves",
    "Noise",
    "Normals",
    "OneHot",
    "Outer",
    "RowNoise",
    "ScaledNoise",
    "Signs",
    "Source",
    "StoredNoise",
    "StructuredNoise",
    "Uniforms",
    "Words",
    "child_seeds",
    "counters",
    "fold_in",
    "lattice_noise",
    "low_rank_noise",
    "make_seed",
    "mix",
    "row_keys",
    "row_noise",
    "standard_normal",
    "threefry",
]
