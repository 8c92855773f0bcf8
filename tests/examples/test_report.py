"""What the examples share: a remedy before the run for what is missing, and a place for the picture."""

import sys

import pytest

from zojax.examples import _report, attack, export, finetune, policy, subset, tuning

NEEDED = [
    (attack, "matplotlib", ["--data", "digits"]),
    (attack, "tqdm", ["--data", "digits"]),
    (export, "safetensors", ["nowhere"]),
    (finetune, "matplotlib", ["--data", "digits"]),
    (finetune, "tqdm", ["--data", "digits"]),
    (policy, "matplotlib", []),
    (policy, "tqdm", []),
    (policy, "gymnax", []),
    (subset, "matplotlib", []),
    (subset, "sklearn", []),
    (subset, "tqdm", []),
    (tuning, "matplotlib", []),
    (tuning, "sklearn", []),
    (tuning, "tqdm", []),
]


@pytest.mark.parametrize("example, module, given", NEEDED)
def test_a_missing_module_ends_the_program_before_the_run(
    example, module, given, monkeypatch, capsys
):
    for loaded in list(sys.modules):  # None in place of a module makes its import fail
        if loaded == module or loaded.startswith(f"{module}."):
            monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as caught:
        example.main(given)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert module in printed.err and printed.out == ""
    assert 'is missing; install the extra: python -m pip install ".[examples]"' in printed.err


def test_a_picture_goes_into_folders_that_are_made(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    monkeypatch.setenv("HOME", str(tmp_path))
    path = _report.save_figure(Figure(), "~/new/folder/picture.png", dpi=20)
    assert path == tmp_path / "new" / "folder" / "picture.png"
    assert path.read_bytes().startswith(b"\x89PNG")
