"""The subset example: its loss against LAPACK, its controls, its command line on a small size."""

import itertools

import jax
import numpy as np
import pytest

from zojax.examples import subset


@pytest.fixture(scope="module")
def table():
    return subset.load("breast_cancer", 0)


def test_the_loss_is_the_error_of_least_squares(table):
    masks = np.zeros((12, table.columns.shape[1]), bool)
    rng = np.random.default_rng(0)
    for size, mask in enumerate(masks):
        mask[rng.choice(len(mask), size, replace=False)] = True
    values = jax.vmap(subset.make_loss(table.columns, table.target, 10))(masks)
    expected = [subset.fit(table, mask)[0] for mask in masks[:11]]
    np.testing.assert_allclose(values[:11], expected, atol=2e-4)
    assert np.isinf(values[11])  # 11 columns, above the largest


def test_greedy_nests_and_starts_with_the_best_column(table):
    path = subset.greedy(table, 3)
    assert path.sum(1).tolist() == [1, 2, 3]
    assert np.all(path[:-1] <= path[1:])
    alone = [subset.fit(table, mask)[0] for mask in np.eye(path.shape[1], dtype=bool)]
    assert path[0].argmax() == np.argmin(alone)


def test_poss_finds_the_best_triple(table, tmp_path, capsys):
    out = tmp_path / "curve.png"
    given = ["--data", "breast_cancer", "--sizes", "3", "--runs", "4", "--out", str(out)]
    assert subset.main(given) == 0
    n = table.columns.shape[1]
    triples = [np.isin(np.arange(n), triple) for triple in itertools.combinations(range(n), 3)]
    best = min(subset.fit(table, triple)[0] for triple in triples)
    printed = capsys.readouterr().out
    assert f"{best:.4f}" in printed.split("breast_cancer", 2)[2]
    assert str(out) in printed and out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "given, message",
    [
        (["--sizes", "0"], "--sizes must be positive, got 0."),
        (["--runs", "0"], "--runs must be positive, got 0; try 4."),
        (["--seed", "-1"], "--seed must be from 0 to 2**32 - 1, got -1;"),
        (["--seed", "4294967296"], "--seed must be from 0 to 2**32 - 1, got 4294967296;"),
        (
            ["--data", "breast_cancer", "--sizes", "16"],
            "--sizes must be at most 15 for breast_cancer",
        ),
    ],
)
def test_wrong_arguments_end_the_program_with_advice(given, message, capsys):
    with pytest.raises(SystemExit) as caught:
        subset.main(given)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        subset.main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--data", "--sizes", "--runs", "--seed", "--out"):
        assert option in printed
