"""Federated learning: clients end with the same bits, of the averaged coefficients alone."""

import jax
import numpy as np
import pytest

import zojax
from zojax.examples import _federated_options, federated

TINY = ["--clients", "4", "--sampled", "2", "--rounds", "4", "--local-steps", "2", "--batch", "8"]
TINY += ["--num-directions", "2"]


def leaves(client):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(client.params)])


@pytest.fixture(scope="module")
def trained():
    """The first clients, and all of them after training: with a seed a step, and with 8 seeds."""
    found = {}
    for pool in ("0", "8", "4"):
        args = _federated_options.make_parser().parse_args([*TINY, "--pool", pool])
        _federated_options.settle(args)
        tx = zojax.mezo(args.learning_rate, args.mu, num_directions=2, key=0)
        clients, pooled, _ = federated.split(args, tx)
        found[pool] = clients, *federated.train(args, tx, clients, lambda params: 0.0)
    return found, pooled


def test_clients_hold_different_classes_and_together_all_examples(trained):
    found, pooled = trained
    clients = found["0"][0]
    assert sum(len(client.labels) for client in clients) == len(pooled.labels) == 1397
    assert max(len(set(client.labels.tolist())) for client in clients) <= 5
    assert set.union(*(set(client.labels.tolist()) for client in clients)) == set(range(10))


@pytest.mark.parametrize("pool", ["0", "8", "4"])
def test_all_clients_end_with_the_same_bits(trained, pool):
    before, after, rows = trained[0][pool]
    assert len({leaves(client).tobytes() for client in after}) == 1
    assert not np.array_equal(leaves(after[0]), leaves(before[0]))
    assert {sent for _, sent, _ in rows} == {2 * 2 * 4}  # steps, directions, bytes


def test_as_many_seeds_as_steps_are_the_same_run(trained):
    a, b = (leaves(trained[0][pool][1][0]) for pool in ("0", "8"))
    np.testing.assert_array_equal(a, b)


def test_a_client_receives_what_it_missed_or_all_sums(trained):
    found, _ = trained
    received = [row[2] for row in found["0"][2]]
    assert received[0] == 0 and received[1:] != [received[1]] * 3
    assert all(count % (2 * 2 * 4 / 2) == 0 for count in received)
    assert [row[2] for row in found["4"][2]] == [4 * 2 * 4] * 4


@pytest.mark.slow  # it trains
def test_federated_learning_comes_near_one_process_with_all_the_data(capsys):
    assert federated.main([]) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("Test accuracy"))
    apart, alone = (float(word) for word in line.split() if word[:2] == "0.")
    assert apart > 0.85 and alone > 0.9


@pytest.mark.parametrize(
    "given, message",
    [
        (["--sampled", "11"], "--sampled must be at most --clients 10, got 11."),
        (["--pool", "12"], "--pool must be a multiple of --local-steps, got 12; try 100."),
        (["--rounds", "0"], "--rounds must be positive, got 0; try 200."),
    ],
)
def test_wrong_arguments_end_the_program_with_advice(given, message, capsys):
    with pytest.raises(SystemExit) as caught:
        federated.main(given)
    assert caught.value.code == 2 and message in capsys.readouterr().err
