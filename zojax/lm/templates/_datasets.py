"""The templates of public datasets, one a line, with the labels in the order of their numbers."""

from zojax.lm._files import shown
from zojax.lm.templates._template import (
    Choices,
    Row,
    Template,
    answers,
    candidates,
    right_of,
    words,
)


def _lower_first(text: str) -> str:
    text = text.strip()
    return text if text.startswith(("I ", "I'")) else text[:1].lower() + text[1:]


def _halves(row: Row) -> Row:
    """Premise and hypothesis as halves of one sentence."""
    start, end = row["premise"].rstrip(" .?!"), _lower_first(row["hypothesis"])
    return row | {"start": start, "end": end}


def _asked(row: Row) -> Row:
    question = row["question"].strip().rstrip("?")
    return row | {"question": question[:1].upper() + question[1:]}


def _spans(row: Row) -> Row:
    """The pronoun in small letters. SuperGLUE's own files nest the spans in a target."""
    row = row | row["target"] if isinstance(row.get("target"), dict) else row
    return row | {"span2_text": row["span2_text"].lower()}


def _because(row: Row) -> Row:
    known = {"cause": "because", "effect": "so"}
    if row["question"] not in known:
        raise ValueError(f"question must be cause or effect, got {shown(row['question'])}")
    conjunction = known[row["question"]]
    return row | {"premise": row["premise"].strip().rstrip("."), "conjunction": conjunction}


def _alternatives(row: Row) -> Choices:
    names = ["choice1", "choice2"]
    return tuple(_lower_first(row[name]) for name in names), right_of(row, names)


def _highlights(row: Row) -> Row:
    return row | {"passage": row["passage"].replace("@highlight\n", "- ")}


def _entities(row: Row) -> Choices:
    names, right = list(dict.fromkeys(_list(row, "entities"))), _list(row, "answers")
    filled = tuple(row["query"].replace("@placeholder", name) for name in names)
    return filled, tuple(i for i, name in enumerate(names) if name in right)


def _list(row: Row, name: str) -> list[str]:
    if not isinstance(row[name], list):
        raise TypeError(f"{name} must be a list, got {shown(row[name])}")
    return row[name]


_SIGNS = {"negative": "terrible", "positive": "great"}
_STARS = {"very negative": "terrible", "negative": "bad", "neutral": "okay"}
_STARS |= {"positive": "good", "very positive": "great"}
_TOPICS = {"ABBR": "Expression", "ENTY": "Entity", "DESC": "Description", "HUM": "Human"}
_TOPICS |= {"LOC": "Location", "NUM": "Number"}
_INFERENCE = {"entailment": "Yes", "neutral": "Maybe", "contradiction": "No"}
_CB = {"entailment": "Yes", "contradiction": "No", "neutral": "Maybe"}
_RTE = {"entailment": "Yes", "not_entailment": "No"}
_BOOLEAN = {"false": "No", "true": "Yes"}
_WAS, _HALF = "{sentence} It was {mask}.", "{start}? {mask}, {end}"
_SUPPOSE = 'Suppose {premise} Can we infer that "{hypothesis}"? Yes, No, or Maybe?\n'
_MEANS = '{premise}\nDoes this mean that "{hypothesis}" is true? Yes or No?\n'
_SENSE = 'Does the word "{word}" have the same meaning in these two sentences? Yes, No?\n'
_SENSE += "{sentence1}\n{sentence2}\n"
_REFERS = (
    '{text}\nIn the previous sentence, does the pronoun "{span2_text}" refer to {span1_text}? '
)
_REFERS += "Yes or No?\n"
_CORRECT = '{paragraph}\nQuestion: {question}\nI found this answer "{answer}". Is that correct? '
_CORRECT += "Yes or No?\n"
_SQUAD = "Title: {title}\nContext: {context}\nQuestion: {question}\nAnswer:"
_DROP = "Passage: {passage}\nQuestion: {question}\nAnswer:"

_COPA = ("premise", "question", "choice1", "choice2", "label")
_RECORD = ("passage", "query", "entities", "answers")

TEMPLATES: dict[str, Template] = {
    "sst2": words("{sentence} It was", _SIGNS, _WAS),
    "sst5": words("{sentence} It was", _STARS, _WAS),
    "trec": words("Question: {text}\nType:", _TOPICS, "{mask}: {text}"),
    "snli": words(_SUPPOSE, _INFERENCE, _HALF, prepare=_halves),
    "mnli": words(_SUPPOSE, _INFERENCE, _HALF, prepare=_halves),
    "rte": words(_MEANS, _RTE, _HALF, prepare=_halves),
    "cb": words(_SUPPOSE, _CB, _HALF, prepare=_halves),
    "boolq": words("{passage} {question}?\n", _BOOLEAN, prepare=_asked),
    "wic": words(_SENSE, _BOOLEAN),
    "wsc": words(_REFERS, _BOOLEAN, prepare=_spans),
    "multirc": words(_CORRECT, _BOOLEAN),
    "copa": candidates("{premise} {conjunction}", _alternatives, _COPA, _because),
    "record": candidates("{passage}\n-", _entities, _RECORD, _highlights),
    "squad": answers(_SQUAD),
    "drop": answers(_DROP, "answers_spans", "spans"),
}
