"""Templates: the prompts and answers of public datasets, from the columns of their files."""

import csv
import json

import pytest

from zojax import lm
from zojax.lm import templates
from zojax.lm.tasks._examples import read_examples, with_demonstrations

NLI = {"premise": "A dog runs.", "hypothesis": "An animal moves."}
SUPPOSE = 'Suppose A dog runs. Can we infer that "An animal moves."? Yes, No, or Maybe?\n'  # and the answer
# A row as the Hugging Face Hub has it, its prompt, its completions and the right one.
CASES = {
    "sst2": ({"sentence": "a fine film ", "label": 1}, "a fine film It was", " great"),
    "sst5": ({"text": "so so", "label": 2}, "so so It was", " okay"),
    "trec": ({"text": "Who?", "coarse_label": 3}, "Question: Who?\nType:", " Human"),
    "snli": (NLI | {"label": 0}, SUPPOSE, "Yes"),
    "mnli": (NLI | {"label": 2}, SUPPOSE, "No"),
    "rte": (
        {"sentence1": "A dog runs.", "sentence2": "It moves.", "label": 1},
        'A dog runs.\nDoes this mean that "It moves." is true? Yes or No?\n',
        "No",
    ),
    "cb": (NLI | {"label": 2}, SUPPOSE, "Maybe"),
    "boolq": (
        {"passage": "Ice is cold.", "question": "is ice cold", "answer": True},
        "Ice is cold. Is ice cold?\n",
        "Yes",
    ),
    "wic": (
        {"word": "bank", "sentence1": "A bank.", "sentence2": "The bank.", "label": False},
        'Does the word "bank" have the same meaning in these two sentences? Yes, No?\n'
        "A bank.\nThe bank.\n",
        "No",
    ),
    "wsc": (
        {
            "text": "Her cat saw Ann.",
            "target": {"span1_text": "Ann", "span2_text": "Her"},
            "label": 0,
        },
        'Her cat saw Ann.\nIn the previous sentence, does the pronoun "her" refer to Ann? Yes or No?\n',
        "No",
    ),
    "multirc": (
        {"paragraph": "Ann ran.", "question": "Who ran?", "answer": "Ann", "label": 1},
        'Ann ran.\nQuestion: Who ran?\nI found this answer "Ann". Is that correct? Yes or No?\n',
        "Yes",
    ),
    "copa": (
        {
            "premise": "I fell.",
            "question": "cause",
            "choice1": "It rained.",
            "choice2": "I slipped.",
            "label": 1,
        },
        "I fell because",
        " I slipped.",
    ),
    "record": (
        {
            "passage": "Ann met Bob.\n@highlight\nThey ran.",
            "query": "@placeholder won.",
            "entities": ["Ann", "Bob"],
            "answers": ["Bob"],
        },
        "Ann met Bob.\n- They ran.\n-",
        " Bob won.",
    ),
    "squad": (
        {
            "title": "Ann",
            "context": "Ann ran.",
            "question": "Who ran?",
            "answers": {"text": ["Ann", "Ann", "she"], "answer_start": [0, 0, 4]},
        },
        "Title: Ann\nContext: Ann ran.\nQuestion: Who ran?\nAnswer:",
        " Ann",
    ),
    "drop": (
        {"passage": "3 dogs.", "question": "How many?", "answers_spans": {"spans": ["3"]}},
        "Passage: 3 dogs.\nQuestion: How many?\nAnswer:",
        " 3",
    ),
}


def written(folder, rows, name="task.jsonl"):
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("name", templates.TEMPLATES)
def test_a_row_has_its_prompt_and_its_right_completion(name, tmp_path):
    row, prompt, target = CASES[name]
    example = read_examples(written(tmp_path, [row] * 10), name, templates.TEMPLATES[name])[0]
    assert (example.prompt, example.target) == (prompt, target)
    own = set(row) | {x for alias, others in templates.ALIASES.items() for x in (alias, *others)}
    assert set(templates.TEMPLATES[name].columns) - own <= {"span1_text", "span2_text"}


@pytest.mark.parametrize(
    "name, prompt",
    [
        ("sst2", "a fine film It was <mask>."),
        ("trec", "<mask>: Who?"),
        ("mnli", "A dog runs? <mask>, an animal moves."),
        ("boolq", "Ice is cold. Is ice cold? <mask>."),
    ],
)
def test_encoders_have_a_mask_in_the_prompt(name, prompt, tmp_path):
    path = written(tmp_path, [CASES[name][0]] * 10)
    example = read_examples(path, name, templates.TEMPLATES[name], mask="<mask>")[0]
    assert example.prompt == prompt and example.target.startswith(" ")


