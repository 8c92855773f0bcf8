"""Docstrings say of the race what its stored results say."""

import re

import numpy as np
import pytest

from benchmarks import store
from zojax import optimizers

ROWS = store.load(store.RESULTS / "cpu", "methods")
TESTS = {(row["loss"], row["method"]): row["test"] for row in ROWS}
WORKS = [*dict.fromkeys(row["loss"] for row in ROWS)]
NUMBERS = ["none", "one", "two", "three", "four", "five"]
# The method of the race that a docstring is about, if it has another name.
NAMED = {"zo_sgd": "zo_sgd, momentum"}
# Not in the race, or several methods of it.
OTHERS = {"qes", "qzo", "stochastic_rounding", "compensated_rounding", "mezo", "eggroll"}


def beside_mezo(method: str) -> list[int]:
    """On how many works a method is ahead of `mezo`, and behind: by more than both deviations."""
    ahead = behind = 0
    for work in WORKS:
        mine, base = (np.array(TESTS[work, name]) for name in (method, "mezo"))
        gap, sd = mine.mean() - base.mean(), mine.std(ddof=1) + base.std(ddof=1)
        ahead, behind = ahead + (gap < -sd), behind + (gap > sd)
    return [int(ahead), int(behind)]


def said(sentence: str) -> list[int]:
    """The same from a sentence of a docstring; a word that is not there counts as none."""
    number = f"(?:of )?(?:`mezo` )?on (?:all )?({'|'.join(NUMBERS)})"
    found = [re.search(f"{word} {number}", sentence) for word in ("ahead", "behind")]
    return [NUMBERS.index(match[1]) if match else 0 for match in found]


@pytest.mark.parametrize("name", sorted(set(optimizers.__all__) - OTHERS))
def test_a_docstring_tells_how_the_race_went(name):
    text = " ".join(getattr(optimizers, name).__doc__.split())
    sentence = re.search(r"In `python -m benchmarks methods`(.*?)\. [A-Z]", text)[1]
    found = beside_mezo(NAMED.get(name, name))
    assert said(sentence) == found
    assert ("ties with `mezo`" in sentence) == (found == [0, 0])
