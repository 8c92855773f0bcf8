"""A run of Weights & Biases without a network."""

import time

import pytest

from zojax import logging

wandb = pytest.importorskip("wandb")


@pytest.mark.slow  # starts its service
def test_an_offline_run_has_the_scalars(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    with logging.wandb(project="p", mode="offline", dir=tmp_path) as log:
        log.write(1, {"own_loss": 0.5})
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    for _ in range(100):  # its service writes the file
        if b"own_loss" in path.read_bytes():
            break
        time.sleep(0.1)
    assert b"own_loss" in path.read_bytes()