def test_solved_rows_stand_before_a_prompt(tmp_path):
    path = written(tmp_path, [CASES["squad"][0]] * 10)
    one, other, *_ = read_examples(path, "squad", templates.TEMPLATES["squad"])
    found = with_demonstrations([one], [other])[0].prompt
    assert found == f"{other.prompt} Ann\n\n{one.prompt}"


def test_several_answers_and_entities_are_right():
    choices = templates.TEMPLATES["squad"].choices
    assert choices(CASES["squad"][0]) == (("Ann", "she"), (0, 1))
    assert choices({"answers": "Ann"}) == (("Ann",), (0,))  # as in a CSV file
    row = CASES["record"][0] | {"answers": ["Ann", "Bob"]}
    assert templates.TEMPLATES["record"].choices(row) == (("Ann won.", "Bob won."), (0, 1))


@pytest.mark.parametrize(
    "label", [0, "0", "entailment", "Entailment", "-1", -1, "-", "neutral", 1, "1"]
)
def test_labels_are_names_or_numbers_and_unlabelled_rows_are_left_out(label, tmp_path):
    rows = [NLI | {"gold_label": label}] + [NLI | {"gold_label": 2}] * 10
    found = read_examples(written(tmp_path, rows), "snli", templates.TEMPLATES["snli"])
    if label in ("-1", -1, "-"):
        assert len(found) == 10
    else:
        assert found[0].target == ("Yes" if str(label).lower() in ("0", "entailment") else "Maybe")


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("sst2", {"sentence": None}, r"line 2 of .* no column 'sentence'; sst2 needs sentence, la"),
        ("sst2", {"label": 7}, r"line 2 of .* unknown label 7; known are 0, 1, negative, positive"),
        ("sst2", {"sentence": ["a"]}, r"line 2 of .* neither a string nor a number: \['a'\]"),
        ("copa", {"question": "why"}, r"question must be cause or effect, got 'why'"),
        ("copa", {"label": "2"}, "unknown label '2'"),
        ("record", {"entities": "Ann"}, "entities must be a list, got 'Ann'"),
        ("squad", {"answers": {"texts": []}}, "answers must have 'text'"),
        ("rte", {"sentence1": 3, "premise": 3}, "does not fit rte"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_with_its_place(name, change, message, tmp_path):
    row, template = CASES[name][0], templates.TEMPLATES[name]
    path = written(tmp_path, [row, row | change, *[row] * 10])
    with pytest.raises(ValueError, match=message):
        read_examples(path, name, template, mask="<mask>" if name == "rte" else None)


def test_a_file_without_labelled_rows_is_refused(tmp_path):
    template = templates.TEMPLATES["sst2"]
    with pytest.raises(ValueError, match="task.jsonl is empty"):
        read_examples(written(tmp_path, []), "sst2", template)
    rows = [{"sentence": "a", "label": -1}] * 20
    with pytest.raises(ValueError, match="needs 10 labelled rows at least, got 0"):
        read_examples(written(tmp_path, rows), "sst2", template)


def test_every_format_has_the_same_rows(tmp_path):
    rows = [{"sentence": f'a "fine"\nfilm, {i}\u2028', "label": str(i % 2)} for i in range(3)]
    paths = [written(tmp_path, rows)]
    for ending, delimiter in ((".csv", ","), (".tsv", "\t")):
        paths.append(tmp_path / f"task{ending}")
        with open(paths[-1], "w", newline="") as file:
            writer = csv.DictWriter(file, ["sentence", "label"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    for path in paths:
        assert [row for _, row in lm.read_table(path)] == rows
    paths[1].write_text("sentence,label\na,b,1\n")
    with pytest.raises(ValueError, match="line 2 of .* must have 2 cells"):
        lm.read_table(paths[1])


def test_parquet_has_the_same_rows(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [CASES["record"][0]] * 3
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "task.parquet")
    assert [row for _, row in lm.read_table(tmp_path / "task.parquet")] == rows
    (tmp_path / "task.parquet").write_text("no")
    with pytest.raises(ValueError, match="is not a Parquet file"):
        lm.read_table(tmp_path / "task.parquet")
