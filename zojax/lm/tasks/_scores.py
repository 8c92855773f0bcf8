"""Scores of a split: likelihood and accuracy, with and without a calibrated bias; F1 of completions.

A model may gain by nothing but a shift of its class bias. Calibration is the control: it fits the
per-class bias on the reported examples themselves. No fair method beats it by a shift alone.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, special


class Score(NamedTuple):
    """The scores of a split.

    Attributes:
      nll: mean negative log-likelihood in nats.
      accuracy: fraction of right choices.
    """

    nll: float
    accuracy: float


def score(logits: np.ndarray, labels: np.ndarray, bias: np.ndarray | float = 0.0) -> Score:
    """Scores logits `(N, C)` plus a per-class bias `(C,)`, against integer labels `(N,)`."""
    log_likelihood = special.log_softmax(logits + bias, axis=1)[np.arange(len(labels)), labels]
    hits = np.argmax(logits + bias, axis=1) == labels
    return Score(float(-log_likelihood.mean()), float(hits.mean()))


def calibrated(logits: np.ndarray, labels: np.ndarray) -> Score:
    """`score` with the per-class bias of least NLL on these same examples."""
    counts = np.bincount(labels, minlength=logits.shape[1]) / len(labels)

    def nll(bias):
        return score(logits, labels, bias).nll

    def slope(bias):
        return special.softmax(logits + bias, axis=1).mean(axis=0) - counts

    best = optimize.minimize(nll, np.zeros(logits.shape[1]), jac=slope, method="BFGS")
    return score(logits, labels, best.x)


def classification_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Rows of a table, with and without the best bias: dict from a row's name to its scores.

    >>> rows = classification_scores(np.array([[0.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))
    >>> list(rows), round(rows[""]["NLL"], 3), rows[""]["accuracy"]
    (['', '  + best bias'], 0.41, 1.0)
    """
    found = {"": score(logits, labels)}
    if len(np.unique(labels)) > 1:  # a bias alone would always be right
        found["  + best bias"] = calibrated(logits, labels)
    return {name: {"NLL": s.nll, "accuracy": s.accuracy} for name, s in found.items()}


def completion_scores(
    judged: np.ndarray, labels: np.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """The row of a table for completions; NLL is per token.

    `judged` `(N, 4)` has the completion's NLL and number of tokens, and F1 and exact match of the written
    text. `labels` are unused.

    >>> completion_scores(np.array([[2.0, 1, 1, 1], [1.0, 2, 0.5, 0]]))
    {'': {'NLL': 1.0, 'F1': 0.75, 'exact': 0.5}}
    """
    del labels
    nll, tokens, f1, exact = map(float, np.mean(judged, axis=0))
    return {"": {"NLL": nll / tokens, "F1": f1, "exact": exact}}


def choice_scores(
    judged: np.ndarray, labels: np.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """The row of a table for multiple choice; NLL is per token of the right candidate.

    `judged` `(N, 3)` has that candidate's NLL and number of tokens, and 1 for a right choice.

    >>> choice_scores(np.array([[2.0, 1, 1], [1.0, 2, 0]]))
    {'': {'NLL': 1.0, 'accuracy': 0.5}}
    """
    del labels
    nll, tokens, right = map(float, np.mean(judged, axis=0))
    return {"": {"NLL": nll / tokens, "accuracy": right}}
