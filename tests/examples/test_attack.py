"""The command line on scikit-learn's digits: attacks succeed, and the report and the picture say so."""

import shlex
import warnings

import jax
import numpy as np
import pytest

from zojax.examples import _attack_report, _cnn, _images, attack


def test_attacks_succeed_and_the_report_says_so(tmp_path, capsys):
    out = tmp_path / "attack.png"
    given = ["--data", "digits", "--epochs", "8", "--images", "16", "--budget", "300"]
    assert attack.main([*given, "--attacks", "square-linf", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("square-linf"))
    assert float(row.split()[2].rstrip("%")) >= 80
    assert "16 images" in printed and str(out) in printed
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_network_learns_and_no_image_is_in_both_parts():
    images = _images.digits()
    params = _images.train(images, epochs=8)
    logits = np.asarray(_cnn.forward(params, images.test_x))
    assert _images.accuracy(logits, images.test_y) > 0.85
    assert images.train_x.shape[0] + images.test_x.shape[0] == 1797
    train = {image.tobytes() for image in images.train_x}
    assert not any(image.tobytes() in train for image in images.test_x)


def test_every_attack_of_the_table_is_public():
    for call, rounds, norm, _ in attack.ATTACKS.values():
        assert {call.__name__, rounds.__name__} <= set(attack.attacks.__all__)
        assert norm in ("linf", "l2")


def test_an_attack_without_success_has_a_row_and_no_strip(tmp_path):
    x, y = np.full((3, 8, 8), 0.5, np.float32), np.zeros(3, np.int32)

    def certain(images):
        return jax.nn.one_hot(np.zeros(images.shape[0], int), 10)

    given = ["--data", "digits", "--budget", "20", "--attacks", "square-linf"]
    args = attack.settle(attack.make_parser().parse_args(given))
    failed = attack.run("square-linf", args, certain, x, y)
    assert not np.any(failed.result.success)
    assert "0.0%" in _attack_report.describe([failed])
    assert (
        "square-linf: 3 of 3 images were not attacked: their loss never"
        in _attack_report.describe([failed])
    )
    assert _attack_report.draw(tmp_path / "none.png", [failed], certain, x, y, 20, False).exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _attack_report.draw(tmp_path / "one.png", [failed], certain, x, y, 1, False)


def test_no_name_needs_quotes_on_a_command_line():
    assert all(shlex.quote(name) == name for name in attack.ATTACKS)
    assert (
        attack.make_parser().parse_args(["--attacks", "nes-linf", "zoo-l2"]).attacks[1] == "zoo-l2"
    )


def test_the_table_says_which_queries_are_counted():
    success, queries = np.array([True, True, True, False]), np.array([10, 20, 60, 110])
    none = np.zeros(4, int)
    result = attack.attacks.Result(none, success, queries, np.full(4, 0.5), none, none)
    found = _attack_report.describe(
        [_attack_report.Attacked("square-l2", "l2", 1.0, result, 2.0, 1.0)]
    )
    above, head, row = found.splitlines()
    assert row.split()[3:7] == ["30", "20", "50", "0.50"]
    for title, word in (
        ("queries of solved", "mean"),
        ("queries of solved", "median"),
        ("queries", "of all"),
        ("norm of", "solved"),
    ):
        start, above_start = head.rindex(word), above.rindex(title)  # one stands above the other
        assert start < above_start + len(title) and above_start < start + len(word)


def test_a_budget_of_one_is_enough_for_all():
    attack.settle(attack.make_parser().parse_args(["--budget", "1"]))


@pytest.mark.parametrize(
    "given, message",
    [
        (["--images", "0"], "--images must be positive, got 0; try 100."),
        (["--seed", "4294967296"], "--seed must be from 0 to 2**32 - 1, got 4294967296;"),
        (["--linf", "-0.1"], "--linf must be positive, got -0.1; try 0.2."),
        (["--linf", "nan"], "--linf must be finite, got nan; try 0.2."),
        (["--l2", "inf"], "--l2 must be finite, got inf; try 2.0."),
        (["--budget", "50"], "--budget 50 is less than the 101 queries that nes-linf needs"),
        (["--budget", "20", "--attacks", "zoo-l2"], "the 33 queries that zoo-l2 needs"),
    ],
)
def test_wrong_arguments_end_the_program_with_advice(given, message, capsys):
    with pytest.raises(SystemExit) as caught:
        attack.main(["--data", "digits", *given])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_mnist_is_the_published_subset():
    images = _images.mnist()
    assert images.train_x.shape == (4000, 28, 28) and images.test_x.shape == (1000, 28, 28)
    counts = np.bincount(np.concatenate([images.train_y, images.test_y]))
    assert counts.tolist() == [500] * 10
