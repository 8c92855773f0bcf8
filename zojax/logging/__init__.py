"""Callbacks that log a run's scalars: to a CSV file, to TensorBoard, to Weights & Biases.

A callback takes the progress of `zojax.minimize`, `zojax.search.minimize` or `zojax.lm.train`, or any other
object with a method `scalars() -> [(step, {name: number}), ...]`:

    with zojax.logging.csv("run.csv") as log:
        zojax.minimize(fun, x0, tx, callback=log)

`log.write(step, {"loss": 0.5})` logs from a loop of your own. `zojax.with_metrics` adds columns.
"""

from zojax.logging._csv import csv
from zojax.logging._logger import Logger, both
from zojax.logging._tensorboard import tensorboard
from zojax.logging._wandb import wandb

__all__ = ["Logger", "both", "csv", "tensorboard", "wandb"]
