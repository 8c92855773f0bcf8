"""Scores of written answers as SQuAD counts them: F1 of words and exact match, after normalization."""

import re
import string
from collections import Counter
from collections.abc import Sequence

_DROPPED = re.compile(rf"[{re.escape(string.punctuation)}]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalized(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles.

    >>> normalized("The  Eiffel Tower.")
    ['eiffel', 'tower']
    """
    return _ARTICLES.sub(" ", _DROPPED.sub("", text.lower())).split()


def answer_score(written: str, right: Sequence[str]) -> tuple[float, float]:
    """F1 and exact match, each with the best of the right answers.

    See Rajpurkar et al., "SQuAD", https://arxiv.org/abs/1606.05250.

    >>> answer_score("Eiffel tower in Paris", ["the Eiffel Tower", "Paris"])
    (0.6666666666666666, 0.0)
    """
    words = normalized(written)
    scores = [(_f1(words, other), float(words == other)) for other in map(normalized, right)]
    f1, exact = map(max, zip(*scores, strict=True))
    return f1, exact


def _f1(words: list[str], other: list[str]) -> float:
    if not words or not other:
        return float(words == other)
    shared = sum((Counter(words) & Counter(other)).values())
    return 2 * shared / (len(words) + len(other))
