"""Training in several processes: equal digests, a killed process, a late joiner."""

import re

import pytest

from zojax import trajectory
from zojax.examples import _distributed_options, distributed

TINY = ["--steps", "40", "--num-directions", "4", "--batch", "16"]


def digest_of(tmp_path, *given):
    log = str(tmp_path / "-".join(given))
    assert distributed.main([*TINY, *given, "--log", log]) == 0
    return trajectory.load(log).end


@pytest.mark.optimized  # as its processes compile
@pytest.mark.slow  # of eleven processes
def test_processes_agree_however_many_they_are_and_although_one_is_killed(tmp_path, capfd):
    split = ("--split", "directions")
    digests = {digest_of(tmp_path, *split, "--processes", n, "--no-kill") for n in "124"}
    assert len(digests) == 1 and None not in digests
    whole = digest_of(tmp_path, "--processes", "2", "--no-kill")
    assert "was killed" not in capfd.readouterr().out
    assert digest_of(tmp_path, "--processes", "2") == whole not in digests
    assert "Process 1 was killed and started again." in capfd.readouterr().out


@pytest.mark.slow  # two processes train SmolLM2
def test_a_language_model_trains_in_two_processes_one_of_which_is_killed(tmp_path, capfd):
    log = str(tmp_path / "log")
    given = ["--data", "reviews", "--steps", "40", "--timeout", "3000", "--log", log]
    assert distributed.main(given) == 0
    printed = capfd.readouterr().out
    assert "Process 1 was killed and started again." in printed
    resumed = int(re.search(r"^1 +(\d+)", printed, re.MULTILINE)[1])
    assert 20 <= resumed <= 40 and trajectory.load(log).end in printed


@pytest.mark.optimized
@pytest.mark.slow  # it takes times
def test_a_late_joiner_takes_less_than_half_the_time_of_the_run(capfd):
    assert distributed.main(["--steps", "1000", "--processes", "2", "--no-kill"]) == 0
    printed = capfd.readouterr().out
    size, share = re.search(
        r"the log of (\S+) KiB to the same bits .*, (\d+)% of", printed
    ).groups()
    assert 60 < float(size) < 90 and int(share) < 50
    assert float(re.search(r"held-out accuracy (\S+)\.\n", printed)[1]) > 0.9


@pytest.mark.parametrize(
    "given, message",
    [
        (["--processes", "0"], "--processes must be positive, got 0; try 2."),
        (["--timeout", "0"], "--timeout must be positive, got 0.0; try 300.0."),
        (
            ["--split", "directions", "--processes", "3"],
            "must be a multiple of --processes 3, got 16",
        ),
        (["--coordinator", "host:1"], "--coordinator needs --log"),
    ],
)
def test_wrong_arguments_end_the_program_with_advice(given, message, capsys):
    with pytest.raises(SystemExit) as caught:
        distributed.main(given)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_defaults_are_those_of_fine_tuning():
    args = _distributed_options.make_parser().parse_args(["--data", "reviews"])
    _distributed_options.settle(args)
    assert (args.steps, args.num_directions) == (500, 1)
