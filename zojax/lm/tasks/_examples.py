"""Examples: prompts with completions, from the rows of a file and a template."""

from typing import NamedTuple

import numpy as np

from zojax.lm._files import FilePath
from zojax.lm.tasks._jsonl import FEWEST, as_text
from zojax.lm.tasks._table import read_table
from zojax.lm.templates._template import Row, Template, fields, resolved

BETWEEN = "\n\n"  # demonstrations, as in MeZO


class Example(NamedTuple):
    """A prompt and its completions.

    Attributes:
      prompt: the text before.
      completions: all words or candidates, or the right answers.
      right: indices of the right ones, one at least.
    """

    prompt: str
    completions: tuple[str, ...]
    right: tuple[int, ...]

    @property
    def target(self) -> str:
        """The first right completion."""
        return self.completions[self.right[0]]


def read_examples(
    path: FilePath, name: str, template: Template, mask: str | None = None
) -> list[Example]:
    """The examples of a file; rows without a label are left out.

    Args:
      path: of the file, see `read_table`.
      name: of the template, for errors.
      template: the prompt and its completions.
      mask: the text of the mask; None for decoders.

    Raises:
      ValueError: for a column that is missing or of another type, an unknown label, and fewer than 10
        labelled rows.
    """
    found = []
    for place, row in read_table(path):
        try:
            example = _example(resolved(row), template, mask)
        except KeyError as error:
            have = ", ".join(name for name, value in row.items() if value is not None)
            raise ValueError(
                f"{place} of {path} has no column {error}; {name} needs {', '.join(template.columns)}, "
                f"and the row has {have}. Rename the columns."
            ) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{place} of {path} does not fit {name}: {error}.") from error
        if example.right:
            found.append(example)
    if len(found) < FEWEST:
        raise ValueError(f"{path} needs {FEWEST} labelled rows at least, got {len(found)}.")
    return found


def _example(row: Row, template: Template, mask: str | None) -> Example:
    row = template.prepare(row)
    completions, right = template.choices(row)
    prompt = template.prompt if mask is None else template.mask
    given = {n: mask if n == "mask" else as_text(row[n]).strip() for n in fields(prompt)}
    glue = "" if prompt.endswith("\n") and mask is None else " "
    return Example(prompt.format_map(given), tuple(glue + c for c in completions), right)


def with_demonstrations(examples: list[Example], chosen: list[Example]) -> list[Example]:
    """The examples after solved ones: in-context learning without training."""
    begin = "".join(example.prompt + example.target + BETWEEN for example in chosen)
    return [example._replace(prompt=begin + example.prompt) for example in examples]


def shots_of(examples: list[Example], rows: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """A sample of rows: `shots` of each label where all have the same completions, else in all.

    Raises ValueError for a label with fewer rows.
    """
    rows = np.random.default_rng(seed).permutation(rows)
    groups: dict[str, list[int]] = {}
    is_shared = len({examples[i].completions for i in rows}) == 1
    for i in rows:
        groups.setdefault(examples[i].target if is_shared else "", []).append(i)
    for target, members in groups.items():
        if len(members) < shots:
            what = f"of the label {target.strip()!r}" if is_shared else "in all"
            most = f"{len(members)}, the training rows {what}"
            raise ValueError(f"shots must be at most {most}, got {shots}.")
    return np.sort(np.concatenate([members[:shots] for members in groups.values()]))
