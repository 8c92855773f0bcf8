"""A log's note against that of the run that continues it."""

import jax.numpy as jnp
import pytest

import zojax
from zojax import trajectory

TX, PARAMS = zojax.mezo(0.1, key=3), jnp.ones(3)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Writes a log of one step with a note."""
    _, state = TX.update(None, TX.init(PARAMS), PARAMS, values=jnp.array([1.0, 2.0]))
    folder = tmp_path_factory.mktemp("logs")

    def write(note):
        path = folder / repr(note)
        if not path.exists():
            with trajectory.Recorder(path, TX, PARAMS, note=note) as recorder:
                recorder.append(state)
        return path

    return write


def test_an_equal_note_and_a_shorter_one_pass(recorded):
    note = {"data": "a", "seed": 0, "mu": None}
    trajectory.require_note(recorded(note), note)
    trajectory.require_note(recorded({"data": "a", "seed": 0}), note)
    assert trajectory.note_of(recorded(note)) == (note, 1)


@pytest.mark.parametrize("name, value", [("data", "b"), ("seed", 1), ("seed", None)])
def test_another_value_is_refused_with_both(recorded, name, value):
    note = {"data": "a", "seed": 0}
    message = f"its --{name} is {note[name]!r}, not {value!r}"
    with pytest.raises(ValueError, match=message):
        trajectory.require_note(recorded(note), note | {name: value}, lambda n: f"--{n}")


@pytest.mark.parametrize("note", [None, 5, ["data"], {"seed": 0}, {}])
def test_the_note_of_another_program_is_refused(recorded, note):
    with pytest.raises(ValueError, match="not recorded by this command"):
        trajectory.require_note(recorded(note), {"data": "a", "seed": 0})


def test_a_missing_or_a_damaged_log_is_left_to_the_recorder(tmp_path):
    trajectory.require_note(tmp_path / "none", {"data": "a"})
    (tmp_path / "junk").write_bytes(b"junk" * 9)
    trajectory.require_note(tmp_path / "junk", {"data": "a"})
    assert trajectory.note_of(tmp_path / "junk") == (None, 0)
