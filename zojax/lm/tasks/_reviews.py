"""Movie-review snippets with human sentiment scores, in a fixed split.

The snippets and the mean score of some fifteen raters, from -4 to 4, ship in the source archive of
vaderSentiment (MIT). Snippets whose score is at least 1 in size are kept; the label is its sign.

Source: Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text", ICWSM 2014.
"""

import io
import tarfile
from typing import NamedTuple

import numpy as np

from zojax.lm.assets import Asset, fetch

ARCHIVE = Asset(
    requirement="vaderSentiment==3.3.2",
    filename="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    options=("--no-binary", "vaderSentiment"),
)
_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


class Reviews(NamedTuple):
    """Labelled texts.

    Attributes:
      texts: a list of strings.
      labels: `(len(texts),)` int32, 1 where the review is positive.
    """

    texts: list[str]
    labels: np.ndarray

    def take(self, indices: np.ndarray) -> "Reviews":
        """The reviews at `indices`."""
        return Reviews([self.texts[i] for i in indices], self.labels[indices])


class Splits(NamedTuple):
    """Three disjoint `Reviews`.

    Attributes:
      held_out: for reporting.
      validation: for choosing settings.
      train: for training.
    """

    held_out: Reviews
    validation: Reviews
    train: Reviews


def reviews(sizes: tuple[int, int] = (512, 512)) -> Splits:
    """A fixed split: `sizes` held-out and validation reviews; the rest is for training.

    Raises:
      AssetError: if the archive cannot be downloaded or is not the expected one.
    """
    with tarfile.open(fetch(ARCHIVE)) as outer:
        inner = io.BytesIO(_member(outer, _INNER))
    with tarfile.open(fileobj=inner) as archive:
        found = parse(_member(archive, _TABLE).decode("utf-8"))
    order = np.random.default_rng(0).permutation(len(found.texts))
    parts = np.split(order, np.cumsum(sizes))
    return Splits(*(found.take(part) for part in parts))


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} of the archive is not a file.")
    return file.read()


def parse(table: str) -> Reviews:
    """Reviews of lines `number, mean score, text` with scores of at least 1; of equal texts the first."""
    scores: dict[str, float] = {}
    for line in table.splitlines():
        _, score, text = line.split("\t", 2)
        if abs(float(score)) >= 1:
            scores.setdefault(text, float(score))
    return Reviews(list(scores), (np.array(list(scores.values())) > 0).astype(np.int32))
