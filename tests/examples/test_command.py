"""What the examples share: a remedy before the run for what is missing, and a place for the picture."""

import sys

import pytest

from zojax.examples import (
    _plots,
    attack,
    distributed,
    export,
    federated,
    finetune,
    policy,
    subset,
    tuning,
)

NEEDED = [
    (attack, "attacks", "matplotlib", ["--data", "digits"]),
    (attack, "attacks", "tqdm", ["--data", "digits"]),
    (distributed, "finetune", "sklearn", []),
    (export, "finetune", "safetensors", ["nowhere"]),
    (federated, "finetune", "sklearn", []),
    (finetune, "finetune", "matplotlib", ["--data", "digits"]),
    (finetune, "finetune", "tqdm", ["--data", "digits"]),
    (policy, "policies", "matplotlib", []),
    (policy, "policies", "tqdm", []),
    (policy, "policies", "gymnax", []),
    (subset, "tuning", "matplotlib", []),
    (subset, "tuning", "sklearn", []),
    (subset, "tuning", "tqdm", []),
    (tuning, "tuning", "matplotlib", []),
    (tuning, "tuning", "sklearn", []),
    (tuning, "tuning", "tqdm", []),
]


@pytest.mark.parametrize("example, extra, module, given", NEEDED)
def test_a_missing_module_ends_the_program_before_the_run(
    example, extra, module, given, monkeypatch, capsys
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
    assert f'is missing; install the extra: python -m pip install ".[{extra}]"' in printed.err


def test_a_picture_goes_into_folders_that_are_made(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    monkeypatch.setenv("HOME", str(tmp_path))
    path = _plots.save_figure(Figure(), "~/new/folder/picture.png", dpi=20)
    assert path == tmp_path / "new" / "folder" / "picture.png"
    assert path.read_bytes().startswith(b"\x89PNG")
