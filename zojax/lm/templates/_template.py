"""`Template`: a prompt and its completions, from the columns of a row."""

import string
from collections.abc import Callable
from typing import Any, NamedTuple

from zojax.lm._files import shown

Row = dict[str, Any]
Choices = tuple[tuple[str, ...], tuple[int, ...]]

ALIASES = {  # names of the same column in other releases of a dataset
    "sentence": ("text",),
    "premise": ("sentence1",),
    "hypothesis": ("sentence2",),
    "paragraph": ("passage", "context"),
    "label": ("gold_label", "answer", "coarse_label", "label-coarse"),
}
UNLABELLED = ("-1", "-")


class Template(NamedTuple):
    """A prompt and its completions, from the columns of a row.

    Attributes:
      kind: `"words"`, `"candidates"` or `"answers"`, see the functions of these names.
      prompt: a text with names of columns in braces.
      mask: the same for encoders, with `{mask}` for the word; "" if encoders cannot do the task.
      choices: `(row) -> (completions, indices of the right ones)`; without an index the row is left out.
      columns: names of the columns that a row must have.
      prepare: `(row) -> row`, which may add columns.
    """

    kind: str
    prompt: str
    mask: str
    choices: Callable[[Row], Choices]
    columns: tuple[str, ...]
    prepare: Callable[[Row], Row]


def unchanged(row: Row) -> Row:
    return row


def words(
    prompt: str,
    names: dict[str, str],
    mask: str | None = None,
    label: str = "label",
    prepare: Callable[[Row], Row] = unchanged,
) -> Template:
    """Classification: each label has a word, and the word's first token is predicted.

    Args:
      prompt: a text with names of columns in braces.
      names: dict from labels, as the file has them, to words. A file may have their numbers instead.
      mask: the prompt for encoders; by default `prompt` and the mask.
      label: the column of the label.
      prepare: `(row) -> row`, which may add columns.

    >>> template = words("{review} It was", {"bad": "terrible", "good": "great"}, label="stars")
    >>> template.choices({"review": "A fine film.", "stars": "good"})
    (('terrible', 'great'), (1,))
    """

    def choices(row: Row) -> Choices:
        return tuple(names.values()), right_of(row, list(names), label)

    mask = f"{prompt.rstrip()} {{mask}}." if mask is None else mask
    columns = (*fields(prompt), label)
    return Template("words", prompt, mask, choices, columns, prepare)


def candidates(
    prompt: str,
    choices: Callable[[Row], Choices],
    columns: tuple[str, ...],
    prepare: Callable[[Row], Row] = unchanged,
) -> Template:
    """Multiple choice: the candidate whose tokens have the largest mean log-likelihood.

    Args:
      prompt: a text with names of columns in braces.
      choices: `(row) -> (candidates, indices of the right ones)`.
      columns: names of the columns that a row must have.
      prepare: `(row) -> row`, which may add columns.

    >>> def choices(row):
    ...     return (row["one"], row["two"]), (int(row["label"]),)
    >>> candidates("{question}", choices, ("question", "one", "two", "label")).kind
    'candidates'
    """
    return Template("candidates", prompt, "", choices, columns, prepare)


def answers(prompt: str, column: str = "answers", inner: str = "text") -> Template:
    """Generation: the answer is written, and compared with all right answers.

    Args:
      prompt: a text with names of columns in braces.
      column: of a text, a list of texts, or a dict with a list of texts.
      inner: the key of that list.

    >>> row = {"question": "Who?", "answers": {"text": ["Ann", "Ann Lee"]}}
    >>> answers("Question: {question} Answer:").choices(row)
    (('Ann', 'Ann Lee'), (0, 1))
    """

    def choices(row: Row) -> Choices:
        given = row[column]
        if isinstance(given, dict):
            if inner not in given:
                raise ValueError(f"{column} must have {inner!r}, got {shown(given)}")
            given = given[inner]
        given = given if isinstance(given, list) else [given]
        texts = [str(text[inner] if isinstance(text, dict) else text) for text in given]
        texts = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
        return tuple(texts), tuple(range(len(texts)))

    return Template("answers", prompt, "", choices, (*fields(prompt), column), unchanged)


def fields(prompt: str) -> tuple[str, ...]:
    """The names in braces.

    >>> fields("{question} It was {mask}.")
    ('question', 'mask')
    """
    return tuple(name for _, name, *_ in string.Formatter().parse(prompt) if name is not None)


def right_of(row: Row, names: list[str], label: str = "label") -> tuple[int, ...]:
    """The index of a row's label, by its name or number; () without a label."""
    given = str(row[label]).strip().lower()
    if given in UNLABELLED:
        return ()
    known = {str(i): i for i in range(len(names))}
    known |= {name.lower(): i for i, name in enumerate(names)}
    if given not in known:
        raise ValueError(f"unknown {label} {row[label]!r}; known are {', '.join(known)}")
    return (known[given],)


def resolved(row: Row) -> Row:
    """The row without empty columns, and with the first names of `ALIASES`."""
    row = {name: value for name, value in row.items() if value is not None}
    known = [(name, alias) for name, aliases in ALIASES.items() for alias in reversed(aliases)]
    others = {name: row[alias] for name, alias in known if alias in row}
    return others | row
